"""Leave-one-pair-out prediction: a pair's schemes are ordered by what all other pairs have taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kdstats.association.bounded import bounded_mean
from kdstats.association.coefficients import centred
from kdstats.association.labels import correlation
from kdstats.association.panels import Columns, Panel, split
from kdstats.association.regret import ENDS, PanelRegret, choice_in
from kdstats.association.result import Result
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence

SMALLEST_K = 3
FEW_K = 10


@dataclass(frozen=True, slots=True)
class LeftOutPair:
    """One pair, predicted from the others.

    Attributes:
        learned: Mean Pearson correlation of the other pairs; its sign is the direction used here.
        choice: Choice by that direction, its regret and the share of rightly ordered pairs of schemes.
    """

    learned: float
    choice: PanelRegret


@dataclass(frozen=True, slots=True)
class LeaveOnePairOut(Result):
    """How well the order of schemes carries over to a pair that was not seen.

    Attributes:
        panels: One entry a pair.
        k: Number of pairs.
        concordance: Mean over pairs of the share of scheme pairs ordered rightly; 0.5 is guessing.
        concordance_low: Lower end of its interval.
        concordance_high: Upper end.
        concordance_interval: How that interval was formed.
        regret: Mean over pairs of the expected regret, units of the outcome.
        regret_low: Lower end of its interval.
        regret_high: Upper end.
        hits: Pairs in which the choice was the best.
        scheme_pairs: Scheme pairs behind the concordance, over all pairs.
        confidence: Nominal coverage of both intervals.
        better: Which outcome is better.
        notes: Warnings that stay with the numbers.
    """

    panels: tuple[LeftOutPair, ...]
    k: int
    concordance: float
    concordance_low: float
    concordance_high: float
    concordance_interval: str
    regret: float
    regret_low: float
    regret_high: float
    hits: int
    scheme_pairs: int
    confidence: float
    better: str
    notes: tuple[str, ...]


def leave_one_pair_out(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns,
    label: str | None = None,
    better: str = "lowest",
    confidence: float = 0.95,
    draws: int = 9_999,
    rng: np.random.Generator,
) -> LeaveOnePairOut:
    """Predicts the order of schemes in each pair from the other pairs, and counts how often it is right.

    With one predictor a learned line orders the schemes of a new pair by its sign alone, so what is learned is
    the sign of the mean correlation of the other pairs (each pair counts alike, whatever its units). Concordance
    is the share of pairs of schemes with unlike outcomes that are ordered rightly, ties in x counted half; regret
    the outcome given up by the scheme predicted best.

    Intervals. Pairs, not schemes, are the sample. Concordance: Student's t over pairs, cut at 0 and 1; the
    bounded interval below where all pairs agree. Regret: :func:`~kdstats.association.bounded.bounded_mean`
    between 0 and the widest spread of outcomes within any pair, since most regrets are 0.

    Coverage, 0.95 nominal, 9 schemes, bivariate normal with correlation 0.5, 0.9, 0.97 (standard deviation of
    Fisher z between pairs 0.5; 2,000 replications; benchmarks/results/coverage_regression.md): concordance 0.880,
    0.929, 0.935 with 3 pairs, 0.882, 0.921, 0.922 with 5, 0.940, 0.922, 0.919 with 10; regret 0.969 to 0.998.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell pairs apart.
        label: Column that names the points.
        better: Which end of the outcome is better, ``"lowest"`` or ``"highest"``.
        confidence: Nominal coverage, a fraction.
        draws: Random weights behind the bounded intervals.
        rng: Their source.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also fewer than 3 pairs, an unknown end.
        CheckError: A column is constant within a pair, or the other pairs give no direction.
    """
    if better not in ENDS:
        raise unknown("value of better", better, ENDS)
    check_confidence(confidence)
    panels = split(df, x=x, y=y, group=group, label=label)
    k = len(panels)
    if k < SMALLEST_K:
        raise UsageError(f"leave-one-pair-out needs at least {SMALLEST_K} pairs, got {k}")
    own = np.array([correlation(centred(p.x), centred(p.y)) for p in panels])
    out = tuple(_left_out(p, float(np.delete(own, i).mean()), better) for i, p in enumerate(panels))
    shares = np.array([p.choice.concordance for p in out])
    costs = np.array([p.choice.expected for p in out])
    widest = max(float(p.y.max() - p.y.min()) for p in panels)
    low, high, method = _share_interval(shares, confidence, draws, rng)
    cost_low, cost_high = bounded_mean(
        costs, lowest=0.0, highest=widest, confidence=confidence, draws=draws, rng=rng
    )
    notes = list(dict.fromkeys(note for panel in panels for note in panel.notes))
    signs = np.sign([p.learned for p in out])
    if (signs != signs[0]).any():
        notes.append("the direction learned depends on which pair is left out: pairs do not agree on it")
    if k <= FEW_K and method.startswith("t"):
        notes.append("with few pairs the interval of the concordance covers 0.88 to 0.95 at a nominal 0.95")
    notes.append(
        "directions share pairs, and pairs may share teachers, data sets and schemes: not independent"
    )
    return LeaveOnePairOut(
        panels=out,
        k=k,
        concordance=float(shares.mean()),
        concordance_low=low,
        concordance_high=high,
        concordance_interval=method,
        regret=float(costs.mean()),
        regret_low=cost_low,
        regret_high=cost_high,
        hits=sum(p.choice.hit for p in out),
        scheme_pairs=sum(p.choice.pairs for p in out),
        confidence=confidence,
        better=better,
        notes=tuple(notes),
    )


def _left_out(panel: Panel, learned: float, better: str) -> LeftOutPair:
    if abs(learned) < 1e-12:
        raise CheckError(
            f"the pairs other than {panel.name!r} have a mean correlation of 0: there is no direction to learn"
        )
    # A rising line predicts the lowest outcome at the lowest predictor, a falling one at the highest.
    choose = better if learned > 0 else ENDS[1 - ENDS.index(better)]
    return LeftOutPair(learned, choice_in(panel, choose, better))


def _share_interval(
    shares: np.ndarray[Any, np.dtype[np.float64]], confidence: float, draws: int, rng: np.random.Generator
) -> tuple[float, float, str]:
    k, spread = shares.size, float(shares.std(ddof=1))
    if spread < 1e-12:
        low, high = bounded_mean(
            shares.clip(0, 1), lowest=0.0, highest=1.0, confidence=confidence, draws=draws, rng=rng
        )
        return low, high, "bounded (Gaffke): all pairs alike"
    half = float(special.stdtrit(k - 1, 0.5 + confidence / 2)) * spread / k**0.5
    mean = float(shares.mean())
    return max(mean - half, 0.0), min(mean + half, 1.0), f"t over {k} pairs"
