"""Names, aliases, presets and parameters: what is written, what is built, what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes.naming.catalogue import ALIASES
from kdstats.schemes.naming.presets import PRESETS

PROMISED = (
    *(
        "identity",
        "flip",
        "crop",
        "crop_flip",
        "cutout",
        "autoaugment",
        "mixup",
        "cutmix",
        "cutmix_pick_student",
    ),
    *("cutmix_pick_teacher", "cutmix_pick_kl", "cutmix_pick_dissimilarity", "same", "patchmix", "masking"),
    *("partial_mixup", "recursive_mix", "randaugment", "trivialaugment", "augmix", "random_erasing"),
)


def test_every_promised_name_is_there():
    assert set(PROMISED) <= set(schemes.names())
    assert len(set(schemes.PUBLISHED_NINE)) == 9
    assert set(schemes.PUBLISHED_NINE) <= set(schemes.names())
    assert len(schemes.names()) == len(set(schemes.names()))
    assert set(schemes.expand(["wang2022"])) == set(schemes.PUBLISHED_NINE)
    assert schemes.expand(["cutmix", "WANG2022", "CutMix"])[0] == "cutmix"
    assert len(schemes.expand(["cutmix", "wang2022"])) == 9


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cutmix", "cutmix"),
        ("CutMix", "cutmix"),
        (" crop-flip ", "crop_flip"),
        ("crop+flip", "crop_flip"),
        ("flip+crop", "crop_flip"),
        ("AA", "autoaugment"),
        ("autoaugment-imagenet", "autoaugment(policy=imagenet)"),
        ("cutmix-pick-student", "cutmix_pick_student"),
        ("CutMixPick-T", "cutmix_pick_teacher"),
        ("none", "identity"),
        ("RM(alpha=0.3)", "recursive_mix(alpha=0.3)"),
        ("pmu@mixkd", "partial_mixup@mixkd"),
        ("cutmix(alpha=1)", "cutmix"),
        ("cutmix(alpha=1.0, partner=derangement)", "cutmix"),
        ("cutmix(alpha=2)", "cutmix(alpha=2)"),
        ("cutmix( partner=roll,alpha=.5 )", "cutmix(alpha=0.5,partner=roll)"),
        ("cutmix@clovaai(p=0.5)", "cutmix@clovaai"),
        ("cutmix(p=1)", "cutmix"),
        ("pick(rm-x)".replace("rm-x", "mixup"), "pick(mixup)"),
        ("pick(AA, criterion=teacher)", "pick(autoaugment)"),
        ("crop-flip+AA", "crop_flip+autoaugment"),
        ("cutout(side=none)", "cutout"),
        ("crop + flip", "crop_flip"),
        ("(crop)+(flip)", "crop_flip"),
        ("flip +crop", "crop_flip"),
        ("pick(cutmix,runs=2.0)", "pick(cutmix)"),
        ("patchmix(patch=8.0)", "patchmix(patch=8)"),
        ("flip(p=-0.0)", "flip(p=0)"),
        ("gaussian_blur(sigma=(0.5,0.5))", "gaussian_blur(sigma=0.5)"),
        ("gaussian_blur(sigma=(0.5, 1))", "gaussian_blur(sigma=(0.5,1))"),
    ],
)
def test_one_spelling_for_one_scheme(written, name):
    assert schemes.record(written).name == name
    draws = "sample" if "mixkd" in written else None
    assert schemes.get(written, draws=draws).name == name
    assert schemes.record(name).name == name


def test_aliases_lead_to_schemes_and_shadow_none():
    for alias, meant in ALIASES.items():
        assert schemes.record(meant).name == meant, alias
    assert not set(ALIASES) & set(schemes.names())


def test_records_are_complete():
    for name in schemes.names():
        record = schemes.record(name)
        assert record.label != name
        assert record.reference
        assert record.family
        assert record.picks == "" or record.picks in schemes.names()
        assert ("interpolated" in record.targets) == record.mixes
    assert len({schemes.record(n).label for n in schemes.names()}) == len(schemes.names())
    assert schemes.record("cutmix@clovaai").label == "CutMix@clovaai"
    assert schemes.record("pick(mixup,criterion=kl)").label == "pick(Mixup, criterion=kl)"
    assert schemes.record("crop_flip+cutout").label == "Crop+Flip + Cutout"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cutmx", "cutmix"),
        ("mixupp", "mixup"),
        ("autoagument", "autoaugment"),
        ("cutmix_pick_techer", "cutmix_pick_teacher"),
        ("crop_flip+cutot", "cutout"),
        ("pick(mixp)", "mixup"),
    ],
)
def test_unknown_names_get_the_nearest(name, meant):
    with pytest.raises(UsageError, match=f"'{meant}'.*kdstats schemes list"):
        schemes.get(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cutmix@wang", "cutmix@wang2022"),
        ("same@timm", "there is same@wang2022; @timm knows cutmix, mixup"),
        ("randaugment@timm", "has no presets"),
        ("cutmix(alfa=1)", "did you mean alpha"),
        ("cutmix_pick_teacher(alpa=1)", "did you mean alpha"),
        ("flip(x=1)", "it has p, quantise"),
        ("crop_flip(crop=false)", "no parameter 'crop'"),
        ("cutmix_pick_teacher(criterion=student)", "no parameter 'criterion'"),
        ("cutmix(flip)", r"pick\(BASE\) does"),
        ("pick", "takes one scheme to pick from"),
        ("pick(a,b)", "'a'"),
        ("pick(flip,cutmix)", "takes one scheme to pick from"),
        ("pick(cutmix,criterion=techer)", "picking criterion.*teacher"),
        ("pick(cutmix,alpha=1)", "no parameter 'alpha'"),
        ("cutmix+flip", r"write flip\+cutmix"),
        ("cutmix+mixup", "cutmix and mixup both mix"),
        ("mixup+flip+cutmix", "both mix"),
        ("wang2022", r"stands for 9 schemes .* NAME@wang2022"),
        ("cutmix(alpha=1,alpha=2)", "cannot read"),
        ("pick(cutmix)+flip", "must come last"),
        ("cutmix(alpha=foo)", "wrong kind of value: .*alpha=foo"),
        ("cutmix(p=2)", "lies in 0…1"),
        ("cutout(side=2.5)", "side takes a whole number"),
        ("augmix(all_ops=no)", "all_ops takes true or false"),
        ("augmix(all_ops=1)", "all_ops takes true or false"),
        ("cutmix(alpha=true)", "alpha takes a number"),
        ("randaugment(magnitude=2.9)", "magnitude takes a whole number"),
        ("randaugment(num_ops=1000)", "1…64"),
        ("gaussian_blur(sigma=1e308)", "out of all proportion"),
        ("cutout(side=1000000000000000000000000)", "out of all proportion"),
        ("gaussian_blur(sigma=(0.5,))", "wrong kind of value"),
        ("cutmix#(alpha=9)", "cannot read"),
        ("mixup(partner='a,b=1')", "cannot read|wrong kind"),
        ("pick(pick(pick(cutmix,runs=5),runs=5),runs=20)", "more than 64"),
        ("pick(cutmix)(p=0.5)", "cannot read"),
        ("+".join(["aa"] * 20), "at most 200"),
    ],
)
def test_what_is_refused_says_why(name, said):
    with pytest.raises(UsageError, match=said):
        schemes.get(name)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("cutmix", {"alpha": 0}),
        ("mixup", {"alpha": -1}),
        ("mixup", {"alpha": float("nan")}),
        ("mixup", {"alpha": float("inf")}),
        ("flip", {"p": 1.5}),
        ("flip", {"p": float("nan")}),
        ("flip", {"quantise": "ceil"}),
        ("crop", {"padding": -1}),
        ("cutout", {"side": 0}),
        ("identity", {"alpha": 1}),
        ("cutmix_pick_teacher", {"runs": 1}),
        ("cutmix_pick_teacher", {"n_pick": 0}),
        ("cutmix_pick_teacher", {"tau": 0}),
        ("cutmix_pick_teacher", {"colour": "red"}),
        ("cutmix", {"draws": "images"}),
        ("flip+cutout", {"p": 0.5}),
    ],
)
def test_senseless_parameters(name, params):
    with pytest.raises(UsageError):
        schemes.get(name, **params)


@pytest.mark.parametrize(
    "name",
    [
        *schemes.names(),
        *(
            "cutmix(alpha=2)",
            "cutmix@clovaai(p=1)",
            "pick(mixup,runs=3)",
            "crop_flip+cutout",
            "cutmix(alpha=0.1,p=0.3)",
        ),
        *(
            "random_erasing(scale=(0.1,0.2))",
            "autoaugment(policy=imagenet)",
            "flip(p=0.3)+pick(cutmix,criterion=kl)",
        ),
    ],
)
def test_a_canonical_name_is_its_own(name):
    assert schemes.record(name).name == name
    scheme = schemes.get(name)
    assert scheme.name == name
    again = schemes.get(scheme.name)
    assert (again.name, repr(again)) == (scheme.name, repr(scheme))


def test_numbers_of_other_libraries_are_numbers():
    assert schemes.get("cutmix", alpha=np.float64(0.3)).name == "cutmix(alpha=0.3)"
    assert schemes.get("cutout", side=np.int64(3)).name == "cutout(side=3)"
    assert schemes.get("mixup", alpha=torch.tensor(0.5)).alpha == 0.5
    assert schemes.get("random_erasing", scale=[0.1, 0.2]).name == "random_erasing(scale=(0.1,0.2))"


def test_schemes_inside_others_keep_their_parameters_in_their_names():
    assert schemes.get("cutmix(alpha=0.5,p=0.5)").base.name == "cutmix(alpha=0.5)"
    assert schemes.get("cutmix_pick_teacher(alpha=0.5,runs=3)").base.name == "cutmix(alpha=0.5)"
    assert schemes.get("cutmix@clovaai").base.name == "cutmix@clovaai"


def test_a_patch_or_padding_out_of_proportion_takes_no_memory():
    x = torch.randn(3, 3, 8, 8)
    found = schemes.get("patchmix(patch=100000)").apply(x, generator=generator(0))
    assert found.draw.params["replaced"].shape == (1, 1, 1)
    with pytest.raises(UsageError, match="padding of 100000 pixels around images of 8x8"):
        schemes.get("crop(padding=100000)").apply(x, generator=generator(0))


def test_granularity_of_several_schemes():
    assert schemes.common_draws(["cutmix", "flip"], None) == "batch"
    assert schemes.common_draws(["cutmix", "full_mixup@mixkd"], None) == "sample"
    assert schemes.common_draws(["cutmix", "flip"], "sample") == "sample"
    with pytest.raises(UsageError, match="draws per batch and .* per sample"):
        schemes.common_draws(["cutmix@timm", "full_mixup@mixkd"], None)
    with pytest.raises(UsageError, match="add draws=sample"):
        schemes.common_draws(["full_mixup@mixkd"], "batch")


def test_parameters_reach_the_scheme_and_its_name():
    assert schemes.get("mixup", alpha=0.2).alpha == 0.2
    assert schemes.get("mixup", alpha=0.2).name == "mixup(alpha=0.2)"
    assert schemes.get("cutmix@clovaai", alpha=2).name == "cutmix@clovaai(alpha=2)"
    assert schemes.get("crop", padding=2).padding == 2
    assert schemes.get("cutout(side=3)").side == 3
    pick = schemes.get("cutmix_pick_kl", alpha=0.5, runs=3, tau=2.0, draws="sample")
    assert (pick.base.alpha, pick.runs, pick.tau, pick.draws, pick.base.draws) == (
        0.5,
        3,
        2.0,
        "sample",
        "sample",
    )
    assert pick.criterion == "kl"
    acting = schemes.get("cutmix_pick_teacher(p=0.5)")
    assert (acting.base.p, acting.base.base.name) == (0.5, "cutmix")
    assert schemes.record("crop_flip+cutout(side=3)").label == "Crop+Flip + Cutout(side=3)"


def test_wang2022_truncates_and_nothing_else_does():
    """127.99999 becomes 127: views of the published flip and crop are up to one level darker even unflipped."""
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(4, 3, 16, 16) / 255
    space = schemes.PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    x = space.from_uint8((levels * 255).round().to(torch.uint8), torch.float32)
    still = schemes.get("flip@wang2022(p=0)", space=space).apply(x, generator=generator(0)).images
    back = space.to_uint8(still)
    lost = levels.mul(255).round().int() - back.int()
    assert set(lost.unique().tolist()) == {0, 1}
    rounded = schemes.get("flip(quantise=round,p=0)", space=space).apply(x, generator=generator(0)).images
    assert torch.equal(space.to_uint8(rounded), (levels * 255).round().to(torch.uint8))
    assert torch.equal(schemes.get("flip(p=0)", space=space).apply(x, generator=generator(0)).images, x)
    for name, params in PRESETS["wang2022"].schemes.items():
        truncates = name in ("flip", "crop", "crop_flip", "autoaugment")
        assert (params.get("quantise") == "truncate") == truncates
        said = schemes.get(f"{name}@wang2022").rules().get("space", "")
        assert ("truncated" in said) == truncates


def test_published_parameters():
    assert schemes.get("cutmix_pick_teacher@wang2022").n_pick == 64
    assert schemes.get("partial_mixup@mixkd").sampling == "with_replacement"
    assert schemes.get("cutmix@timm").partner == "reverse"
    assert schemes.get("cutmix@clovaai").p == 0.5
    assert schemes.get("recursive_mix@recursivemix").alpha == 0.5


def test_families_are_imported_when_asked_for():
    code = (
        "import sys, kdstats.schemes as s; assert 'kdstats.schemes.policy.autoaugment' not in sys.modules;"
        "s.record('autoaugment'); assert 'kdstats.schemes.policy.autoaugment' not in sys.modules;"
        "s.get('autoaugment'); assert 'kdstats.schemes.policy.autoaugment' in sys.modules;"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
