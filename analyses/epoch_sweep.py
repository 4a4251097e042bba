"""How many epochs are best under distillation and under plain cross-entropy, and does augmentation move that number?

Every number of epochs is a run of its own, its schedule stretched with it; an epoch within one run is no substitute.
The optimum is the number with the lowest mean among those tried. Its interval comes from draws of the true means under
a flat prior (:meth:`.inference.seeds.Seeds.draws`): central quantiles of where the lowest mean lies. The lowest outcome
itself is the mean at that number with the interval of that mean, and two curves' lowest are compared within seeds: draws
know nothing of what the seeds of a curve have in common, so their minima may be read for the place only.

Wang et al. (v1) claim that augmentation moves the optimum of distillation further than that of cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.figures.epoch_sweep import EpochFacts, draw_epochs
from analyses.inference import seeds as seeds_
from analyses.inference.levels import Axis, Stratum, strata, text, why_not
from analyses.inference.over_seeds import t_interval
from analyses.inference.seeds import Floats, Seeds
from analyses.study import Study
from analyses.study.settings import TrainedRun, stratum_key, trained_runs
from analyses.study.traits import Need
from analyses.words import CONFIDENCE, estimate, interval, number, records, sizes

QUESTION = (
    "How many epochs are best under distillation and under plain cross-entropy, and does augmentation move that "
    "number?"
)
NEEDS: tuple[Need, ...] = ((lambda has: has.several("recipe.epochs"), "all runs have one number of epochs"),)
REFERENCE = "identity"
KD, CE = "KD", "CE"
OUTCOMES = {"error": "test error", "test_loss": "test loss"}
_EPOCHS = frozenset({"recipe.epochs", "recipe.decays"})
_LOSS = frozenset(
    {
        "objective",
        "objective.*",
        "alpha",
        "alpha_views",
        "beta",
        "gamma",
        "temperature",
        "student_temperature",
    }
    | {"targets"}
)
_SCHEME = frozenset({"scheme", "scheme.*"})


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One loss under one scheme over the epochs.

    Attributes:
        name: Pair, loss and scheme; the settings of its stratum too where that is not enough.
        stratum: Its runs.
        loss: :data:`KD`, :data:`CE` or the objective's name.
        scheme: Scheme of the views.
        group: What it shares with curves that differ in loss and scheme only.
        draws: Outcome → true means under a flat prior, ``[draws, levels]``; empty without spread.
    """

    name: str
    stratum: Stratum
    loss: str
    scheme: str
    group: tuple[tuple[str, str], ...]
    draws: dict[str, Floats]

    def optimum(self, outcome: str) -> Floats:
        """Draws of log₂ of the best number of epochs."""
        levels = np.log2([float(level) for level in self.stratum.levels])
        return np.asarray(levels[self.draws[outcome].argmin(axis=1)])


@dataclass(frozen=True, slots=True, eq=False)
class EpochSweep:
    """The result, unrounded.

    Attributes:
        table: A row per curve, outcome and number of epochs: ``pair, curve, loss, scheme, outcome, epochs, seeds,
            mean, low, high`` (fraction for ``error``, nats for ``test_loss``).
        optima: A row per curve and outcome: ``best, best_low, best_high`` (epochs), ``lowest, lowest_low,
            lowest_high`` (the mean there and its interval, as in ``table``), ``at_end`` (the optimum is the largest
            number tried).
        contrasts: A row per comparison of optima: ``what, outcome, factor, factor_low, factor_high`` (ratio of epochs),
            ``gap, gap_low, gap_high`` (difference of the lowest outcomes over the seeds of both; NaN where that is not
            compared, ends NaN without two seeds of both).
        findings: In words.
        answered: Whether any curve has two numbers of epochs.
    """

    table: pd.DataFrame
    optima: pd.DataFrame
    contrasts: pd.DataFrame
    findings: tuple[str, ...]
    answered: bool

    def figure(self) -> tuple[Figure, EpochFacts] | None:
        """Test error over epochs, the optimum of every curve marked, a panel a pair; None without curves."""
        return draw_epochs(self.table, self.optima) if self.answered else None


def run(study: Study, *others: Study) -> EpochSweep:
    """Finds the optimum of every curve and compares optima.

    Args:
        study: A study.
        others: More of them, one for each number of epochs or loss (a study file has one ``train.epochs``).

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    axis = Axis("number of epochs", lambda r: float(r.settings["recipe.epochs"]), _EPOCHS)
    found = strata(runs, axis)
    unlike = [s for s in found if not _stretched(s.runs)]
    curves = _curves(study, [s for s in found if _stretched(s.runs)])
    findings = [
        f"{s.name}: not compared over epochs, because the rate does not fall at the same shares of training."
        for s in unlike
    ]
    if not curves:
        if not unlike:
            findings.append(why_not(runs, axis, "no run is there"))
        empty = pd.DataFrame()
        return EpochSweep(empty, empty, empty, tuple(findings), False)
    frames, optima = [], []
    for curve in curves:
        for outcome in OUTCOMES:
            means = _seeds(curve.stratum, outcome)
            frames.append(_rows(curve, outcome, means))
            optima.append(_optimum(curve, outcome, means))
    table, optima_ = pd.concat(frames, ignore_index=True), pd.DataFrame(optima)
    contrasts = pd.DataFrame([row for outcome in OUTCOMES for row in _contrasts(curves, outcome)])
    findings += [_said(row) for row in optima]
    findings += [_said_contrast(row) for row in records(contrasts)]
    if not {KD, CE} <= {curve.loss for curve in curves}:
        one = ", ".join(sorted({curve.loss for curve in curves}))
        findings.append(
            f"KD against CE cannot be answered from this study because its curves are all of {one}."
        )
    return EpochSweep(table, optima_, contrasts, tuple(findings), True)


def loss_of(run: TrainedRun) -> str:
    """What a run learns from: :data:`KD`, :data:`CE`, or the name of another objective."""
    objective = str(run.settings["objective"])
    weights = [float(run.settings.get(name) or 0) for name in ("alpha", "alpha_views")]
    if objective in ("ce", "mix_ce") or (objective == "kd" and not any(weights)):
        return CE
    return KD if objective == "kd" else objective


def _stretched(runs: Sequence[TrainedRun]) -> bool:
    """Whether milestones lie at the same shares of training, but for rounding to whole epochs."""
    longest = max(runs, key=lambda r: r.settings["recipe.epochs"])
    shares = longest.settings["recipe.decays"]
    for run_ in runs:
        own = run_.settings["recipe.decays"]
        slack = 0.5 / run_.settings["recipe.epochs"] + 0.5 / longest.settings["recipe.epochs"] + 1e-9
        if len(own) != len(shares) or any(abs(a - b) > slack for a, b in zip(own, shares, strict=True)):
            return False
    return True


def _curves(study: Study, found: Sequence[Stratum]) -> list[Curve]:
    names = [f"{s.pair}, {loss_of(s.runs[0])}, {s.runs[0].scheme}" for s in found]
    full = [
        name if names.count(name) == 1 else f"{name} ({s.name.removeprefix(f'{s.pair}, ')})"
        for name, s in zip(names, found, strict=True)
    ]
    return [_curve(study, s, name) for s, name in zip(found, full, strict=True)]


def _curve(study: Study, stratum: Stratum, name: str) -> Curve:
    first = stratum.runs[0]
    draws = {}
    for outcome in OUTCOMES:
        means = _seeds(stratum, outcome)
        if means.residual_df and means.residual > 0:
            draws[outcome] = means.draws(study.rng(f"epochs {outcome} {stratum.name}"))
    group = stratum_key(first, _EPOCHS | _LOSS | _SCHEME)
    return Curve(name, stratum, loss_of(first), first.scheme, group, draws)


def _seeds(stratum: Stratum, outcome: str) -> Seeds:
    rows = [
        {
            "pair": stratum.name,
            "scheme": text(stratum.level_of[r.digest]),
            "seed": r.seed,
            outcome: _value(r, outcome),
        }
        for r in sorted(stratum.runs, key=lambda r: (stratum.level_of[r.digest], r.seed))
    ]
    # In order of levels, which the draws rely on.
    return seeds_.of_runs(pd.DataFrame(rows), stratum.name, outcome)


def _rows(curve: Curve, outcome: str, means: Seeds) -> pd.DataFrame:
    low, high = _interval(means)
    return pd.DataFrame(
        {
            "pair": curve.stratum.pair,
            "curve": curve.name,
            "loss": curve.loss,
            "scheme": curve.scheme,
            "outcome": outcome,
            "epochs": [int(float(name)) for name in means.schemes],
            "seeds": means.n.astype(int),
            "mean": means.mean,
            "low": low,
            "high": high,
        }
    )


def _interval(means: Seeds) -> tuple[Floats, Floats]:
    """Ends of every mean; neither an error nor a loss is below 0, of which the seeds' spread knows nothing."""
    half = means.quantile * means.se
    return np.maximum(means.mean - half, 0.0), means.mean + half


def _optimum(curve: Curve, outcome: str, means: Seeds) -> dict[str, Any]:
    levels = [int(float(name)) for name in means.schemes]
    best = int(means.mean.argmin())
    low, high = math.nan, math.nan
    if outcome in curve.draws:
        low, high = _ends(np.exp2(curve.optimum(outcome)))
    lowest = _interval(means)
    return {
        "pair": curve.stratum.pair,
        "curve": curve.name,
        "outcome": outcome,
        "best": levels[best],
        "best_low": low if math.isnan(low) else round(low),
        "best_high": high if math.isnan(high) else round(high),
        "lowest": float(means.mean[best]),
        "lowest_low": float(lowest[0][best]),
        "lowest_high": float(lowest[1][best]),
        "at_end": best == len(levels) - 1,
        "levels": len(levels),
        "seeds": (int(means.n.min()), int(means.n.max())),
    }


def _ends(draws: Floats) -> tuple[float, float]:
    """Central quantiles; of values on a grid they are members of it, never points between."""
    tail = (1 - CONFIDENCE) / 2
    return (
        float(np.quantile(draws, tail, method="lower")),
        float(np.quantile(draws, 1 - tail, method="higher")),
    )


def _contrasts(curves: Sequence[Curve], outcome: str) -> Iterator[dict[str, Any]]:
    known = [curve for curve in curves if outcome in curve.draws]
    pairs = [
        (a, b)
        for a in known
        for b in known
        if a.loss != b.loss and b.loss == CE and a.scheme == b.scheme and a.group == b.group
    ]
    for kd, ce in pairs:
        what = f"{kd.name} against {CE}"
        yield _contrast(what, outcome, kd.optimum(outcome) - ce.optimum(outcome), kd, ce)
    moved = [
        (a, b)
        for a in known
        for b in known
        if b.scheme == REFERENCE and a.scheme != REFERENCE and a.loss == b.loss and _alike(a, b)
    ]
    for da, none in moved:
        what = f"{da.name} against {REFERENCE}"
        yield _contrast(what, outcome, da.optimum(outcome) - none.optimum(outcome), da, none)
    for a, b in pairs:
        for none_a, none_b in pairs:
            if (
                a.scheme != REFERENCE
                and none_a.scheme == REFERENCE
                and _alike(a, none_a)
                and _alike(b, none_b)
            ):
                shift = a.optimum(outcome) - none_a.optimum(outcome)
                shift = shift - (b.optimum(outcome) - none_b.optimum(outcome))
                what = f"{a.name}: its shift against {REFERENCE}, beside that of {CE}"
                yield _contrast(what, outcome, shift, None, None)


def _alike(a: Curve, b: Curve) -> bool:
    """Whether two curves differ in the scheme only."""
    sides = [stratum_key(curve.stratum.runs[0], _EPOCHS | _SCHEME) for curve in (a, b)]
    return sides[0] == sides[1]


def _contrast(what: str, outcome: str, steps: Floats, a: Curve | None, b: Curve | None) -> dict[str, Any]:
    low, high = _ends(steps)
    gap = (math.nan,) * 3 if a is None or b is None else _gap(outcome, a, b)
    return {
        "what": what,
        "outcome": outcome,
        "factor": float(np.exp2(np.median(steps))),
        "factor_low": float(np.exp2(low)),
        "factor_high": float(np.exp2(high)),
        "gap": gap[0],
        "gap_low": gap[1],
        "gap_high": gap[2],
    }


def _gap(outcome: str, a: Curve, b: Curve) -> tuple[float, float, float]:
    """Difference of the outcomes at the two curves' best numbers of epochs: paired t over the seeds of both.

    Without two such seeds the difference of the means, with NaN for its ends.
    """
    first, second = (_by_seed(curve, outcome) for curve in (a, b))
    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        means = [sum(own.values()) / len(own) for own in (first, second)]
        return means[0] - means[1], math.nan, math.nan
    return t_interval([first[seed] - second[seed] for seed in common])


def _by_seed(curve: Curve, outcome: str) -> dict[int, float]:
    """Seed → outcome at the number of epochs with the lowest mean."""
    means = _seeds(curve.stratum, outcome)
    best = means.schemes[int(means.mean.argmin())]
    own = [r for r in curve.stratum.runs if text(curve.stratum.level_of[r.digest]) == best]
    return {r.seed: _value(r, outcome) for r in own}


def _value(run: TrainedRun, outcome: str) -> float:
    return 1 - float(run.row["acc_last"]) if outcome == "error" else float(run.row["test_loss_last"])


def _said(row: dict[str, Any]) -> str:
    best, low, high = (float(row[k]) for k in ("best", "best_low", "best_high"))
    lowest = estimate(row["lowest"], row["lowest_low"], row["lowest_high"])
    n = sizes(list(row["seeds"]))
    head = (
        f"{row['curve']}: of {row['levels']} numbers of epochs the {OUTCOMES[str(row['outcome'])]} is lowest at "
        f"{best:g}, {lowest}"
    )
    if math.isnan(low):
        return f"{head} (n = {n} each): one seed gives no spread, so no interval for the optimum."
    tail = "; it is the largest number tried, so the optimum may lie beyond" if row["at_end"] else ""
    return f"{head} (n = {n} each); optimum {best:g} {interval(low, high, 0)} epochs{tail}."


def _said_contrast(row: dict[str, Any]) -> str:
    factor = (
        f"×{number(row['factor'], 2)} [×{number(row['factor_low'], 2)}, ×{number(row['factor_high'], 2)}]"
    )
    if row["factor_low"] <= 1 <= row["factor_high"]:
        told = f"this study cannot tell whether the best number of epochs differs ({factor})"
    else:
        told = f"the best number of epochs is {'larger' if row['factor_low'] > 1 else 'smaller'}, {factor}"
    if not math.isnan(row["gap"]):
        gap = estimate(row["gap"], row["gap_low"], row["gap_high"])
        sure = "" if row["gap_low"] > 0 or row["gap_high"] < 0 else ", which could be none"
        if math.isnan(row["gap_low"]):
            sure = ", without two seeds of both to judge it by"
        told += f"; the lowest {OUTCOMES[row['outcome']]} differs by {gap}{sure}"
    return f"{row['what']}, by {OUTCOMES[row['outcome']]}: {told}."
