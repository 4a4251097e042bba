"""Straight line through points whose x and y both carry known standard errors (Deming, York)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from kdstats.association.coefficients import Floats, check_pair, exponent_of, in_given_units, times_two_to
from kdstats.association.columns import as_row, error_column, errors_of, naming, refuse_clash
from kdstats.association.panels import SMALLEST_N, Columns, group_columns, split
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence, t_quantile

SCATTERS = ("estimated", "none")
_ON_A_LINE = 1e-12  # of standard deviations: rounding
_LARGEST_ERROR = 1e50
_ANGLES = np.linspace(-math.pi / 2, math.pi / 2, 181)


@dataclass(frozen=True, slots=True)
class DemingFit:
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

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON."""
        return {**asdict(self), "notes": list(self.notes)}


class _Line:
    """Lines through points with variances vx, vy of their errors, on standardised columns.

    A line of direction t is cos(t) y - sin(t) x = const, so that a vertical one is no exception; its slope is
    tan(t). Off the line, e_i = cos y_i - sin x_i has variance V_i = cos² vy_i + sin² vx_i + tau2, and
    x̂_i = x_i + sin vx_i e_i / V_i is uncorrelated with e_i at the true line.
    """

    def __init__(self, x: Floats, y: Floats, vx: Floats, vy: Floats) -> None:
        self.x, self.y, self.vx, self.vy = x, y, vx, vy

    def off(self, angle: Floats) -> tuple[Floats, Floats]:
        """e and V without tau2 for (m,) angles, (m, n) each."""
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return c * self.y - s * self.x, c * c * self.vy + s * s * self.vx

    def s(self, angle: Floats) -> Floats:
        """S = min over the constant of sum (e_i - const)²/V_i at each of (m,) angles; inf for infinite weights."""
        e, v = self.off(angle)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = _squares(e, 1 / v)
        return np.where(np.isfinite(out), out, np.inf)

    def slope_of_s(self, angle: float) -> float:
        """dS/dt; the constant drops out because S is minimal in it."""
        c, s = math.cos(angle), math.sin(angle)
        w = 1 / (c * c * self.vy + s * s * self.vx)
        e = c * self.y - s * self.x
        e = e - (w * e).sum() / w.sum()
        turned = -s * self.y - c * self.x
        return float((2 * w * e * turned - (w * e) ** 2 * 2 * c * s * (self.vx - self.vy)).sum())

    def best(self) -> tuple[float, float]:
        """Angle of the smallest S, and that S."""
        grid = self.s(_ANGLES)
        step = float(_ANGLES[1] - _ANGLES[0])
        middle = float(_ANGLES[int(np.argmin(grid))])
        for _ in range(6):
            low, high = middle - step, middle + step
            if self.slope_of_s(low) < 0 < self.slope_of_s(high):
                middle = float(optimize.brentq(self.slope_of_s, low, high, xtol=1e-15, rtol=1e-14))
                break
            zoom = np.linspace(low, high, 101)
            middle, step = float(zoom[int(np.argmin(self.s(zoom)))]), step / 50
        return middle, float(self.s(np.array([middle]))[0])

    def t(self, angle: Floats, *, estimated: bool) -> Floats:
        """Student's t of the weighted regression of e on x̂ at each of (m,) angles, n - 2 degrees of freedom.

        With ``estimated``, tau2 makes the weighted squares of e equal to n - 1 at each angle. NaN where x̂ does
        not vary: nothing there speaks against the line.
        """
        e, v = self.off(angle)
        n = e.shape[1]
        if estimated:
            v = v + _added(e, v, n - 1)[:, None]
        w = 1 / v
        adjusted = self.x + np.sin(angle)[:, None] * self.vx * w * e
        e = e - (w * e).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        adjusted -= (w * adjusted).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        see, saa, sae = (w * e * e).sum(axis=1), (w * adjusted**2).sum(axis=1), (w * e * adjusted).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.where(saa > 1e-20, sae / np.sqrt(see * saa), np.nan)
            out: Floats = r * np.sqrt((n - 2) / np.maximum(1 - r * r, 1e-300))
        return out


def _squares(e: Floats, w: Floats) -> Floats:
    k = (w * e).sum(axis=-1, keepdims=True) / w.sum(axis=-1, keepdims=True)
    out: Floats = (w * (e - k) ** 2).sum(axis=-1)
    return out


def _added(e: Floats, v: Floats, target: float) -> Floats:
    """The variance (m,) to add to v (m, n) at which the weighted squares of e are ``target``; 0 where below."""
    spread = ((e - e.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    tau2 = np.where(v.min(axis=1) > 0, 0.0, 1e-12 * spread / target + 1e-300)
    # The squares are convex and falling in tau2, so Newton's steps from the left never overshoot.
    for _ in range(100):
        w = 1 / (v + tau2[:, None])
        k = (w * e).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        squares = (w * (e - k) ** 2).sum(axis=1)
        step = np.maximum((squares - target) / (w * w * (e - k) ** 2).sum(axis=1), 0.0)
        tau2 = tau2 + step
        if (step <= 1e-14 * (tau2 + spread / target)).all():
            break
    return tau2


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

    Coverage and bias at n = 9, by reliability: ``benchmarks/results/coverage_association.md``.

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
        scaled_pair(a, errors_of(x_se, n, "x_se"), "x"),
        scaled_pair(b, errors_of(y_se, n, "y_se"), "y"),
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
    known = _Line(u, v, vx, vy)
    chi2 = math.nan if exact.any() else known.best()[1]
    tau2 = _scatter(known) if estimated else 0.0
    line = _Line(u, v, vx, vy + tau2)
    angle = line.best()[0]
    if abs(math.cos(angle)) < 1e-6:
        raise CheckError("the best line is vertical: the spread of x does not exceed its standard errors")
    slope, scale, notes = math.tan(angle), sy / sx, list[str]()
    quantile = t_quantile(confidence, n - 2)
    low, high = _ends(known, angle, quantile, estimated, notes)
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
        left = float(_added((v - slope * u)[None], (vy + slope**2 * vx)[None], n - 2)[0])
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


def scaled_pair(column: Floats, errors: Floats, name: str) -> tuple[Floats, Floats, int]:
    """A column and its standard errors, (n,) each, in units of a power of two near its largest value, and that power.

    Raises:
        CheckError: Errors so far above the spread of the column that their squares say nothing.
    """
    exponent = exponent_of(column)
    column, errors = times_two_to(column, -exponent), times_two_to(errors, -exponent)
    if not float(errors.max()) < _LARGEST_ERROR * float(column.max() - column.min()):
        raise CheckError(
            f"the standard errors of {name} exceed its spread {_LARGEST_ERROR:g} times: nothing is left"
        )
    return column, errors, exponent


def _crossing(f: Callable[[float], float], low: float, high: float, *, xtol: float, rtol: float) -> float:
    """Where ``f`` changes its sign; ``CheckError`` where rounding hides it."""
    at_low, at_high = f(low), f(high)
    if not at_low * at_high <= 0:
        raise CheckError(
            "the points lie so close to a line, or so far apart, that rounding hides the line's interval"
        )
    return float(optimize.brentq(f, low, high, xtol=xtol, rtol=rtol))


def _scatter(known: _Line) -> float:
    """The variance to add to vy at which the smallest S is n - 1; 0 where it is below already."""
    target = known.x.size - 1

    def excess(tau2: float) -> float:
        return _Line(known.x, known.y, known.vx, known.vy + tau2).best()[1] - target

    top = float((known.y**2).sum()) / target  # a horizontal line reaches the target there
    bottom = 1e-12 * top if ((known.vx == 0) & (known.vy == 0)).any() else 0.0
    if excess(bottom) <= 0:
        return bottom
    if excess(top) >= 0:
        return top
    return _crossing(excess, bottom, top, xtol=1e-14, rtol=1e-12)


def _ends(
    line: _Line, angle: float, quantile: float, estimated: bool, notes: list[str]
) -> tuple[float, float]:
    """The slopes on both sides of ``angle`` at which |t| reaches ``quantile``; infinite where it never does."""

    def gap(at: float) -> float:
        return abs(float(line.t(np.array([at]), estimated=estimated)[0])) - quantile

    ends = []
    for side in (-1, 1):
        # Up to the vertical: slopes beyond it are those of the other side.
        path = angle + (side * (math.pi / 2 - 1e-9) - angle) * np.linspace(0, 1, 101) ** 2
        above = np.flatnonzero(np.abs(line.t(path, estimated=estimated)) > quantile)
        if above.size == 0:
            ends.append(side * math.inf)
            continue
        inner, outer = float(path[max(above[0] - 1, 0)]), float(path[above[0]])
        ends.append(math.tan(_crossing(gap, inner, outer, xtol=1e-15, rtol=1e-13)))
    if math.isinf(ends[0]) or math.isinf(ends[1]):
        notes.append("the data do not bound the slope on one side or both: x is too noisy for its spread")
    return ends[0], ends[1]


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
    groups = group_columns(group)
    refuse_clash(groups, [f.name for f in fields(DemingFit)])
    panels = split(df, x=x, y=y, group=group, label=label)
    ex, ey = error_column(df, x_se, "x_se"), error_column(df, y_se, "y_se")
    rows = []
    for panel in panels:
        with naming(panel):
            fit = deming_fit(
                panel.x,
                panel.y,
                x_se=ex[panel.rows],
                y_se=ey[panel.rows],
                scatter=scatter,
                confidence=confidence,
            )
        rows.append(as_row(groups, panel, fit.to_dict()))
    return pd.DataFrame(rows)
