"""Analyses of what was recorded in training: compositions, picks, dependence of steps, distances, times."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from settings_study import record_views, write_study

from analyses import best_and_last, mixing_depth, overhead, pick_ratio, step_dependence, teacher_distance
from analyses.inference.over_seeds import against, t_interval
from analyses.study import Study, load_study
from analyses.study.steps import Steps, recorded_runs
from kdstats.errors import CheckError, MissingError
from kdstats.records.distances import FILE, read_distances
from kdstats.records.paths import RunPaths

B, STEPS = 16, 12
After = Callable[[RunPaths, str, int], None]


def ids(epoch: int, step: int) -> np.ndarray:
    return np.random.default_rng([epoch]).permutation(B * STEPS)[step * B : (step + 1) * B]


def studied(tmp: Path, schemes: tuple[str, ...], after: After, **options: Any) -> Study:
    seeds = options.pop("seeds", (0, 1, 2))
    root = write_study(
        tmp, loss=lambda s, k: 0.5 + 0.01 * k, schemes=schemes, seeds=seeds, after=after, **options
    )
    return load_study(root, seed=0)


def flat_margins(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(own)), np.ones(len(own))


# --- composition of views ---


def mixing(run: RunPaths, scheme: str, seed: int) -> None:
    def pairing(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if scheme == "recursive_mix":
            if step == 0:
                return np.full(B, -1), np.ones(B)
            return ids(epoch, step - 1), np.full(B, 0.75)
        if scheme == "mixup":
            return np.roll(own, 1), np.full(B, 0.5)
        return np.full(B, -1), np.ones(B)

    record_views(run, (1, 2), ids, flat_margins, steps=STEPS, pairing=pairing)


def test_sources_of_a_view_by_hand(tmp_path: Path) -> None:
    study = studied(tmp_path / "a", ("identity", "mixup", "recursive_mix"), mixing)
    result = mixing_depth.run(study)
    table = result.table.set_index("scheme")
    assert table.loc["identity", "effective_sources"] == pytest.approx(1)
    assert table.loc["mixup", "effective_sources"] == pytest.approx(2)
    # w of step t: 3/4, 3/16, …, and (1/4)^t for the first; a geometric memory.
    expected = [1 / (sum((0.75 * 0.25**k) ** 2 for k in range(t)) + 0.25 ** (2 * t)) for t in range(STEPS)]
    assert table.loc["recursive_mix", "effective_sources"] == pytest.approx(np.mean(expected))
    assert table.loc["recursive_mix", "depth"] == pytest.approx(np.mean(np.arange(1, STEPS + 1)))
    assert "no view mixes images" in result.findings[0]
    assert result.histogram.groupby("scheme")["share"].sum().to_numpy() == pytest.approx(1)
    assert "3 schemes, 3 seeds each" in result.figure()[1].caption()  # type: ignore[index]


def test_label_entropy_by_hand(tmp_path: Path) -> None:
    """Two images of one class have a certain label; of two classes, log 2 at λ = ½."""

    class Fake:
        paths = RunPaths(tmp_path)

    lam = np.array([[0.5, 0.5, 0.5]])
    own, partner = np.array([[0, 0, 0]]), np.array([[4, 1, 0]])
    steps = Steps(1, np.array([0]), {"sample_id": own, "partner_id": partner, "lam": lam})
    found = mixing_depth.compose(steps, False, Fake(), np.array([0, 1, 2, 3, 0]))  # type: ignore[arg-type]
    assert found["label_entropy"] == pytest.approx([0, math.log(2), 0])
    assert found["effective_sources"] == pytest.approx([2, 2, 1])  # the last met itself
    bad = Steps(1, np.array([0]), {"sample_id": own, "partner_id": partner, "lam": lam + 1})
    with pytest.raises(CheckError, match=r"λ lies outside \[0, 1\]"):
        mixing_depth.compose(bad, False, Fake(), np.zeros(5, np.int64))  # type: ignore[arg-type]


def test_a_broken_history_is_named(tmp_path: Path) -> None:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        def pairing(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.roll(own, 1), np.full(B, 0.75 if step else 1.0)

        record_views(run, (1,), ids, flat_margins, steps=STEPS, pairing=pairing)

    with pytest.raises(CheckError, match="another partner than the view at its position of the step before"):
        mixing_depth.run(studied(tmp_path / "a", ("recursive_mix",), after, seeds=(0,)))


def test_composed_mixing_and_missing_records_are_said(tmp_path: Path) -> None:
    study = studied(tmp_path / "a", ("mixup+cutmix",), mixing, seeds=(0,))
    assert (
        "cannot be answered from this study because the records hold one partner"
        in (mixing_depth.run(study).findings[0])
    )
    nothing = studied(tmp_path / "b", ("mixup",), lambda *_: None, seeds=(0,))
    for analysis in (mixing_depth, pick_ratio, step_dependence):
        assert "no samples were recorded" in analysis.run(nothing).findings[0]  # type: ignore[attr-defined]
        assert analysis.run(nothing).figure() is None  # type: ignore[attr-defined]


# --- dependence of consecutive steps ---


def test_dependence_on_the_step_before_is_found_where_it_is(tmp_path: Path) -> None:
    """Under recursive_mix half of a view's margin is that of its position one step ago."""

    def after(run: RunPaths, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *scheme.encode()])
        noise = rng.normal(0, 1, (4, 40, B))
        carried = np.empty_like(noise)
        for t in range(40):
            old = carried[:, t - 1] if t and scheme == "recursive_mix" else 0.0
            carried[:, t] = 0.6 * old + 0.8 * noise[:, t]

        def margins(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(own), 6.0), carried[epoch - 1, step]

        def order(epoch: int, step: int) -> np.ndarray:
            return np.arange(step * B, (step + 1) * B)

        record_views(run, (1, 2, 3, 4), order, margins, steps=40)

    result = step_dependence.run(studied(tmp_path / "a", ("identity", "cutmix", "recursive_mix"), after))
    table = result.table[result.table["lag"] == 1].set_index("scheme")
    assert table.loc["recursive_mix", "excess"] == pytest.approx(0.6, abs=0.1)
    assert table.loc["recursive_mix", "excess_low"] > 0
    assert table.loc["identity", "excess_low"] < 0 < table.loc["identity", "excess_high"]
    assert (
        "depend on the view at their position of the step before under recursive_mix (0."
        in result.findings[0]
    )
    assert "under 2 other schemes this study cannot tell" in result.findings[1]
    # A first-order memory: the square at lag 2.
    lag2 = result.table[(result.table["lag"] == 2) & (result.table["scheme"] == "recursive_mix")]
    assert lag2["excess"].iloc[0] == pytest.approx(0.36, abs=0.12)
    assert "3 schemes, 3 seeds each" in result.figure()[1].caption()  # type: ignore[index]


def test_correlations_are_those_of_all_pairs() -> None:
    u = np.random.default_rng(0).gamma(2, size=(7, 5))
    x = u - u.mean()
    same = np.mean([x[t, i] * x[t + 1, i] for t in range(6) for i in range(5)])
    other = np.mean([x[t, i] * x[t + 1, j] for t in range(6) for i in range(5) for j in range(5) if i != j])
    found = step_dependence.lagged([u], 1)
    assert found is not None
    assert found["same"] == pytest.approx(same / x.var())
    assert found["other"] == pytest.approx(other / x.var())
    assert step_dependence.lagged([np.ones((5, 3))], 1) is None
    assert step_dependence.lagged([u], 7) is None


@pytest.mark.simulation
def test_no_dependence_is_seen_in_steps_that_share_a_trend() -> None:
    """A student that learns makes neighbours alike at all positions; the excess stays 0 on average."""
    rng = np.random.default_rng(3)
    excess = []
    for _ in range(300):
        trend = np.linspace(3, 0, 20)[:, None]
        found = step_dependence.lagged([trend + rng.gamma(1, size=(20, 8))], 1)
        assert found is not None
        assert found["other"] > 0.1
        excess.append(found["excess"])
    assert abs(np.mean(excess)) < 4 * np.std(excess) / math.sqrt(len(excess))


# --- what picking picks ---


def picking_margins(picked: float) -> After:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *scheme.encode()])

        def margins(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gap = picked if scheme.startswith("cutmix_pick") else 1.0
            return np.full(len(own), 2.0), 2.0 - gap + 0.05 * rng.normal(size=len(own))

        record_views(run, range(1, 5), ids, margins, steps=4)

    return after


def test_picks_that_are_further_from_the_teacher_are_found(tmp_path: Path) -> None:
    schemes = ("cutmix", "cutmix_pick_kl", "cutmix_pick_teacher")
    result = pick_ratio.run(studied(tmp_path / "a", schemes, picking_margins(1.5)))
    assert (result.table["ratio_low"] > 1).all()
    p, q = (np.exp([m, 0, 0, 0]) / (np.exp(m) + 3) for m in (2.0, 0.5))
    base = np.exp([1.0, 0, 0, 0]) / (np.e + 3)
    expected = (p * np.log(p / q)).sum() / (p * np.log(p / base)).sum()
    assert result.table["ratio"].to_numpy() == pytest.approx(expected, rel=0.05)
    assert "the student is further from the teacher than on those of cutmix" in result.findings[1]
    assert "views that were not picked are not recorded" in result.findings[0]
    assert len(result.curves) == 8
    assert "KL" in result.figure()[1].caption()  # type: ignore[index]


def test_picks_like_the_others_are_not_told_apart(tmp_path: Path) -> None:
    result = pick_ratio.run(studied(tmp_path / "a", ("cutmix", "cutmix_pick_kl"), picking_margins(1.0)))
    assert "cannot tell the views kept from those of cutmix" in result.findings[1]
    alone = pick_ratio.run(studied(tmp_path / "b", ("cutmix_pick_kl",), picking_margins(1.0), seeds=(0,)))
    assert "has no run of cutmix of the same seed" in alone.findings[0]
    assert (
        "no recorded run picks its views"
        in (
            pick_ratio.run(studied(tmp_path / "c", ("cutmix",), picking_margins(1.0), seeds=(0,))).findings[0]
        )
    )


# --- times, best and last ---


def timed(factor: float) -> After:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        own = (1 + seed) * (factor if scheme == "recursive_mix" else 1.0)
        rng = np.random.default_rng([seed, *scheme.encode()])
        lines = [
            {"epoch": e, "test_loss": 0.5, "seconds": own * float(rng.normal(1, 0.01)) + 50 * (e == 1)}
            for e in range(1, 8)
        ]
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))

    return after


def test_overhead(tmp_path: Path) -> None:
    result = overhead.run(studied(tmp_path / "a", ("identity", "recursive_mix"), timed(1.4)))
    row = result.table.set_index("scheme").loc["recursive_mix"]
    assert row["ratio"] == pytest.approx(1.4, rel=0.02)  # within seeds, first epochs (warm-up) not counting
    assert row["ratio_low"] > 1
    assert "recursive_mix at 1.4" in result.findings[0]
    none = overhead.run(studied(tmp_path / "b", ("identity", "recursive_mix"), timed(1.0)))
    assert "which could be none" in none.findings[0]
    alone = overhead.run(studied(tmp_path / "c", ("recursive_mix",), timed(1.0)))
    assert "because identity was not run" in alone.findings[0]
    assert (
        "no run logged the time"
        in overhead.run(studied(tmp_path / "d", ("flip",), lambda *_: None)).findings[0]
    )


def test_a_broken_log_and_another_machine_are_said(tmp_path: Path) -> None:
    study = studied(tmp_path / "a", ("identity", "recursive_mix"), timed(1.4))
    other = next(r for r in study.paths.iter_runs() if "recursive_mix" in str(r.root))
    card = json.loads(other.run_json.read_text()) | {"provenance": {"machine": "other", "device": "cuda"}}
    other.run_json.write_text(json.dumps(card))
    assert "1 of 6 runs were on another machine" in overhead.run(study).findings[-1]
    other.metrics.write_text("{}\n{broken\n")
    with pytest.raises(MissingError, match="line 2"):
        overhead.run(study)


def test_best_and_last(tmp_path: Path) -> None:
    def best(scheme: str, seed: int) -> float:
        gap = 0.2 if scheme == "mixup" else 0.01
        return 0.5 + 0.01 * seed - gap - 0.001 * seed

    study = studied(tmp_path / "a", ("identity", "mixup", "cutmix"), lambda *_: None, best=best)
    result = best_and_last.run(study)
    table = result.table.set_index("scheme")
    assert table.loc["mixup", "loss_gap"] == pytest.approx(0.201)
    assert "0.2010 [0.1985, 0.2035] nats under mixup" in result.findings[0]
    assert "the gap differs between schemes by more than seeds explain" not in result.findings[0]
    assert "not on record" in result.findings[-1]
    for run in study.paths.iter_runs():
        outcome = {"extra": {"outcome": {"best_chosen_by": "validation images"}}}
        run.done.write_text(json.dumps(outcome))
    assert "held out from training" in best_and_last.run(study).findings[-1]
    same = best_and_last.run(studied(tmp_path / "b", ("identity", "mixup"), lambda *_: None))
    assert "the last epoch was the best in every run" in same.findings[0]


# --- distances ---

TEACHING = {
    "teachers": 1,
    "period": 1,
    "unit": "epoch",
    "restart": "never",
    "decay": 0.99,
    "warmup": True,
    "buffers": "own",
    "then": [],
}


def distances(level: float, noise: int) -> After:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, noise])
        lines: list[dict[str, Any]] = [{"schema": "kdstats/distances/1"}]
        for epoch in range(1, 11):
            kl = level * (1 + 0.02 * rng.normal()) + 5 / epoch * (epoch < 5)
            lines.append(
                {"epoch": epoch, "t": "teacher", "s": "student", "kl_mean": kl, "kl_sd": kl / 2, "cka": 0.9}
                | {"disagreement_mean": 0.1 + 0.001 * rng.normal(), "parameter_l2": None}
            )
        (run.root / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))

    return after


def ways(tmp: Path, ema: float, dual: float, **changes: Any) -> tuple[Study, Study]:
    two = TEACHING | {"teachers": 2, "restart": "shift"}
    return (
        studied(tmp / "ema", ("cutmix",), distances(ema, 1), changes={"teaching": TEACHING}),
        studied(tmp / "dual", ("cutmix",), distances(dual, 2), changes={"teaching": two, **changes}),
    )


def test_distances_of_two_ways_of_teaching(tmp_path: Path) -> None:
    result = teacher_distance.run(*ways(tmp_path, 0.1, 0.2))
    kl = result.table[result.table["distance"] == "kl_mean"].set_index("teaching")
    assert kl.loc["1 lasting average", "mean"] == pytest.approx(
        0.1, rel=0.02
    )  # the early epochs do not count
    assert kl.loc["1 lasting average", "image_sd"] == pytest.approx(0.05, rel=0.02)
    assert kl.loc["2 temporary averages", "epoch_sd"] == pytest.approx(0.004, rel=0.5)
    said = [
        text for text in result.findings if text.startswith("Under resnet8/lenet8, cutmix, 1 lasting average")
    ]
    assert "stays nearer to its teacher than under resnet8/lenet8, cutmix, 2 temporary averages" in said[0]
    assert len(result.curves[result.curves["distance"] == "kl_mean"]) == 20
    assert "each of 10 epochs (2 settings, 3 seeds each)" in result.figure()[1].caption()  # type: ignore[index]


def test_equal_distances_are_not_told_apart(tmp_path: Path) -> None:
    result = teacher_distance.run(*ways(tmp_path, 0.1, 0.1001))
    assert any("cannot tell the mean KL(teacher ‖ student)" in text for text in result.findings)
    assert not any(text.startswith("Under") for text in result.findings)


def test_ways_that_differ_in_more_are_not_compared(tmp_path: Path) -> None:
    result = teacher_distance.run(*ways(tmp_path, 0.1, 0.2, **{"recipe.lr": 0.01}))
    assert result.contrasts.empty
    assert "no two settings differ in who teaches only" in result.findings[-1]
    fixed = studied(tmp_path / "fixed", ("cutmix",), lambda *_: None)
    assert "no run logged distances" in teacher_distance.run(fixed).findings[0]


def test_bad_distances_are_named(tmp_path: Path) -> None:
    study, _ = ways(tmp_path, 0.1, 0.2)
    log = next(study.paths.iter_runs()).root / FILE
    whole = log.read_text()
    log.write_text(whole + whole.splitlines()[-1] + "\n")
    with pytest.raises(CheckError, match="has epoch 10 twice"):
        teacher_distance.run(study)
    log.write_text(whole.replace('"kl_mean"', '"other"'))
    with pytest.raises(CheckError, match="no kl_mean"):
        teacher_distance.run(study)
    log.write_text(whole[: len(whole) // 2])  # killed while it wrote
    assert len(read_distances(log)) < 10
    log.write_text("{}\n" + whole)
    with pytest.raises(MissingError, match="is no kdstats/distances/1 file|is damaged"):
        teacher_distance.run(study)


# --- helpers ---


def test_intervals_over_seeds() -> None:
    from scipy import stats

    values = [0.1, 0.4, 0.2]
    mean, low, high = t_interval(values)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(values), ends.low, ends.high))
    assert math.isnan(t_interval([1.0])[1])
    assert t_interval(values, 4)[1] < low


def test_differences_are_within_seeds() -> None:
    import pandas as pd

    rows = [("a/b", s, k, 10.0 * k + (s == "x")) for s in ("identity", "x") for k in range(3)]
    frame = pd.DataFrame(rows, columns=["pair", "scheme", "seed", "v"])
    assert against(frame, "v", "identity") == {("a/b", "x"): (1.0, 1.0, 1.0)}
    assert against(frame, "v", "missing") == {}


def test_only_used_runs_are_read(tmp_path: Path) -> None:
    study = studied(tmp_path / "a", ("identity", "mixup"), mixing, seeds=(0, 1))
    study.runs.loc[(study.runs["scheme"] == "mixup") & (study.runs["seed"] == 1), "excluded"] = True
    assert [(r.scheme, r.seed) for r in recorded_runs(study)] == [
        ("identity", 0),
        ("identity", 1),
        ("mixup", 0),
    ]
