"""Correction of p-values for testing many panels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdstats.errors import CheckError, UsageError


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment (Holm 1979), valid under any dependence between the tests.

    Adjusted p of the i-th smallest of k: max over j <= i of (k - j + 1) p_(j), at most 1.

    Args:
        p_values: (k,) in [0, 1].

    Returns:
        Adjusted p-values in the order given, (k,).

    Raises:
        UsageError: Not one-dimensional.
        CheckError: NaN, or outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise UsageError(f"p-values must be one column, got shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise CheckError("a p-value is missing or outside [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * (p.size - np.arange(p.size))))
    out = np.empty_like(p)
    out[order] = stepped
    return out
