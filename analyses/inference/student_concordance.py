"""Kendall's coefficient of concordance of the orders in which several students put the schemes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analyses.words import CONFIDENCE

PERMUTATIONS = 1_999  # each costs a small correlation matrix
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Concordance:
    """Kendall's coefficient of concordance of several students of one teacher.

    Attributes:
        group: Teacher, with the variant where there are several.
        students: Who ranks.
        schemes: What is ranked.
        w: 1 for one order, 1/m on average for unrelated orders of m students, 0 at least.
        low: Lower end of its interval; NaN where the order is one and the same, which leaves no spread.
        high: Upper end.
        p: Permutation p of "the students rank independently".
    """

    group: str
    students: tuple[str, ...]
    schemes: int
    w: float
    low: float
    high: float
    p: float


def mean_rank_correlation(losses: Floats) -> float:
    """Mean of Spearman's ρ over all pairs of columns of ``losses`` (schemes, students)."""
    ranks = np.asarray(stats.rankdata(losses, axis=0), dtype=np.float64)
    between = np.asarray(np.corrcoef(ranks.T), dtype=np.float64)
    return float(between[np.triu_indices(losses.shape[1], 1)].mean())


def concordance_of(losses: Floats) -> float:
    """Kendall's W of ``losses`` (schemes, students): (1 + (m − 1) ρ̄)/m with ρ̄ the mean Spearman correlation.

    Kendall and Gibbons (1990), chapter 6; ties are corrected by way of ρ.
    """
    m = int(losses.shape[1])
    return (1 + (m - 1) * mean_rank_correlation(losses)) / m


def interval_of_concordance(losses: Floats) -> tuple[float, float]:
    """Ends for W: delete-one-scheme jackknife of ½ log(W (m − 1)/(1 − W)), Student's t with n − 2 degrees of freedom.

    NaN where all orders are the same or cancel, or become so without one scheme: there is no spread to judge by then.
    Coverage 0.94 to 0.99 at 0.95, 5 to 20 schemes, 3 and 5 students (``benchmarks/results/coverage_rivals.md``).
    """
    n, m = losses.shape
    parts = np.array([concordance_of(losses), *(concordance_of(np.delete(losses, at, 0)) for at in range(n))])
    if parts.max() > 1 - 1e-12 or parts.min() < 1e-12:
        return math.nan, math.nan
    whole, *left = 0.5 * np.log(parts * (m - 1) / (1 - parts))
    se = math.sqrt(float(np.var(left)) * (n - 1))
    reach = float(special.stdtrit(n - 2, 0.5 + CONFIDENCE / 2)) * se
    low, high = (float(special.expit(2 * end - math.log(m - 1))) for end in (whole - reach, whole + reach))
    return low, high


def p_of_concordance(losses: Floats, rng: np.random.Generator) -> float:
    """Permutation p of "the students rank independently": the schemes of every student are shuffled."""
    seen = mean_rank_correlation(losses)
    ranks = np.asarray(stats.rankdata(losses, axis=0), dtype=np.float64)
    moved = (mean_rank_correlation(rng.permuted(ranks, axis=0)) for _ in range(PERMUTATIONS))
    return (1 + sum(value >= seen - 1e-12 for value in moved)) / (1 + PERMUTATIONS)
