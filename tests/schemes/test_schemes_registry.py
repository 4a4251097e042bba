from __future__ import annotations

import subprocess
import sys

import pytest

from kdstats import schemes
from kdstats.errors import UsageError
from kdstats.schemes.registry import _ALIASES


def test_published_nine_exist():
    assert len(set(schemes.PUBLISHED_NINE)) == 9
    assert set(schemes.PUBLISHED_NINE) <= set(schemes.names())
    assert len(schemes.names()) == len(set(schemes.names()))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cutmix", "cutmix"),
        ("CutMix", "cutmix"),
        (" crop-flip ", "crop_flip"),
        ("crop+flip", "crop_flip"),
        ("AA", "autoaugment"),
        ("cutmix-pick-student", "cutmix_pick_student"),
        ("CutMixPick-T", "cutmix_pick_teacher"),
        ("none", "identity"),
    ],
)
def test_names_and_aliases(written, name):
    assert schemes.record(written).name == name
    assert schemes.get(written).name == name


def test_aliases_lead_to_records_and_shadow_none():
    assert set(_ALIASES.values()) <= set(schemes.names())
    assert not set(_ALIASES) & set(schemes.names())


def test_records_are_complete():
    for name in schemes.names():
        record = schemes.record(name)
        assert record.label
        assert record.reference
        assert record.family
        assert record.picks == "" or record.picks in schemes.names()
    assert len({schemes.record(n).label for n in schemes.names()}) == len(schemes.names())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cutmx", "cutmix"),
        ("mixupp", "mixup"),
        ("autoagument", "autoaugment"),
        ("cutmix_pick_techer", "cutmix_pick_teacher"),
    ],
)
def test_unknown_names_get_the_nearest(name, meant):
    with pytest.raises(UsageError, match=f"'{meant}'.*kdstats schemes list"):
        schemes.get(name)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("cutmix", {"alpha": 0}),
        ("mixup", {"alpha": -1}),
        ("mixup", {"alpha": float("nan")}),
        ("flip", {"p": 1.5}),
        ("crop", {"padding": -1}),
        ("cutout", {"side": 0}),
        ("identity", {"alpha": 1}),
        ("cutmix", {"colour": "red"}),
        ("cutmix_pick_teacher", {"runs": 1}),
        ("cutmix_pick_teacher", {"colour": "red"}),
        ("cutmix", {"draws": "images"}),
    ],
)
def test_senseless_parameters(name, params):
    with pytest.raises(UsageError):
        schemes.get(name, **params)


def test_parameters_reach_the_scheme():
    assert schemes.get("mixup", alpha=0.2).alpha == 0.2
    assert schemes.get("crop", padding=2).padding == 2
    assert schemes.get("cutout", side=3).side == 3
    pick = schemes.get("cutmix_pick_kl", alpha=0.5, runs=3, tau=2.0, draws="sample")
    assert (pick.base.alpha, pick.runs, pick.tau, pick.draws, pick.base.draws) == (
        0.5,
        3,
        2.0,
        "sample",
        "sample",
    )


def test_families_are_imported_when_asked_for():
    code = (
        "import sys, kdstats.schemes as s; assert 'kdstats.schemes.policy' not in sys.modules;"
        "s.get('autoaugment'); assert 'kdstats.schemes.policy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
