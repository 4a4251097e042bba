"""The optimum over epochs and its shift are found where they are planted, and left open where nothing is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from settings_study import write_study

from analyses import epoch_sweep
from analyses.inference.levels import Stratum
from analyses.study import Study, load_study
from analyses.study.settings import TrainedRun, trained_runs

EPOCHS = (10, 20, 40, 80, 160)
CE = {"objective": "ce", "gamma": 1.0, "alpha": 0.0, "originals": "replaced"}
KD = {"originals": "replaced"}


def sweep(
    tmp: Path,
    best: dict[tuple[str, str], float],
    *,
    curvature: float = 0.03,
    epochs: tuple[int, ...] = EPOCHS,
) -> list[Study]:
    """Studies of every loss and number of epochs; ``best`` has the optimum by loss and scheme."""
    out = []
    for loss in dict.fromkeys(loss for loss, _ in best):
        schemes = [scheme for own, scheme in best if own == loss]
        for n in epochs:

            def error(scheme: str, seed: int, loss: str = loss, n: int = n) -> float:
                away = math.log2(n / best[(loss, scheme)])
                noise = np.random.default_rng([seed, n, *loss.encode(), *scheme.encode()]).normal(0, 0.004)
                return 0.3 + curvature * away**2 + np.random.default_rng(seed).normal(0, 0.01) + float(noise)

            changes = (CE if loss == "CE" else KD) | {
                "recipe.epochs": n,
                "recipe.milestones": [round(0.625 * n)],
                "recipe.name": f"digits@{n}",
            }
            root = write_study(
                tmp / f"{loss}{n}",
                loss=lambda s, k, e=error: 4 * e(s, k),
                acc=lambda s, k, e=error: 1 - e(s, k),
                schemes=schemes,
                changes=changes,
            )
            out.append(load_study(root, seed=0))
    return out


PLANTED = {
    ("KD", "identity"): 20.0,
    ("KD", "cutmix"): 80.0,
    ("CE", "identity"): 20.0,
    ("CE", "cutmix"): 20.0,
}


def test_planted_optima_and_their_shift(tmp_path: Path) -> None:
    result = epoch_sweep.run(*sweep(tmp_path, PLANTED))
    found = result.optima[result.optima["outcome"] == "error"].set_index("curve")
    for (loss, scheme), best in PLANTED.items():
        row = found.loc[f"resnet8/lenet8, {loss}, {scheme}"]
        assert row["best"] == best
        assert row["best_low"] <= best <= row["best_high"]
        assert row["lowest"] == pytest.approx(0.3, abs=0.03)
    said = " ".join(result.findings)
    assert (
        "KD, cutmix against CE, by test error: the best number of epochs is larger, ×4.00 [×4.00, ×4.00]"
        in said
    )
    assert "KD, identity against CE, by test error: this study cannot tell" in said
    assert "KD, cutmix against identity, by test error: the best number of epochs is larger" in said
    shift = result.contrasts[result.contrasts["what"].str.contains("beside that of CE")]
    assert shift["factor"].tolist() == [4.0, 4.0]
    assert (shift["factor_low"] > 1).all()
    figure, facts = result.figure()  # type: ignore[misc]
    assert "runs of 10 to 160 epochs (resnet8/lenet8, 4 curves, 3 seeds each)" in facts.caption()
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == 4


def test_the_lowest_is_the_mean_with_its_bar_and_gaps_are_paired(tmp_path: Path) -> None:
    studies = sweep(tmp_path, {("KD", "identity"): 20.0, ("CE", "identity"): 80.0})
    result = epoch_sweep.run(*studies)
    for row in result.optima.to_dict("records"):
        at = (result.table["curve"] == row["curve"]) & (result.table["outcome"] == row["outcome"])
        mean = result.table[at & (result.table["epochs"] == row["best"])].iloc[0]
        assert (row["lowest"], row["lowest_low"], row["lowest_high"]) == (
            mean["mean"],
            mean["low"],
            mean["high"],
        )
    gap = result.contrasts[result.contrasts["outcome"] == "error"].iloc[0]
    runs = {s.paths.root.name: s.used.set_index("seed")["acc_last"] for s in studies}
    ends = stats.ttest_rel(runs["CE80"], runs["KD20"]).confidence_interval(0.95)
    assert (gap["gap_low"], gap["gap_high"]) == pytest.approx((ends.low, ends.high))
    figure, _ = result.figure()  # type: ignore[misc]
    bars = [segment[:, 1] for lines in figure.axes[0].collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
    drawn = {(round(float(low), 9), round(float(high), 9)) for low, high in bars}
    errors = result.optima[result.optima["outcome"] == "error"]
    for low, high in zip(errors["lowest_low"], errors["lowest_high"], strict=True):
        assert (round(low, 9), round(high, 9)) in drawn


def test_curves_without_common_seeds_have_no_interval_of_their_gap(tmp_path: Path) -> None:
    studies = sweep(tmp_path, {("KD", "identity"): 20.0, ("CE", "identity"): 80.0})
    runs = [r for s in studies for r in trained_runs(s)]
    curves = []
    for loss, moved in (("KD", 0), ("CE", 10)):
        own = tuple(
            replace(r, row={**r.row, "seed": int(r.row["seed"]) + moved})
            for r in runs
            if epoch_sweep.loss_of(r) == loss
        )
        level_of = {r.digest: float(r.settings["recipe.epochs"]) for r in own}
        stratum = Stratum("a/b", "a/b", tuple(map(float, EPOCHS)), own, level_of)
        curves.append(epoch_sweep._curve(studies[0], stratum, loss))
    gap, low, high = epoch_sweep._gap("error", *curves)
    assert math.isfinite(gap)
    assert math.isnan(low)
    assert math.isnan(high)
    row = epoch_sweep._contrast("what", "error", np.zeros(10), *curves)
    assert "without two seeds of both to judge it by" in epoch_sweep._said_contrast(row)


def test_a_flat_curve_leaves_the_optimum_open(tmp_path: Path) -> None:
    flat = {("KD", "identity"): 40.0, ("CE", "identity"): 40.0}
    result = epoch_sweep.run(*sweep(tmp_path, flat, curvature=0.0))
    assert ((result.optima["best_high"] / result.optima["best_low"]) >= 4).all()
    assert all("cannot tell" in text for text in result.findings if "against CE" in text)


def test_an_optimum_at_the_end_says_that_it_may_lie_beyond(tmp_path: Path) -> None:
    result = epoch_sweep.run(*sweep(tmp_path, {("KD", "identity"): 160.0}))
    assert "largest number tried, so the optimum may lie beyond" in result.findings[0]
    assert (
        "KD against CE cannot be answered from this study because its curves are all of KD"
        in result.findings[-1]
    )


def test_one_length_and_unlike_schedules_are_refused(tmp_path: Path) -> None:
    result = epoch_sweep.run(*sweep(tmp_path, {("KD", "identity"): 20.0}, epochs=(20,)))
    assert "all 3 runs have one number of epochs: 20" in result.findings[0]
    assert not result.answered
    studies = sweep(tmp_path / "b", {("KD", "identity"): 20.0}, epochs=(20, 40))
    for run in studies[1].paths.iter_runs():
        run.run_json.write_text(run.run_json.read_text().replace('"milestones": [25]', '"milestones": [38]'))
    refused = epoch_sweep.run(*studies)
    assert "the rate does not fall at the same shares of training" in refused.findings[0]
    assert not refused.answered


def test_one_seed_gives_no_interval(tmp_path: Path) -> None:
    studies = [
        load_study(
            write_study(
                tmp_path / str(n), loss=lambda s, k, n=n: 1 / n, seeds=(0,), changes={"recipe.epochs": n}
            ),
            seed=0,
        )
        for n in (10, 20)
    ]
    result = epoch_sweep.run(*studies)
    assert "one seed gives no spread, so no interval for the optimum" in result.findings[0]
    assert result.optima["best_low"].isna().all()


def test_what_a_run_learns_from() -> None:
    def of(**settings: Any) -> str:
        return epoch_sweep.loss_of(TrainedRun(None, {}, settings, Path(), ""))  # type: ignore[arg-type]

    assert of(objective="kd", alpha=0.9) == "KD"
    assert of(objective="kd", alpha=0.0, alpha_views=None) == "CE"
    assert of(objective="mix_ce", alpha=0.0) == "CE"
    assert of(objective="crd", alpha=0.0) == "crd"


@pytest.mark.simulation
def test_the_interval_holds_the_optimum_in_95_per_cent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves with a random optimum between the levels' ends; its place is the best of the levels.

    A seed moves a whole curve, more than its residuals: the lowest and the gap between two curves hold that too.
    """
    study = sweep(tmp_path, {("KD", "identity"): 20.0}, epochs=(10,))[0]
    monkeypatch.setattr(epoch_sweep, "OUTCOMES", {"error": "test error"})
    rng, times = np.random.default_rng(4), 60
    held = {"place": 0, "lowest": 0, "gap": 0}
    steps = np.log2(EPOCHS)

    def curve_of(truth: np.ndarray) -> epoch_sweep.Curve:
        errors = 0.3 + truth[:, None] + rng.normal(0, 0.01, 3) + rng.normal(0, 0.004, (5, 3))
        runs = [
            TrainedRun(
                study,
                {"pair": "a/b", "scheme": "identity", "seed": k, "acc_last": 1 - e, "test_loss_last": e},
                {"objective": "kd", "alpha": 0.9, "recipe.epochs": n, "scheme": "identity"},
                Path(),
                f"{n}-{k}",
            )
            for n, row in zip(EPOCHS, errors, strict=True)
            for k, e in enumerate(row)
        ]
        level_of = {r.digest: float(r.settings["recipe.epochs"]) for r in runs}
        stratum = Stratum("a/b", "a/b", tuple(map(float, EPOCHS)), tuple(runs), level_of)
        return epoch_sweep._curve(study, stratum, "a/b")

    for _ in range(times):
        truth = 0.004 * (steps - rng.uniform(steps[0], steps[-1])) ** 2
        one, two = curve_of(truth), curve_of(truth)
        row = epoch_sweep._optimum(one, "error", epoch_sweep._seeds(one.stratum, "error"))
        held["place"] += row["best_low"] <= EPOCHS[int(truth.argmin())] <= row["best_high"]
        held["lowest"] += row["lowest_low"] <= 0.3 + truth.min() <= row["lowest_high"]
        _, low, high = epoch_sweep._gap("error", one, two)
        held["gap"] += low <= 0 <= high
    assert min(held.values()) >= stats.binom.ppf(0.001, times, 0.95), held
