"""Straight line through points whose x and y both carry known standard errors (Deming, York)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from kdstats.association.coefficients import check_pair, in_given_units
from kdstats.association.columns import each_panel, panels_for
from kdstats.association.noisy_line import NoisyLine, added_variance, scatter_of, slopes_within
from kdstats.association.panels import SMALLEST_N, Columns, Panel
from kdstats.association.result import Result
from kdstats.association.standard_errors import error_column, errors_of, scaled_with_errors
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence, t_quantile

SCATTERS = ("estimated", "none")
_ON_A_LINE = 1e-12  # of standard deviations: rounding


@dataclass(frozen=True, slots=True)
class DemingFit(Result):
    """A line with errors in both variables.

    Attributes:
        slope: Units of y per unit of x.
        slope_se: Its standard error.
        slope_low: Lower end of its interval; -inf where the data do not bound it.
        slope_high: Upper end; inf alike.
        intercept: Value of the line at x = 0, units of y.
        intercept_se: Its standard error.
        intercept_low: Lower end of its interval, Student's t with n - 2 degrees of freedom.
        intercept_high: Upper end.
        naive_slope: Least squares slope, attenuated by the errors of x.
        scatter: Standard deviation of y around the line beyond its known errors, units of y.
        chi2: Weighted sum of squares with known errors alone.
        p_fit: Chance of a larger ``chi2`` if the known errors were all the scatter there is; NaN where it is
            undefined (points without any error).
        n: Points.
        confidence: Nominal coverage of the intervals.
        method: In words that can stand in a caption.
        notes: Warnings that stay with the numbers.
    """

    slope: float
    slope_se: float
    slope_low: float
    slope_high: float
    intercept: float
    intercept_se: float
    intercept_low: float
    intercept_high: float
    naive_slope: float
    scatter: float
    chi2: float
    p_fit: float
    n: int
    confidence: float
    method: str
    notes: tuple[str, ...] = ()


def deming_fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_se: ArrayLike | None,
    y_se: ArrayLike | None,
    scatter: str = "estimated",
    confidence: float = 0.95,
) -> DemingFit:
    """Slope and intercept when x and y are measured with known standard errors.

    The line minimises S(b) = sum (y_i - a - b x_i)² / (y_se_i² + b² x_se_i² + s²): Deming's line where all
    errors are alike, York's (York et al. 2004) where they differ and s = 0. ``scatter="none"`` keeps s = 0:
    every point would lie on the line but for its errors. ``"estimated"`` raises s until S = n - 1, its
    expectation at the true slope (Paule and Mandel 1982; Tremaine et al. 2002 for lines), because schemes differ
    for more reasons than the predictor; with alike errors the slope is then S_xy / (S_xx - (n - 1) x_se²), the
    moment estimator (Fuller 1987, section 1.2). Where S is below n - 1 already, s = 0 and both agree. Errors
    must be independent from point to point: an error that all points share moves the intercept alone and must
    not be in ``x_se``.

    Interval of the slope: at the true b the residual e = y - b x and the adjusted x̂ = x + b x_se² e / V are
    independent, so all b are kept at which the weighted regression of e on x̂ has |t| below Student's quantile
    with n - 2 degrees of freedom (Creasy 1956 and Williams 1959 where errors are alike). It is the ordinary one
    when x has no error, does not change when all errors are scaled alike and s = 0, and is unbounded where the
    spread of x hardly exceeds its errors. ``slope_se`` is the slope of that t, inverted.

    Coverage of the slope's interval, nominal 0.95, at nine points with true correlation 0, 0.6, 0.95 (2,000
    replications; ``benchmarks/results/coverage_association.md``), by the reliabilities of x and y:

    ==========  ===================  ==============================================
    0.99, 0.95  0.954, 0.933, 0.956
    0.9, 0.9    0.946, 0.949, 0.944
    0.7, 0.7    0.947, 0.936, 0.935  noted; 2 % without a bounded interval
    0.5, 0.5    0.928, 0.926, 0.942  noted; 10 % without; median slope 0.82 of 0.95
    ==========  ===================  ==============================================

    The intercept's interval has not been simulated, nor has ``scatter="none"``.

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
        x_se: Standard errors of x, one or (n,); None for none.
        y_se: Standard errors of y alike.
        scatter: One of :data:`SCATTERS`.
        confidence: Nominal coverage, a fraction.

    Raises:
        UsageError: Fewer than 5 points, unlike lengths, NaN, Inf, negative errors, unknown ``scatter``.
        CheckError: A constant column, points without any error under ``scatter="none"``, a best line that
            is vertical, errors beyond all measure, or columns whose line or interval a float64 does not hold.
    """
    check_confidence(confidence)
    if scatter not in SCATTERS:
        raise unknown("value of scatter", scatter, SCATTERS)
    a, b = check_pair(x, y)
    n = a.size
    if n < SMALLEST_N:
        raise UsageError(f"a line with an interval needs at least {SMALLEST_N} points, got {n}")
    (a, ex, unit_x), (b, ey, unit_y) = (
        scaled_with_errors(a, errors_of(x_se, n, "x_se"), "x"),
        scaled_with_errors(b, errors_of(y_se, n, "y_se"), "y"),
    )
    mx, my, sx, sy = float(a.mean()), float(b.mean()), float(a.std(ddof=1)), float(b.std(ddof=1))
    u, v, vx, vy = (a - mx) / sx, (b - my) / sy, (ex / sx) ** 2, (ey / sy) ** 2
    exact = (vx == 0) & (vy == 0)
    if scatter == "none" and exact.any():
        raise CheckError(
            f"point {int(np.flatnonzero(exact)[0])} has no error in x or y; give it one or use "
            "scatter='estimated'"
        )
    estimated = scatter == "estimated"
    naive = float((u * v).sum() / (u * u).sum())
    method = (
        "errors in variables (York), "
        + ("scatter beyond the errors estimated" if estimated else "known errors only")
        + ", Creasy-Williams interval"
    )

    def units(value: float, what: str) -> float:
        return in_given_units(value, unit_y - (unit_x if what.endswith("slope") else 0), what)

    if float(np.abs(v - naive * u).max()) <= _ON_A_LINE:
        slope, start = units(naive * sy / sx, "the slope"), units(my - naive * sy / sx * mx, "the intercept")
        chi2 = math.nan if exact.any() else 0.0
        return DemingFit(
            slope=slope,
            slope_se=0.0,
            slope_low=slope,
            slope_high=slope,
            intercept=start,
            intercept_se=0.0,
            intercept_low=start,
            intercept_high=start,
            naive_slope=slope,
            scatter=0.0,
            chi2=chi2,
            p_fit=math.nan if exact.any() else 1.0,
            n=n,
            confidence=confidence,
            method=method,
            notes=(
                "all points lie on a line: there is no scatter to judge it by and the intervals have no width",
            ),
        )
    known = NoisyLine(u, v, vx, vy)
    chi2 = math.nan if exact.any() else known.best()[1]
    tau2 = scatter_of(known) if estimated else 0.0
    line = NoisyLine(u, v, vx, vy + tau2)
    angle = line.best()[0]
    if abs(math.cos(angle)) < 1e-6:
        raise CheckError("the best line is vertical: the spread of x does not exceed its standard errors")
    slope, scale, notes = math.tan(angle), sy / sx, list[str]()
    quantile = t_quantile(confidence, n - 2)
    low, high = slopes_within(known, angle, quantile, estimated=estimated)
    if math.isinf(low) or math.isinf(high):
        notes.append("the data do not bound the slope on one side or both: x is too noisy for its spread")
    step = 1e-4 * math.cos(angle) ** 2
    t = known.t(np.array([angle - step, angle + step]), estimated=estimated)
    se = (math.tan(angle + step) - math.tan(angle - step)) / abs(float(t[1] - t[0]))
    w = 1 / (line.vy + slope**2 * vx)
    e = v - slope * u
    height = float((w * e).sum() / w.sum())
    centre = float((w * (u + slope * vx * w * (e - height))).sum() / w.sum())
    residual = float((w * (e - height) ** 2).sum()) / (n - 2)
    intercept = my + sy * height - slope * scale * mx
    # The height of the line at the centre and its slope vary independently.
    intercept_se = sy * math.sqrt(residual / float(w.sum()) + (centre + mx / sx) ** 2 * se**2)
    p_fit = math.nan if math.isnan(chi2) else float(special.chdtrc(n - 2, chi2))
    if not estimated and p_fit < 0.05:
        notes.append(
            f"points scatter more than their errors allow (chi² {chi2:.3g} on {n - 2}): slope and interval are "
            "those of a model that does not fit; use scatter='estimated'"
        )
    if float(vx.mean()) > 0.2:
        notes.append(f"{float(vx.mean()):.0%} of the spread of x is error: the interval may be too short")
    left = 0.0
    if tau2 > 0:  # squares around a fitted line have n - 2 degrees of freedom
        left = float(added_variance((v - slope * u)[None], (vy + slope**2 * vx)[None], n - 2)[0])
    return DemingFit(
        slope=units(slope * scale, "the slope"),
        slope_se=units(se * scale, "the standard error of the slope"),
        slope_low=units(low * scale, "an end of the slope"),
        slope_high=units(high * scale, "an end of the slope"),
        intercept=units(intercept, "the intercept"),
        intercept_se=units(intercept_se, "the standard error of the intercept"),
        intercept_low=units(intercept - quantile * intercept_se, "an end of the intercept"),
        intercept_high=units(intercept + quantile * intercept_se, "an end of the intercept"),
        naive_slope=units(naive * scale, "the least-squares slope"),
        scatter=units(math.sqrt(left) * sy, "the scatter"),
        chi2=chi2,
        p_fit=p_fit,
        n=n,
        confidence=confidence,
        method=method,
        notes=tuple(notes),
    )


def deming(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_se: str | float | None,
    y_se: str | float | None,
    group: Columns = None,
    label: str | None = None,
    scatter: str = "estimated",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """:func:`deming_fit` of every panel.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        x_se: Column with the standard errors of x, one number for all points, or None for no error.
        y_se: The same for y. A spread over seeds is not a standard error: divide it by the root of their number.
        group: Column or columns that tell panels apart.
        label: Column that names the points.
        scatter: ``"estimated"`` or ``"none"``.
        confidence: Nominal coverage, a fraction.

    Returns:
        One row a panel: the group columns, then the fields of :class:`DemingFit`; notes as text.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split` and :func:`deming_fit`.
        CheckError: See :func:`deming_fit`; the panel is named.
    """
    panels = panels_for(df, DemingFit.columns(), x=x, y=y, group=group, label=label)
    ex, ey = error_column(df, x_se, "x_se"), error_column(df, y_se, "y_se")

    def fit(panel: Panel) -> Iterator[dict[str, Any]]:
        errors = {"x_se": ex[panel.rows], "y_se": ey[panel.rows]}
        yield deming_fit(panel.x, panel.y, **errors, scatter=scatter, confidence=confidence).to_dict()

    return each_panel(panels, group, fit)
