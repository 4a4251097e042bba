"""Pearson's r, Spearman's rho and Kendall's tau-b, as points and over many resamples at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdstats.errors import CheckError, UsageError, unknown

METHODS = ("pearson", "spearman", "kendall")
SYMBOLS = {"pearson": "r", "spearman": "ρ", "kendall": "τ"}

Floats = NDArray[np.float64]
_CHUNK = 2_000_000  # entries of a resample block held at once (16 MB of float64)


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One correlation coefficient.

    Attributes:
        method: One of :data:`METHODS`.
        estimate: In [-1, 1].
        p_value: Two-sided, of scipy's default test: exact beta law under normality for Pearson, Student's t
            for Spearman, for Kendall the exact law where there are no ties (and n <= 33) and the normal
            approximation otherwise.
        n: Number of points.
    """

    method: str
    estimate: float
    p_value: float
    n: int


def check_method(method: str) -> str:
    """``method`` if it is one of :data:`METHODS`; ``UsageError`` with the nearest one otherwise."""
    if method not in METHODS:
        raise unknown("correlation coefficient", method, METHODS)
    return method


def check_pair(x: ArrayLike, y: ArrayLike, where: str = "") -> tuple[Floats, Floats]:
    """Two equally long, finite, non-constant float64 columns.

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
        where: Appended to messages, e.g. ``" in panel 'a'"``.

    Raises:
        UsageError: Not one-dimensional, unlike lengths, fewer than 3 points, NaN or Inf.
        CheckError: A column is constant, or varies only in its last digits.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise UsageError(
            f"x and y must be two columns of one length, got shapes {a.shape} and {b.shape}{where}"
        )
    if a.size < 3:
        raise UsageError(f"a correlation needs at least 3 points, got {a.size}{where}")
    for name, column in (("x", a), ("y", b)):
        check_varies(column, name, where)
    return a, b


def check_varies(column: Floats, name: str, where: str = "") -> None:
    """Refuses a column that is not finite (``UsageError``) or does not vary (``CheckError``)."""
    if not np.isfinite(column).all():
        rows = np.flatnonzero(~np.isfinite(column))[:5]
        raise UsageError(f"{name} holds NaN or Inf at position {', '.join(map(str, rows))}{where}")
    low, high = float(column.min()), float(column.max())
    if low == high:
        raise CheckError(f"{name} is constant ({low:g}){where}: no correlation is defined")
    if not math.isfinite(high - low):
        raise CheckError(f"{name} spans more than a float64 can hold{where}; rescale it")
    # Below this spread the differences are rounding errors of the column itself (scipy warns there too).
    if (high - low) < 1e-13 * max(abs(low), abs(high)):
        raise CheckError(
            f"{name} varies only in its last digits (near {high:g}){where}: no correlation is defined"
        )


def coefficient(method: str, x: ArrayLike, y: ArrayLike) -> Coefficient:
    """One coefficient with scipy's default p-value.

    Args:
        method: One of :data:`METHODS`.
        x: Predictor, (n,).
        y: Outcome, (n,).

    Raises:
        UsageError: Unknown method, unlike lengths, NaN or Inf.
        CheckError: A constant column.

    >>> round(coefficient("kendall", [1, 2, 3, 4, 5], [1, 3, 2, 4, 5]).estimate, 12)
    0.8
    """
    from scipy import stats  # a third of a second that programs without a coefficient need not wait for

    check_method(method)
    a, b = check_pair(x, y)
    if method == "pearson":
        r = stats.pearsonr(_unit(a), _unit(b))
        return Coefficient(method, float(r.statistic), float(r.pvalue), a.size)
    if method == "spearman":
        s = stats.spearmanr(a, b)
        return Coefficient(method, float(np.clip(s.statistic, -1, 1)), float(s.pvalue), a.size)
    t = stats.kendalltau(a, b)
    return Coefficient(method, float(t.statistic), float(t.pvalue), a.size)


def exponent_of(column: Floats) -> int:
    """The power of two e with 0.5 <= max |column| · 2**-e < 1."""
    return int(np.frexp(np.abs(column).max())[1])


def times_two_to(column: Floats, exponent: int) -> Floats:
    """``column`` · 2**exponent, same shape; exact but for what becomes too small or too large for a float64."""
    with np.errstate(under="ignore", over="ignore"):
        out: Floats = np.ldexp(column, exponent)
    return out


def in_given_units(value: float, exponent: int, what: str) -> float:
    """``value`` · 2**exponent, for results of columns that were brought to unit size; ±inf and 0 stay.

    Raises:
        CheckError: NaN, or a number that a float64 does not hold; ``what`` names it.
    """
    if math.isnan(value):
        raise CheckError(f"{what} is undefined for these columns: are they of extreme scale? rescale them")
    try:
        out = math.ldexp(value, exponent)
    except OverflowError:
        out = 0.0
    if out == 0 and value != 0:
        raise CheckError(f"{what} is more or less than a float64 can hold: rescale the columns")
    return out


def _unit(column: Floats) -> Floats:
    # r does not change under a shift and a power of two; products of columns near 1e±200 would overflow.
    return times_two_to(column, -exponent_of(column))


def centred(column: Floats) -> Floats:
    """``column`` minus its mean, scaled to a largest absolute value near 1 (same shape)."""
    scaled = _unit(column)
    out: Floats = _unit(scaled - scaled.mean())
    return out


def midranks(column: Floats) -> Floats:
    """Ranks 1..n, ties given their mean rank, centred at zero; (n,)."""
    from scipy import stats

    out: Floats = stats.rankdata(column) - (column.size + 1) / 2
    return out


def pair_signs(column: Floats) -> Floats:
    """sign(column[i] - column[j]), (n, n)."""
    return np.sign(column[:, None] - column[None, :])


def blocks(rows: int, width: int) -> Iterator[int]:
    """Sizes of consecutive blocks that cover ``rows`` rows of ``width`` entries in bounded memory."""
    step = max(1, _CHUNK // max(width, 1))
    for start in range(0, rows, step):
        yield min(step, rows - start)


class Counted:
    """The three coefficients of resamples given as counts, by matrix products instead of a loop.

    A resample of n points is a row w of counts: point i occurs w_i times, N = sum of w. With X_ij = sign(x_i
    - x_j) and Y_ij alike,

    * Pearson uses the weighted moments, e.g. S_xy = w.(x y) - (w.x)(w.y)/N;
    * the midrank of point i inside the resample is (1 + N + (X w)_i) / 2, so Spearman is the weighted moment
      ratio of X w and Y w;
    * Kendall's tau-b is w'(X*Y)w / sqrt( w'|X|w . w'|Y|w ) (Kendall 1945, ties included).

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        self._x, self._y = centred(x), centred(y)
        self._sx, self._sy = pair_signs(x), pair_signs(y)
        self._both, self._ax, self._ay = self._sx * self._sy, np.abs(self._sx), np.abs(self._sy)

    def __call__(self, counts: Floats) -> Floats:
        """Coefficients of each resample.

        Args:
            counts: (B, n) counts as floats.

        Returns:
            (B, 3) in the order of :data:`METHODS`. A row is NaN in full where the resample is *degenerate*
            (one of its columns is constant); callers must count and report such rows.
        """
        total = counts.sum(axis=1)
        untied_x = ((counts @ self._ax) * counts).sum(axis=1)  # whole numbers: zero means constant, exactly
        untied_y = ((counts @ self._ay) * counts).sum(axis=1)
        out = np.full((counts.shape[0], 3), np.nan)
        fine = (untied_x > 0) & (untied_y > 0)
        w, total = counts[fine], total[fine]
        x, y = self._x, self._y
        mx, my = w @ x / total, w @ y / total
        sxy = w @ (x * y) - total * mx * my
        sxx, syy = w @ (x * x) - total * mx * mx, w @ (y * y) - total * my * my
        # Cancellation can leave a spread below the rounding of its own terms; recompute those rows exactly.
        for row in np.flatnonzero((sxx < 1e-8 * (w @ (x * x))) | (syy < 1e-8 * (w @ (y * y)))):
            dx, dy = x - mx[row], y - my[row]
            sxx[row], syy[row], sxy[row] = w[row] @ (dx * dx), w[row] @ (dy * dy), w[row] @ (dx * dy)
        out[fine, 0] = sxy / np.sqrt(sxx * syy)
        rx, ry = w @ self._sx, w @ self._sy  # minus twice the centred midranks: the sign cancels
        ranks = ((w * rx * ry).sum(axis=1), (w * rx * rx).sum(axis=1), (w * ry * ry).sum(axis=1))
        out[fine, 1] = ranks[0] / np.sqrt(ranks[1] * ranks[2])
        out[fine, 2] = ((w @ self._both) * w).sum(axis=1) / np.sqrt(untied_x[fine] * untied_y[fine])
        clipped: Floats = np.clip(out, -1, 1)
        return clipped
