"""Correlation of what was meant to be measured: Pearson's r freed from known errors of measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from kdstats.association.coefficients import check_pair, coefficient
from kdstats.association.columns import each_panel, panels_for
from kdstats.association.intervals import z_interval
from kdstats.association.panels import SMALLEST_N, Columns, Panel
from kdstats.association.result import Result
from kdstats.association.standard_errors import error_column, errors_of, scaled_with_errors
from kdstats.errors import UsageError
from kdstats.estimators.intervals import check_confidence


@dataclass(frozen=True, slots=True)
class Disattenuated(Result):
    """Pearson's correlation of the true values behind x and y.

    Attributes:
        estimate: In [-1, 1]; NaN, with the reason in ``notes``, where a reliability is not positive.
        low: Lower end of its interval; -1 and 1 where the data say nothing.
        high: Upper end.
        raw: Spearman's quotient before it is kept within [-1, 1]; NaN as ``estimate``.
        observed: Pearson's r of the columns as they are.
        p_value: Two-sided, for no correlation: that of ``observed``, since errors alone create none.
        reliability_x: Share of the variance of x that is not error of measurement; may come out negative.
        reliability_y: The same of y.
        n: Points.
        confidence: Nominal coverage.
        method: In words that can stand in a caption.
        notes: Warnings that stay with the numbers.
    """

    estimate: float
    low: float
    high: float
    raw: float
    observed: float
    p_value: float
    reliability_x: float
    reliability_y: float
    n: int
    confidence: float
    method: str
    notes: tuple[str, ...] = ()


def disattenuate(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_se: ArrayLike | None,
    y_se: ArrayLike | None,
    confidence: float = 0.95,
) -> Disattenuated:
    """r / sqrt(reliability of x · reliability of y) (Spearman 1904), reliability = 1 - mean(se²)/s², ddof 1.

    Where the quotient leaves [-1, 1] the estimate is the nearer end, with a note and the quotient in ``raw``:
    the errors given are then larger than the scatter that was seen. Where a reliability is not positive there is
    no estimate, only the interval.

    Interval: all ρ whose profile likelihood under normal true values and errors of variance mean(se²) lies near
    enough to the largest, twice the logarithm of their ratio being at most 2(n-1) log cosh(q / sqrt(n-3)), q the
    normal quantile. With no errors this is Fisher's interval exactly; with errors it stays within [-1, 1] and
    grows to all of it as a reliability approaches zero.

    Coverage, nominal 0.95, at nine points with true correlation 0, 0.6, 0.95 (2,000 replications;
    ``benchmarks/results/coverage_association.md``), by the reliabilities of x and y; the quotient leaves [-1, 1], or a
    reliability is not positive, in the share of samples given:

    ==========  ===================  ===================  ============================
    setting     coverage             without a quotient   median estimate of 0.6, 0.95
    ==========  ===================  ===================  ============================
    0.99, 0.95  0.952, 0.952, 0.968  0.000, 0.003, 0.129  0.64, 0.96
    0.9, 0.9    0.948, 0.949, 0.991  0.006, 0.034, 0.419  0.65, 0.98
    0.7, 0.7    0.960, 0.984, 0.995  0.170, 0.288, 0.625  0.71, 1.00
    0.5, 0.5    0.979, 0.998, 0.997  0.465, 0.562, 0.718  0.78, 1.00
    ==========  ===================  ===================  ============================

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
        x_se: Standard errors of x, one or (n,); None for none. Independent from point to point: what all points
            share does not attenuate.
        y_se: Standard errors of y alike.
        confidence: Nominal coverage, a fraction.

    Raises:
        UsageError: Fewer than 5 points, unlike lengths, NaN, Inf, negative errors.
        CheckError: A constant column.
    """
    check_confidence(confidence)
    a, b = check_pair(x, y)
    n = a.size
    if n < SMALLEST_N:
        raise UsageError(f"a correlation with an interval needs at least {SMALLEST_N} points, got {n}")
    (a, ex, _), (b, ey, _) = (  # the result has no unit
        scaled_with_errors(a, errors_of(x_se, n, "x_se"), "x"),
        scaled_with_errors(b, errors_of(y_se, n, "y_se"), "y"),
    )
    found = coefficient("pearson", a, b)
    # Errors relative to the spread before squaring: a column near 1e-200 would lose its squares.
    dx = float(((ex / a.std(ddof=1)) ** 2).mean())
    dy = float(((ey / b.std(ddof=1)) ** 2).mean())
    notes: list[str] = []
    raw = estimate = math.nan
    bad = [
        f"the reliability of {name} is {1 - d:.3g}: its spread does not exceed its standard errors, so there is "
        "no corrected correlation"
        for name, d in (("x", dx), ("y", dy))
        if d >= 1
    ]
    notes += bad
    if not bad:
        raw = found.estimate / math.sqrt((1 - dx) * (1 - dy))
        estimate = min(max(raw, -1.0), 1.0)
        if abs(raw) > 1:
            notes.append(
                f"the quotient is {raw:.4g} and was set to {estimate:+.0f}: errors exceed the scatter seen"
            )
    if dx == dy == 0 or abs(found.estimate) > 1 - 1e-12:
        plain = z_interval("pearson", found.estimate, n, confidence=confidence)
        low, high, form = plain.low, plain.high, plain.method
        notes += plain.notes
    else:
        low, high = _profile(found.estimate, dx, dy, n, confidence)
        form = "profile likelihood"
        if not bad:
            low, high = min(low, estimate), max(high, estimate)
    return Disattenuated(
        estimate=estimate,
        low=low,
        high=high,
        raw=raw,
        observed=found.estimate,
        p_value=found.p_value,
        reliability_x=1 - dx,
        reliability_y=1 - dy,
        n=n,
        confidence=confidence,
        method=f"Pearson, corrected for attenuation by known standard errors ({form} interval)",
        notes=tuple(notes),
    )


def _deviance(rho: float, r: float, dx: float, dy: float) -> float:
    """min over true sds a, b of log|V| + tr(V^-1 R), R = [[1, r], [r, 1]], V = true covariance + diag(dx, dy)."""
    unit = np.linspace(0.0, 1.0, 25)
    low_a, low_b, size = 0.0, 0.0, 3.0  # V matches a spread of 1, so that no best sd is beyond 3
    least = math.inf
    # A grid that closes in: the surface may have a second hollow at a = 0 or b = 0, which descent can miss.
    for _ in range(10):
        a, b = (low_a + size * unit)[:, None], (low_b + size * unit)[None, :]
        p, q, c = a * a + dx, b * b + dy, rho * a * b
        det = p * q - c * c
        safe = np.where(det > 1e-14 * p * q, det, 1.0)
        value = np.where(det > 1e-14 * p * q, np.log(safe) + (p + q - 2 * c * r) / safe, np.inf)
        i, j = divmod(int(np.argmin(value)), unit.size)
        least = float(value[i, j])
        step = size / (unit.size - 1)
        low_a, low_b = max(low_a + (i - 2) * step, 0.0), max(low_b + (j - 2) * step, 0.0)
        size = 4 * step
    return least


def _profile(r: float, dx: float, dy: float, n: int, confidence: float) -> tuple[float, float]:
    q = float(special.ndtri(0.5 + confidence / 2))
    cutoff = 2 * math.log(math.cosh(q / math.sqrt(n - 3)))

    def deviance(rho: float) -> float:
        return _deviance(rho, r, dx, dy)

    inside = 0.0 if max(dx, dy) >= 1 else r / math.sqrt((1 - dx) * (1 - dy))
    best = min(max(inside, -1.0), 1.0)
    if max(dx, dy) >= 1 or abs(inside) > 1:
        grid = np.linspace(-1, 1, 41)
        values = [deviance(float(rho)) for rho in grid]
        best = float(grid[int(np.argmin(values))])
    level = deviance(best) + cutoff

    def end(edge: float) -> float:
        if deviance(edge) <= level:
            return edge
        return float(optimize.brentq(lambda rho: deviance(rho) - level, best, edge, xtol=1e-9))

    return end(-1.0), end(1.0)


def disattenuated(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_se: str | float | None,
    y_se: str | float | None,
    group: Columns = None,
    label: str | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """:func:`disattenuate` of every panel.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        x_se: Column with the standard errors of x, one number for all points, or None for no error.
        y_se: The same for y. A spread over seeds is not a standard error: divide it by the root of their number.
        group: Column or columns that tell panels apart.
        label: Column that names the points.
        confidence: Nominal coverage, a fraction.

    Returns:
        One row a panel: the group columns, then the fields of :class:`Disattenuated`; notes as text.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split` and :func:`disattenuate`.
        CheckError: A column is constant within a panel.
    """
    panels = panels_for(df, Disattenuated.columns(), x=x, y=y, group=group, label=label)
    ex, ey = error_column(df, x_se, "x_se"), error_column(df, y_se, "y_se")

    def corrected(panel: Panel) -> Iterator[dict[str, Any]]:
        errors = {"x_se": ex[panel.rows], "y_se": ey[panel.rows]}
        yield disattenuate(panel.x, panel.y, **errors, confidence=confidence).to_dict()

    return each_panel(panels, group, corrected)
