"""Slope or correlation of noisy copies of two columns, with all points and with each left out: the work of SIMEX."""

from __future__ import annotations

import numpy as np

from kdstats.association.coefficients import Floats


def both_signs(u: Floats, v: Floats, nx: Floats, ny: Floats, statistic: str) -> Floats:
    """The statistic of columns (n,) with noise (B, n), averaged over each noise and its negative: (1 + n, B).

    Row 0 holds all points, row i leaves point i - 1 out. ``statistic`` is ``"slope"`` or ``"pearson"``.
    """
    plus = _left_out(u + nx, v + ny, statistic)
    out: Floats = (plus + _left_out(u - nx, v - ny, statistic)) / 2
    return out


def _left_out(p: Floats, q: Floats, statistic: str) -> Floats:
    """The statistic of (B, n) columns, all points and each left out: (1 + n, B)."""
    n = p.shape[1]
    p, q = p - p.mean(axis=1, keepdims=True), q - q.mean(axis=1, keepdims=True)
    # Leaving point i out of centred columns takes n/(n-1) of its own product from each sum.
    part = n / (n - 1)

    def sums(c: Floats, d: Floats) -> Floats:
        product = c * d
        total = product.sum(axis=1)
        return np.concatenate([total[None], total - part * product.T])

    xy, xx = sums(p, q), sums(p, p)
    if statistic == "slope":
        out: Floats = xy / np.maximum(xx, 1e-300)
        return out
    return np.clip(xy / np.sqrt(np.maximum(xx * sums(q, q), 1e-300)), -1, 1)
