"""Do views of one training step depend on those of the step before?

RecursiveMix pastes the view at a position into the next view at that position, so their cross-entropies can be related
where those of any other scheme are not. With u the teacher–student cross-entropy of the views, centred within its
epoch, two averages over consecutive steps are compared: of products at the same position, and of products at
different positions, which carry whatever all views of neighbouring steps share (a student that learns). Their
difference over the variance of u is the dependence that the position carries; it is 0 in expectation where a step knows
nothing of the one before, because batches are shuffled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyses.inference.over_seeds import t_interval
from analyses.study import Study
from analyses.study.steps import RecordedRun, recorded_runs
from analyses.study.traits import SAMPLES, Need
from analyses.words import CANNOT, LEVEL, count, estimate, listed, sizes
from kdstats.errors import CheckError
from kdstats.figures.style import COLUMN, marks, plain, style
from kdstats.recorded.steps import last_quarter

QUESTION = "Do views of one training step depend on those of the step before?"
NEEDS: tuple[Need, ...] = (SAMPLES,)
HEADS = {"excess": "correlation beyond other positions"}
LEAST_STEPS = 3
LAGS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the points show, for their caption."""

    pair: str
    schemes: int
    seeds: tuple[int, int]

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            "Correlation of the teacher–student cross-entropy of views at the same position of consecutive steps, beyond "
            f"that of views at different positions ({self.pair}, {count(self.schemes, 'scheme')}, "
            f"{sizes(self.seeds)} each). Bars: {LEVEL} intervals over seeds."
        )


@dataclass(frozen=True, slots=True, eq=False)
class StepDependence:
    """The result, unrounded.

    Attributes:
        per_run: ``pair, scheme, seed, lag, same, other, excess, pairs``: correlations at the same and at other
            positions ``lag`` steps apart, their difference, and the pairs of views behind it.
        table: Means over seeds with intervals, a row per pair, scheme and lag; at lag 1 the intervals of a pair's
            schemes hold together.
        findings: In words, of lag 1.
    """

    per_run: pd.DataFrame
    table: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, StepFacts] | None:
        """The excess at lag 1, a row a scheme of the first pair; None where nothing was recorded."""
        return None if self.table.empty else _draw(self.table[self.table["lag"] == 1])


def run(study: Study) -> StepDependence:
    """Relates consecutive steps in the last quarter of the recorded epochs.

    Raises:
        MissingError: Records are damaged.
        CheckError: A cross-entropy is not finite.
    """
    rows, short = [], []
    for recorded in recorded_runs(study):
        found = _of_run(recorded)
        if not found:
            short.append(recorded.scheme)
        rows += [
            {"pair": recorded.pair, "scheme": recorded.scheme, "seed": recorded.seed, **row} for row in found
        ]
    per_run = pd.DataFrame(rows)
    findings = []
    if short:
        findings.append(
            f"Left out: {listed(list(dict.fromkeys(short)))}, with fewer than {LEAST_STEPS} full steps an epoch or no "
            "spread."
        )
    if per_run.empty:
        why = (
            "no samples were recorded"
            if not short
            else "no run has steps enough of which the views differ in cross-entropy"
        )
        return StepDependence(per_run, pd.DataFrame(), (*findings, f"This {CANNOT} {why}."))
    table = _table(per_run)
    return StepDependence(per_run, table, (*findings, *_findings(table)))


def _of_run(recorded: RecordedRun) -> list[dict[str, float]]:
    epochs = []
    for steps in recorded.views(("ts_ce",), last_quarter(recorded.paths)):
        u = steps.columns["ts_ce"]
        if not np.isfinite(u).all():
            raise CheckError(f"{recorded.paths.root}, epoch {steps.epoch}: a cross-entropy is not finite")
        if len(u) >= LEAST_STEPS and (np.diff(steps.step) == 1).all():
            epochs.append(u)
    return [row for lag in LAGS if (row := lagged(epochs, lag)) is not None]


def lagged(epochs: Sequence[NDArray[np.float64]], lag: int) -> dict[str, float] | None:
    """Correlations ``lag`` steps apart over the epochs of a run, ``[K, B]`` each; None where they have no meaning."""
    square = same = other = 0.0
    n_square = n_same = 0
    for u in epochs:
        x = u - u.mean()
        square, n_square = square + float((x**2).sum()), n_square + x.size
        a, b = x[:-lag], x[lag:]
        if not len(a):
            continue
        width = x.shape[1]
        own = float((a * b).sum())
        every = float((a.sum(axis=1) * b.sum(axis=1)).sum())
        same, n_same = same + own, n_same + a.size
        other += (every - own) / (width - 1) if width > 1 else math.nan
    if not n_same or square <= 0 or math.isnan(other):
        return None
    variance = square / n_square
    r_same, r_other = same / n_same / variance, other / n_same / variance
    return {
        "lag": lag,
        "same": r_same,
        "other": r_other,
        "excess": r_same - r_other,
        "pairs": n_same,
    }


def _table(per_run: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (pair, lag), own in per_run.groupby(["pair", "lag"], sort=False):
        schemes = own["scheme"].nunique()
        for scheme, part in own.groupby("scheme", sort=False):
            mean, low, high = t_interval(part["excess"].to_numpy(), schemes if lag == 1 else 1)
            rows.append(
                {"pair": pair, "scheme": scheme, "lag": int(str(lag)), "seeds": int(part["seed"].nunique())}
                | {"excess": mean, "excess_low": low, "excess_high": high}
                | {"same": float(part["same"].mean()), "other": float(part["other"].mean())}
                | {"pairs": int(part["pairs"].sum())}
            )
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for pair, rows in table[table["lag"] == 1].groupby("pair", sort=False):
        n = sizes([int(k) for k in rows["seeds"]])
        if rows["excess_low"].isna().all():
            yield f"{pair}: one seed a scheme gives no interval for the dependence of consecutive steps."
            continue
        tied = rows[(rows["excess_low"] > 0) | (rows["excess_high"] < 0)]
        told = [
            f"{row['scheme']} ({estimate(row['excess'], row['excess_low'], row['excess_high'])})"
            for row in tied.to_dict("records")
        ]
        if told:
            yield (
                f"{pair}: views depend on the view at their position of the step before under {listed(told)} "
                f"(correlation beyond other positions; n = {n} a scheme, intervals hold together)."
            )
        rest = len(rows) - len(tied)
        if rest:
            others = "other " if told else ""
            yield (
                f"{pair}: under {count(rest, f'{others}scheme')} this study cannot tell such a dependence from none "
                f"(n = {n} a scheme)."
            )


def _draw(table: pd.DataFrame) -> tuple[Figure, StepFacts]:
    pair = str(table["pair"].iloc[0])
    rows = table[table["pair"] == pair]
    looks = marks(rows["scheme"])
    with style():
        figure = Figure(figsize=(COLUMN, 0.22 * len(rows) + 0.8), layout="constrained")
        ax = figure.add_subplot()
        for at, row in enumerate(rows.to_dict("records")):
            look = looks[row["scheme"]]
            half = row["excess_high"] - row["excess"]
            ax.errorbar(
                row["excess"],
                at,
                xerr=None if math.isnan(half) else half,
                fmt=look.marker,
                color=look.color,
                elinewidth=0.8,
            )
        ax.axvline(0, color="#555555", linewidth=0.6)
        ax.set_yticks(range(len(rows)), [plain(looks[s].text) for s in rows["scheme"]])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set(xlabel="correlation beyond that of other positions")
    counts = [int(n) for n in rows["seeds"]]
    return figure, StepFacts(pair, len(rows), (min(counts), max(counts)))
