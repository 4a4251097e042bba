"""Two studies side by side: what is refused, what is found, and intervals that cover."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_study import DEFINITION, make_study

from analyses.inference.two_studies import compare, differences
from analyses.study import Study, load_study
from analyses.study.unlike import terms
from kdstats.errors import UsageError
from reports.compare import document, html, main, names_of, write

SIX = ("identity", "flip", "crop_flip", "cutout", "mixup", "cutmix")
DATA = {"name": "digits", "sha256": "cd" * 32, "train": 1437, "test": 360, "classes": 10}


def study(root: Path, **options: object) -> Study:
    return load_study(make_study(root, **{"curves": False, "schemes": SIX, **options}), seed=0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study]:
    """Two studies of one truth."""
    root = tmp_path_factory.mktemp("twins")
    return study(root / "a", rng=1, name="A"), study(root / "b", rng=1, name="B", slope=90.0)


def test_a_planted_change_is_found_and_its_size_too(twins: tuple[Study, Study]) -> None:
    """Same noise, another slope: the loss rises by 30 nats per unit of T. stddev, exactly."""
    found = compare(*twins).pairs[0]
    for row in found.table.to_dict("records"):
        assert row["paired"]
        assert row["test_loss_difference"] == pytest.approx(30 * row["t_stddev_first"], rel=1e-9)
        assert row["test_loss_low"] <= row["test_loss_difference"] <= row["test_loss_high"]
    assert "In B the test loss is higher than in A under 6 schemes" in found.findings[0]
    assert found.best == ("cutmix", "cutmix")
    assert found.regret[0] == 0


def test_paired_differences_are_those_of_the_field() -> None:
    """With one scheme the interval is that of scipy's paired t-test."""
    rng = np.random.default_rng(3)
    one = pd.DataFrame({"scheme": "a", "seed": range(5), "loss": rng.normal(1, 0.1, 5)})
    two = one.assign(loss=one["loss"] + rng.normal(0.05, 0.02, 5))
    (got,) = differences(one, two, ["a"], "loss", paired=True)
    test = stats.ttest_rel(two["loss"], one["loss"]).confidence_interval(0.95)
    assert got == pytest.approx([float((two["loss"] - one["loss"]).mean()), test.low, test.high])


def test_unpaired_differences_are_welch_s() -> None:
    rng = np.random.default_rng(4)
    one = pd.DataFrame({"scheme": "a", "seed": range(5), "loss": rng.normal(1, 0.1, 5)})
    two = pd.DataFrame({"scheme": "a", "seed": range(10, 14), "loss": rng.normal(1.2, 0.3, 4)})
    (got,) = differences(one, two, ["a"], "loss", paired=False)
    test = stats.ttest_ind(two["loss"], one["loss"], equal_var=False).confidence_interval(0.95)
    assert got[1:] == pytest.approx([test.low, test.high])


@pytest.mark.simulation
@pytest.mark.parametrize("paired", [True, False])
def test_the_intervals_hold_together(paired: bool) -> None:
    """Counted: all three intervals cover at once in 95 % of studies or somewhat more (Bonferroni, larger variance)."""
    rng = np.random.default_rng(6)
    schemes, seeds, studies, held = ["a", "b", "c"], 4, 120, 0
    truth = np.array([0.1, 0.0, -0.2])

    def runs(means: np.ndarray, first_seed: int, common: np.ndarray) -> pd.DataFrame:
        loss = means[:, None] + common + 0.05 * rng.standard_normal((3, seeds))
        rows = [(s, first_seed + k, loss[i, k]) for i, s in enumerate(schemes) for k in range(seeds)]
        return pd.DataFrame(rows, columns=["scheme", "seed", "loss"])

    for _ in range(studies):
        common = 0.1 * rng.standard_normal(seeds)
        other = common if paired else 0.1 * rng.standard_normal(seeds)
        one, two = runs(np.zeros(3), 0, common), runs(truth, 0 if paired else 50, other)
        got = differences(one, two, schemes, "loss", paired=paired)
        held += bool(((got[:, 1] <= truth) & (truth <= got[:, 2])).all())
    assert held / studies >= 0.9
    if paired:  # an interval that always holds is too wide
        assert held < studies, held


def test_one_seed_gives_no_interval_and_says_so(tmp_path: Path) -> None:
    found = compare(study(tmp_path / "a", seeds=(0,)), study(tmp_path / "b", seeds=(0,), rng=7)).pairs[0]
    assert found.table["test_loss_low"].isna().all()
    assert "One seed gives no spread" in found.findings[0]


def test_the_same_runs_are_told(tmp_path: Path) -> None:
    found = compare(study(tmp_path / "a"), study(tmp_path / "b")).pairs[0]
    assert found.same_runs
    assert found.findings[0] == "Both studies hold the same runs: every common test loss is the same."
    assert found.terms.unlike == ()


def test_other_data_are_never_subtracted(tmp_path: Path) -> None:
    other = study(tmp_path / "b", rng=2, name="B", dataset=DATA | {"sha256": "ab" * 32, "test": 500})
    found = compare(study(tmp_path / "a", rng=1, name="A"), other)
    one = found.pairs[0]
    assert one.table["test_loss_difference"].isna().all()
    assert one.table["acc_difference"].isna().all()
    assert one.table["t_stddev_ratio"].isna().all()
    assert one.findings[0] == (
        "Test losses and accuracies are not subtracted: data sha256, data test differ, so the test losses are of "
        "different images."
    )
    assert "the data differ" in one.terms.t_stddev
    assert len(one.ranks) == 3  # the order of schemes can still be compared
    page = html(found)
    assert "not subtracted" in page
    assert document(found)["pairs"][0]["refused"]["test_loss"]


def test_unlike_definitions_and_teachers_refuse_t_stddev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study(tmp_path / "a", rng=1, name="A")
    monkeypatch.setitem(DEFINITION, "batch_size", 128)
    second = study(tmp_path / "b", rng=2, name="B")
    one = compare(first, second).pairs[0]
    assert one.terms.t_stddev == "its definitions differ in batch size"
    assert one.terms.outcome == ""
    assert one.table["t_stddev_ratio"].isna().all()
    assert one.table["test_loss_difference"].notna().all()
    assert [(u.what, u.first, u.second) for u in one.terms.unlike] == [("T. stddev batch size", "64", "128")]
    monkeypatch.undo()
    monkeypatch.setattr("synthetic_study.SHA", "12" * 32)
    assert "other weights" in compare(first, study(tmp_path / "c", name="C")).pairs[0].terms.t_stddev


def test_what_is_unlike_is_named(tmp_path: Path) -> None:
    second = study(
        tmp_path / "b",
        name="B",
        recipe={"epochs": 60, "batch_size": 64.0, "lr": 0.05, "momentum": 0.9, "name": "long"},
        kd={"temperature": 2.0, "gamma": 0.1, "alpha": 0.9},
        schemes=(*SIX[1:], "cutmix_pick_teacher"),
    )
    one = compare(study(tmp_path / "a", name="A"), second).pairs[0]
    named = {u.what: (u.first, u.second) for u in one.terms.unlike}
    assert named == {
        "recipe epochs": ("30", "60"),
        "recipe weight decay": ("0.0005", "not recorded"),
        "loss temperature": ("4.0", "2.0"),
    }
    assert one.only == (("identity",), ("cutmix_pick_teacher",))


def test_the_loss_of_a_variant_is_its_own(tmp_path: Path) -> None:
    first, second = study(tmp_path / "a", name="A"), study(tmp_path / "b", name="B")

    def with_losses(one: Study, temperature: float) -> Study:
        losses = {"soft": {"temperature": temperature}, "hard": {"temperature": 1.0}}
        return replace(one, card=replace(one.card, losses=losses))

    sides = with_losses(first, 4.0), with_losses(second, 2.0)
    pair = first.pairs[0]
    soft, hard = (terms(*sides, (f"{pair} [{name}]", f"{pair} [{name}]")) for name in ("soft", "hard"))
    assert [(u.what, u.first, u.second) for u in soft.unlike] == [("loss temperature", "4.0", "2.0")]
    assert hard.unlike == ()


def test_agreement_of_t_stddev(tmp_path: Path, twins: tuple[Study, Study]) -> None:
    one = compare(*twins).pairs[0]
    assert one.table["t_stddev_ratio"].to_numpy() == pytest.approx(1)
    assert "T. stddev agrees under all 6 common schemes" in one.findings[-1]
    moved = study(tmp_path / "b", name="B")
    shifted = moved.study.assign(
        t_stddev=moved.study["t_stddev"] * np.where(moved.study["scheme"] == "mixup", 1.2, 1.0)
    )
    object.__setattr__(moved, "study", shifted)
    found = compare(twins[0], moved).pairs[0]
    assert "T. stddev differs under mixup ×1.20" in found.findings[-1]


def test_labels_of_the_figure_agree_with_the_table(twins: tuple[Study, Study]) -> None:
    from reports.comparison_figure import comparison_drawing

    found = compare(*twins)
    drawing = comparison_drawing("c", found.pairs[0], names_of(found))
    left, right = drawing.figure.axes
    rows = found.pairs[0].table
    drawn = [line.get_xdata()[0] for line in left.lines if line.get_marker() not in ("None", "")]
    assert drawn == pytest.approx(list(rows["test_loss_difference"]))
    pairs = [tuple(line.get_xydata()[0]) for line in right.lines if line.get_marker() not in ("None", "")]
    assert pairs == list(zip(rows["test_loss_first"], rows["test_loss_second"], strict=True))
    assert len(drawing.labels) == 2 * len(rows)
    assert f"{len(rows)} schemes, n = 3 seeds" in drawing.caption
    assert "95 % intervals" in drawing.caption


def test_the_program(tmp_path: Path, twins: tuple[Study, Study], capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "c.html"
    roots = [str(one.paths.root) for one in twins]
    assert main([*roots, "--out", str(target)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(target)
    assert "In B the test loss is higher" in said[0]
    saved = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    assert saved["schema"] == "kdstats/comparison/1"
    assert len(saved["pairs"][0]["schemes"]) == 6
    first = target.read_bytes()
    assert write(twins[0].paths.root, twins[1].paths.root, target)[1].read_bytes() == first


def test_what_has_nothing_in_common_is_refused(tmp_path: Path, twins: tuple[Study, Study]) -> None:
    with pytest.raises(UsageError, match="compared with itself"):
        write(twins[0].paths.root, twins[0].paths.root)
    two = study(tmp_path / "two", pairs=("a/b", "a/c"))
    with pytest.raises(UsageError, match=r"no pair in common: resnet8/lenet8 in 'A', a/b and a/c"):
        compare(twins[0], two)
    with pytest.raises(UsageError, match="no scheme is in both"):
        compare(twins[0], study(tmp_path / "three", schemes=("autoaugment",)))
    assert not math.isnan(compare(two, study(tmp_path / "four", pairs=("a/b",))).pairs[0].regret[0])


def test_hostile_names_are_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script> & 50 % a_b"
    found = compare(
        study(tmp_path / "a", name=bad, schemes=("identity", "flip")),
        study(tmp_path / "b", schemes=("identity", "flip"), name="ü→漢"),
    )
    page = html(found)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 50 % a_b" in page
    assert "too few to compare their order" in page
