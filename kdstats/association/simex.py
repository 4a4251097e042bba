"""SIMEX: more error is added on purpose, and its effect is followed back to none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdstats.association.coefficients import Floats, check_pair, in_given_units
from kdstats.association.columns import each_panel, panels_for
from kdstats.association.noisy_copies import both_signs
from kdstats.association.panels import SMALLEST_N, Columns, Panel, check_seed
from kdstats.association.result import Result
from kdstats.association.standard_errors import error_column, errors_of, scaled_with_errors
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence, t_quantile

STATISTICS = ("slope", "pearson")
LAMBDAS = (0.5, 1.0, 1.5, 2.0)
_CURVE = ("lambdas", "means")  # fields that do not fit a table's cells


@dataclass(frozen=True, slots=True)
class Simex(Result):
    """A slope or correlation extrapolated to columns without errors of measurement.

    Attributes:
        statistic: One of :data:`STATISTICS`.
        estimate: Value at no error; y per x for a slope, kept within [-1, 1] for a correlation. NaN, with the reason in
            ``notes``, where a reliability is not positive.
        se: Delete-one-point jackknife of the whole procedure.
        low: Lower end of its interval; within [-1, 1] for a correlation.
        high: Upper end.
        naive: Value of the columns as they are.
        raw: Extrapolated value before it is kept within [-1, 1].
        lambdas: Added error variance, in units of the known one.
        means: Mean statistic at each of them; the first is ``naive``.
        monte_carlo_se: Part of the uncertainty of ``estimate`` that more replicates would remove.
        replicates: Noisy copies at each lambda.
        n: Points.
        confidence: Nominal coverage.
        method: In words that can stand in a caption.
        notes: Warnings that stay with the numbers.
    """

    statistic: str
    estimate: float
    se: float
    low: float
    high: float
    naive: float
    raw: float
    lambdas: tuple[float, ...]
    means: tuple[float, ...]
    monte_carlo_se: float
    replicates: int
    n: int
    confidence: float
    method: str
    notes: tuple[str, ...] = ()


def extrapolation(lambdas: ArrayLike) -> Floats:
    """Weights (m,) that turn values at ``lambdas`` into their least-squares parabola's value at -1."""
    at = np.asarray(lambdas, dtype=np.float64)
    design = np.vander(at, 3)
    out: Floats = np.array([1.0, -1.0, 1.0]) @ np.linalg.pinv(design)
    return out


def simex_fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_se: ArrayLike | None,
    y_se: ArrayLike | None,
    statistic: str = "slope",
    lambdas: Sequence[float] = LAMBDAS,
    replicates: int = 200,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> Simex:
    """Simulation extrapolation with a parabola (Cook and Stefanski 1994).

    Normal errors of variance lambda·se² are added to x (and to y for a correlation), the statistic is averaged
    over ``replicates`` pairs of noisy copies that use each noise with both signs, and the parabola through the
    averages is read off at lambda = -1. The same noise serves all lambdas and all left-out points. The parabola
    follows the true curve only for small errors: where half of the spread of x is error, about a quarter of the
    attenuation remains. :func:`~kdstats.association.deming.deming_fit` and
    :func:`~kdstats.association.attenuation.disattenuate` correct in full; SIMEX pays a little bias for less
    spread.

    Interval: Student's t with n - 2 degrees of freedom and the jackknife standard error, which holds sampling of
    points and measurement together; for a correlation the wider end of those on the scales of r and Fisher's z.

    Coverage, nominal 0.95, at nine points with true correlation 0, 0.6, 0.95 (2,000 replications;
    ``benchmarks/results/coverage_association.md``), by the reliabilities of x and y:

    ==========  ===================  ==========================  ===================
    setting     slope                median slope of 0.6, 0.95   Pearson's r
    ==========  ===================  ==========================  ===================
    0.99, 0.95  0.946, 0.949, 0.951  0.59, 0.95                  0.962, 0.976, 0.956
    0.9, 0.9    0.944, 0.953, 0.947  0.60, 0.91                  0.982, 0.973, 0.974
    0.7, 0.7    0.952, 0.954, 0.945  0.55, 0.83                  0.986, 0.952, 0.994
    0.5, 0.5    0.958, 0.945, 0.922  0.42, 0.65                  0.986, 0.971, 0.990
    ==========  ===================  ==========================  ===================

    A note is raised where the reliability of x is below 0.8. Where a reliability that the statistic needs is not
    positive, nothing is extrapolated: no estimate, and an interval that holds everything (at 0.5, 0.5 above in 0.16 of
    the samples for a slope and 0.27 for r).

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
        x_se: Standard errors of x, one or (n,); None for none.
        y_se: Standard errors of y alike; the slope does not need them (errors of y do not attenuate it).
        statistic: One of :data:`STATISTICS`.
        lambdas: Added error variances, positive, at least 3.
        replicates: Noise draws at each lambda, each used with both signs.
        confidence: Nominal coverage, a fraction.
        rng: Source of the noise.

    Raises:
        UsageError: Fewer than 5 points, unlike lengths, NaN, Inf, negative errors, unknown statistic, lambdas
            that are few, repeated or not positive, fewer than 2 replicates.
        CheckError: A column that is constant or nearly so without one point, errors beyond all measure, or a slope
            that a float64 does not hold.
    """
    check_confidence(confidence)
    if statistic not in STATISTICS:
        raise unknown("statistic", statistic, STATISTICS)
    levels = np.asarray(lambdas, dtype=np.float64)
    if levels.ndim != 1 or np.unique(levels).size < max(3, levels.size) or not (levels > 0).all():
        raise UsageError(f"lambdas must be at least 3 positive numbers without repeats, got {tuple(lambdas)}")
    if not np.isfinite(levels).all():
        raise UsageError("a lambda is infinite")
    if replicates < 2:
        raise UsageError(f"replicates must be at least 2, got {replicates}")
    a, b = check_pair(x, y)
    n = a.size
    if n < SMALLEST_N:
        raise UsageError(f"an interval needs at least {SMALLEST_N} points, got {n}")
    (a, ex, unit_x), (b, ey, unit_y) = (
        scaled_with_errors(a, errors_of(x_se, n, "x_se"), "x"),
        scaled_with_errors(b, errors_of(y_se, n, "y_se"), "y"),
    )
    _refuse_lone_point(a, "x")
    if statistic == "pearson":
        _refuse_lone_point(b, "y")
    exponent = unit_y - unit_x if statistic == "slope" else 0
    sx, sy = float(a.std(ddof=1)), float(b.std(ddof=1))
    u, v = (a - a.mean()) / sx, (b - b.mean()) / sy
    if statistic == "slope":
        ey = np.zeros(n)
    nx = rng.standard_normal((replicates, n)) * (ex / sx)
    ny = rng.standard_normal((replicates, n)) * (ey / sy)
    values = [both_signs(u, v, np.zeros((1, n)), np.zeros((1, n)), statistic)]
    values += [both_signs(u, v, math.sqrt(k) * nx, math.sqrt(k) * ny, statistic) for k in levels]
    # Axis 0: all points, then each left out; axis 1: replicates.
    means = np.array([each.mean(axis=1) for each in values])
    weights = extrapolation([0.0, *levels])
    extrapolated = weights @ means
    raw, left_out = float(extrapolated[0]), extrapolated[1:]
    noise = sum(w * each[0] for w, each in zip(weights[1:], values[1:], strict=True))
    monte_carlo = float(np.std(noise, ddof=1)) / math.sqrt(replicates)
    notes: list[str] = []
    share, share_y = float(((ex / sx) ** 2).mean()), float(((ey / sy) ** 2).mean())
    lost = [
        f"the reliability of {name} is {1 - part:.3g}: its spread does not exceed its standard errors, so nothing is "
        "extrapolated"
        for name, part in (("x", share), ("y", share_y))
        if part >= 1
    ]
    notes += lost
    if 0.2 < share < 1:
        notes.append(
            f"{share:.0%} of the spread of x is error: a parabola leaves part of the attenuation in place"
        )
    t = t_quantile(confidence, n - 2)
    se = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    scale = sy / sx if statistic == "slope" else 1.0

    def units(value: float) -> float:
        if lost and math.isnan(value):
            return value
        return in_given_units(value * scale, exponent, "the extrapolated value")

    estimate = raw
    low, high = raw - t * se, raw + t * se
    if statistic == "pearson":
        estimate = min(max(raw, -1.0), 1.0)
        if estimate != raw and not lost:
            notes.append(f"the extrapolated value is {raw:.4g} and was set to {estimate:+.0f}")
        low, high = _outer_ends(estimate, se, left_out, t)
    if lost:
        raw = estimate = se = math.nan
        low, high = (-1.0, 1.0) if statistic == "pearson" else (-math.inf, math.inf)
    return Simex(
        statistic=statistic,
        estimate=units(estimate),
        se=units(se),
        low=units(low),
        high=units(high),
        naive=units(float(means[0, 0])),
        raw=units(raw),
        lambdas=(0.0, *(float(k) for k in levels)),
        means=tuple(units(float(m)) for m in means[:, 0]),
        monte_carlo_se=units(monte_carlo),
        replicates=replicates,
        n=n,
        confidence=confidence,
        method="SIMEX, quadratic extrapolation, delete-one jackknife",
        notes=tuple(notes),
    )


def _refuse_lone_point(column: Floats, name: str) -> None:
    """Refuses a column (n,) that hardly varies without one of its points: the jackknife leaves out each."""
    deviations = column - column.mean()
    squares, n = deviations**2, column.size
    left = squares.sum() - n / (n - 1) * squares
    if float(left.min()) <= 1e-10 * float(squares.sum()):
        raise CheckError(
            f"without point {int(np.argmin(left))} {name} is constant, or nearly so: no jackknife interval is defined"
        )


def _outer_ends(estimate: float, se: float, left_out: Floats, t: float) -> tuple[float, float]:
    """The wider of the intervals of r and of Fisher's z, end by end, within [-1, 1].

    Near ±1 the jackknife of z is too short where an extrapolated value was cut to ±1, that of r where it was not.
    """
    n = left_out.size
    limit = 0.9999  # values beyond have no useful z
    z = np.arctanh(np.clip(np.array([estimate, *left_out]), -limit, limit))
    reach = t * math.sqrt((n - 1) / n * float(((z[1:] - z[1:].mean()) ** 2).sum()))
    low, high = math.tanh(float(z[0]) - reach), math.tanh(float(z[0]) + reach)
    return max(min(low, estimate - t * se), -1.0), min(max(high, estimate + t * se), 1.0)


def simex(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_se: str | float | None,
    y_se: str | float | None,
    group: Columns = None,
    label: str | None = None,
    lambdas: Sequence[float] = LAMBDAS,
    replicates: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """:func:`simex_fit` of every panel, slope and Pearson correlation.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        x_se: Column with the standard errors of x, one number for all points, or None for no error.
        y_se: The same for y. A spread over seeds is not a standard error: divide it by the root of their number.
        group: Column or columns that tell panels apart.
        label: Column that names the points.
        lambdas: Added error variances in units of the known ones.
        replicates: Noise draws at each.
        confidence: Nominal coverage, a fraction.
        seed: Seed of the noise; a panel's numbers do not depend on which other panels are present.

    Returns:
        Two rows a panel: the group columns, then the fields of :class:`Simex` but for the curve (``lambdas``,
        ``means``); notes as text.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split` and :func:`simex_fit`.
        CheckError: A column is constant within a panel.
    """
    check_seed(seed)
    panels = panels_for(df, Simex.columns(), x=x, y=y, group=group, label=label)
    ex, ey = error_column(df, x_se, "x_se"), error_column(df, y_se, "y_se")

    def extrapolated(panel: Panel) -> Iterator[dict[str, Any]]:
        for statistic in STATISTICS:
            row = simex_fit(
                panel.x,
                panel.y,
                x_se=ex[panel.rows],
                y_se=ey[panel.rows],
                statistic=statistic,
                lambdas=lambdas,
                replicates=replicates,
                confidence=confidence,
                rng=panel.stream(seed, "simex"),
            ).to_dict()
            yield {name: value for name, value in row.items() if name not in _CURVE}

    return each_panel(panels, group, extrapolated)
