"""How far the schemes' own residuals spread, where one variance for all of them may be wrong.

Few seeds say little of one scheme's spread, so it is pooled; but one scheme that scatters more than the others then has
intervals that are too short. Differences are therefore judged by the larger of the pooled variance and the scheme's own,
and with fewer than :data:`FEW` seeds no interval is shorter than that of the two schemes' own differences.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analyses.words import CONFIDENCE, p_value

Floats = NDArray[np.float64]
FEW = 4
OWN_TOO = "judged by their own spread too"


def residuals(cells: Floats) -> Floats:
    """What is left of ``[seeds, schemes]`` without the means of seeds and schemes."""
    return np.asarray(
        cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean(), dtype=np.float64
    )


def pooled_variance(cells: Floats) -> float:
    """Variance of the residuals with (seeds − 1)(schemes − 1) degrees of freedom."""
    seeds, k = cells.shape
    return float((residuals(cells) ** 2).sum() / ((seeds - 1) * (k - 1)))


def own_variances(cells: Floats) -> Floats:
    """Per scheme, its residual variance with the seeds' effects taken out; may be below 0, NaN with two schemes.

    Unbiased for unequal variances: k/(k − 2) · (R_j − ΣR/(k (k − 1))), R_j = Σᵢ r²ᵢⱼ/(m − 1) (Grubbs 1948).
    """
    seeds, k = cells.shape
    if k < 3:
        return np.full(k, math.nan)
    squares = (residuals(cells) ** 2).sum(axis=0) / (seeds - 1)
    return np.asarray(k / (k - 2) * (squares - squares.sum() / (k * (k - 1))))


def larger_of_two(cells: Floats) -> Floats:
    """Per scheme, the larger of the pooled residual variance and its own; the pooled one with two schemes."""
    return np.fmax(pooled_variance(cells), own_variances(cells))


def largest(cells: Floats) -> tuple[float, int]:
    """p of "no scheme scatters more than the others" and the place of the one that scatters most.

    Cochran's (1941) test of the largest variance, carried over to residuals: under equal variances the share
    k/(k − 1) · R_j/ΣR is Beta((m − 1)/2, (m − 1)(k − 2)/2); Bonferroni over schemes. NaN with two schemes, where the
    residuals mirror each other, and without spread.
    """
    seeds, k = cells.shape
    squares = (residuals(cells) ** 2).sum(axis=0)
    if k < 3 or not squares.sum() > 0:
        return math.nan, 0
    share = min(float(k / (k - 1) * squares.max() / squares.sum()), 1.0)
    p = float(k * special.betainc((seeds - 1) * (k - 2) / 2, (seeds - 1) / 2, 1 - share))
    return min(1.0, p), int(squares.argmax())


def largest_unpaired(sd: Floats, n: Floats) -> tuple[float, int]:
    """The same for independent samples of ``n`` values with standard deviations ``sd``, those of two values or more.

    Cochran's share of the sum of squares is Beta(v/2, (V − v)/2), v its degrees of freedom and V those of all.
    """
    known = np.flatnonzero(n > 1)
    v = n[known] - 1
    squares = v * sd[known] ** 2
    if len(known) < 2 or not squares.sum() > 0:
        return math.nan, 0
    tails = special.betainc((v.sum() - v) / 2, v / 2, 1 - np.minimum(squares / squares.sum(), 1.0))
    return min(1.0, float(len(known) * tails.min())), int(known[tails.argmin()])


def own_half(gaps: ArrayLike, share: float | None = None, comparisons: int = 1) -> float:
    """Half-width of Student's t interval of a mean difference from its own values alone.

    Args:
        gaps: ``[seeds]``.
        share: Variance of the mean over that of a value; 1/seeds unless given.
        comparisons: So many intervals hold together (Bonferroni).
    """
    x = np.asarray(gaps, dtype=np.float64)
    if len(x) < 2:
        return math.nan
    spread = float(x.std(ddof=1)) * math.sqrt(1 / len(x) if share is None else share)
    return quantile(len(x) - 1, comparisons) * spread


def quantile(df: float, comparisons: int = 1) -> float:
    """Student's t at :data:`CONFIDENCE`, two-sided, for so many intervals together; NaN without degrees of freedom."""
    return float(special.stdtrit(df, 1 - (1 - CONFIDENCE) / 2 / comparisons)) if df else math.nan


def note_of_few(seeds: int) -> str:
    """What must be said of intervals from few seeds, with its semicolon; empty from :data:`FEW` on."""
    if seeds >= FEW:
        return ""
    return f"; {OWN_TOO}" + ("; two seeds say little of a spread" if seeds == 2 else "")


def scatter(p: float, scheme: str, noun: str = "scheme") -> str:
    """The warning where :func:`largest` is below 0.05, without a full stop; empty otherwise."""
    if not p < 1 - CONFIDENCE:
        return ""
    return f"one {noun}'s seeds scatter more than the others' ({scheme}; Cochran {p_value(p)})"
