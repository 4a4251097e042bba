"""An interval of the mean of a few values between known bounds, which needs no spread among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import check_confidence


def bounded_mean(
    values: ArrayLike,
    *,
    lowest: float,
    highest: float,
    confidence: float = 0.95,
    draws: int = 9_999,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Gaffke's (2005) interval of a mean.

    Upper end: the 1 - α/2 quantile of sum_i D_i v_i + D_0 highest with (D_0, ..., D_n) uniform on the simplex;
    lower end alike with ``lowest``. Each end uses one bound only. For values of 0 and 1 it is the Clopper-Pearson
    interval. Student's t cannot serve where most values are equal: k panels without any regret have no spread,
    yet the next may have some.

    Args:
        values: (n,), at least one.
        lowest: Least value possible.
        highest: Greatest value possible.
        confidence: Nominal coverage, a fraction; reached or exceeded in every simulation known.
        draws: Random weight vectors.
        rng: Source of the weights.

    Raises:
        UsageError: No values, no draws, a confidence outside (0, 1).
        CheckError: A value is NaN or outside the bounds.

    >>> low, high = bounded_mean([0.0] * 9, lowest=0, highest=1, rng=np.random.default_rng(0))
    >>> low, round(high, 1)
    (0.0, 0.3)
    """
    check_confidence(confidence)
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size == 0:
        raise UsageError(f"values must be one column with at least one value, got shape {v.shape}")
    if draws < 1:
        raise UsageError(f"draws must be at least 1, got {draws}")
    if not ((v >= lowest) & (v <= highest)).all():
        raise CheckError(f"a value is missing or outside [{lowest:g}, {highest:g}]")
    tail = (1 - confidence) / 2
    weights = rng.dirichlet(np.ones(v.size + 1), draws)
    inside = weights[:, 1:] @ v
    # Weighted sums of equal values can miss them by a rounding error.
    mean = float(v.mean())
    low = float(np.quantile(inside + weights[:, 0] * lowest, tail))
    high = float(np.quantile(inside + weights[:, 0] * highest, 1 - tail))
    return max(min(low, mean), lowest), min(max(high, mean), highest)
