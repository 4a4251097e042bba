"""Paired comparisons of schemes that were measured on the same batches (common random numbers)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import UsageError
from kdstats.estimators.intervals import t_quantile
from kdstats.estimators.log_value import LogValue


@dataclass(frozen=True, slots=True)
class Comparison:
    """``a`` against ``b``: T. stddev of ``a`` minus that of ``b``.

    Attributes:
        a: First scheme.
        b: Second scheme, the reference.
        difference: In units of T. stddev.
        low: Lower end of its interval.
        high: Upper end.
        relative: ``a / b − 1``, a fraction, with its own interval ``relative_low … relative_high``.
        relative_low: Lower end.
        relative_high: Upper end.
        p: Two-sided p-value of "equal", Student's t on the paired pseudo-values of the logarithm.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float
    p: float


def compare(name_a: str, a: LogValue, name_b: str, b: LogValue, confidence: float = 0.95) -> Comparison:
    """Paired comparison; the units of ``a`` and ``b`` must be the same batches in the same order.

    Raises:
        UsageError: Unlike numbers of units.
    """
    from scipy.special import stdtr

    centre, se, df = _paired(a, b)
    half = t_quantile(confidence, df) * se
    gap = math.log(a.value / b.value)
    p = 2 * float(stdtr(df, -abs(centre) / se)) if se > 0 else (1.0 if centre == 0 else 0.0)
    point, low, high = (math.expm1(x) for x in (gap, centre - half, centre + half))
    return Comparison(
        a=name_a,
        b=name_b,
        difference=b.value * point,
        low=b.value * low,
        high=b.value * high,
        relative=point,
        relative_low=low,
        relative_high=high,
        p=p,
    )


def _paired(a: LogValue, b: LogValue) -> tuple[float, float, float]:
    if len(a.pseudo) != len(b.pseudo):
        raise UsageError(f"a paired comparison needs the same units, not {len(a.pseudo)} and {len(b.pseudo)}")
    gaps = a.pseudo - b.pseudo
    control = (a.control_slope - b.control_slope) * max(a.control_se, b.control_se)
    law = 0.0 if a is b else a.law_se**2 + b.law_se**2
    se = math.sqrt(float(gaps.var(ddof=1)) / len(gaps) + control**2 + law)
    return a.centre - b.centre, se, min(a.df, b.df)


def probability_lowest(
    values: Mapping[str, LogValue], rng: np.random.Generator, draws: int = 20_000
) -> dict[str, float]:
    """For each scheme the probability that its T. stddev is the lowest, given the estimates and their covariance.

    Normal approximation on the log scale, from the joint pseudo-values; ties in a draw (exactly equal schemes)
    are shared. A scheme may have fewer units than another, if its units are the first ones of the other's.

    Args:
        values: Scheme → its value, all measured on the same batches.
        rng: Source of the normal draws.
        draws: How many.
    """
    names = list(values)
    counts = np.array([len(values[n].pseudo) for n in names])
    slope = np.array([values[n].control_slope for n in names])
    se = max(v.control_se for v in values.values())
    # Means over the first n_i and the first n_j units of one sequence have covariance c / max(n_i, n_j).
    covariance = _unit_covariance([values[n].pseudo for n in names]) / np.maximum.outer(counts, counts)
    covariance += np.outer(slope, slope) * se**2 + np.diag([values[n].law_se ** 2 for n in names])
    centres = np.array([values[n].centre for n in names])
    sample = rng.multivariate_normal(centres, covariance, size=draws, method="eigh")
    # Equal schemes come out of the decomposition with gaps of 1e-8 of their spread; real gaps are far larger.
    tie = 1e-6 * math.sqrt(float(np.diag(covariance).max()))
    lowest = sample <= sample.min(axis=1, keepdims=True) + tie
    share = (lowest / lowest.sum(axis=1, keepdims=True)).mean(axis=0)
    return {name: float(p) for name, p in zip(names, share, strict=True)}


def _unit_covariance(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """``[S, S]`` covariance of one unit's pseudo-values.

    Variances from all units of a scheme, correlations from the units that all have, so that the matrix stays one
    of a possible covariance.
    """
    common = min(map(len, columns))
    shared = np.stack([column[:common] for column in columns])
    sd = np.array([column.std(ddof=1) for column in columns])
    here = shared.std(axis=1, ddof=1)
    scale = np.divide(sd, here, out=np.ones_like(sd), where=here > 0)
    return np.asarray(np.atleast_2d(np.cov(shared)) * np.outer(scale, scale))
