"""A mixed model of the outcome with a random intercept (and slope) of each pair, never printed unchecked."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from kdstats.association.coefficients import Floats, in_given_units, times_two_to
from kdstats.association.panels import Columns, split
from kdstats.association.reml import Fitted, Reml
from kdstats.association.result import Result
from kdstats.association.within import Within, check_residuals, within
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import check_confidence

GLS_TOLERANCE = 1e-3  # of a standard error
CRITERION_TOLERANCE = 1e-2  # of -2 log restricted likelihood
BOUNDARY = 1e-5  # of the residual variance, for a predictor of standard deviation 1 within pairs


@dataclass(frozen=True, slots=True)
class MixedFit(Result):
    """The slope of a mixed model, how it was fitted, and what was checked.

    Attributes:
        term: Column of the predictor.
        estimate: Mean slope over pairs, y per x.
        se: Its standard error.
        low: Lower end of its interval.
        high: Upper end.
        p_value: Two-sided, for a slope of 0.
        dof: Degrees of freedom of its t.
        confidence: Nominal coverage.
        slopes: Whether slopes vary between pairs in the model.
        intercept_variance: Between pairs at their own mean predictor, y².
        slope_variance: Between pairs, (y per x)²; None without random slopes.
        covariance: Of intercept and slope; None without random slopes.
        residual_variance: Within pairs, y².
        icc: Share of the intercept variance in intercept plus residual variance.
        n: Number of points.
        groups: Number of pairs.
        method: How the numbers were got, in words that can stand in a caption.
        accepted: Whether the fit of statsmodels passed all checks; otherwise the numbers are those of the search.
        boundary: Whether a variance is 0 or intercept and slope are perfectly correlated.
        checks: What was checked, with its result.
        notes: Warnings that stay with the numbers.
    """

    term: str
    estimate: float
    se: float
    low: float
    high: float
    p_value: float
    dof: float
    confidence: float
    slopes: bool
    intercept_variance: float
    slope_variance: float | None
    covariance: float | None
    residual_variance: float
    icc: float
    n: int
    groups: int
    method: str
    accepted: bool
    boundary: bool
    checks: tuple[str, ...]
    notes: tuple[str, ...]


def mixed_model(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns,
    label: str | None = None,
    slopes: bool = True,
    confidence: float = 0.95,
) -> MixedFit:
    """Restricted maximum likelihood of y_gi = a + u_g + (b + v_g)(x_gi - x̄_g) + e_gi, checked before it leaves.

    The predictor is taken about its own pair's mean: the question is what happens *within* a pair, and pairs of
    other data sets or teachers differ in both columns for other reasons (Mundlak 1978).

    statsmodels' ``MixedLM`` may return fixed effects of exactly 0.0, or a covariance far from the optimum, with
    ``converged=True`` under its default optimisers. So it is started with Powell's method on rescaled columns,
    and its fit is used only if (1) it says it converged, (2) its fixed effects are those of generalised least
    squares at its own covariance, and (3) its restricted likelihood is as high as that of an independent search
    (:mod:`~kdstats.association.reml`). Otherwise the numbers are generalised least squares at the covariance
    of that search, with a note; where all variances between pairs are 0 there, the slope is that of ordinary
    least squares with pair effects. Fits at the boundary are marked.

    Inference: t with groups - 1 degrees of freedom with random slopes, n - groups - 1 without. Coverage with
    random slopes, 9 points a pair, 0.95 nominal, with 3, 5 and 10 pairs (2,000 replications;
    ``benchmarks/results/coverage_regression.md``): slopes that differ and predictors that spread unlike each other 0.949,
    0.932, 0.940; one slope, where nothing varies between pairs, 1.000, 0.994, 0.983. Without random slopes, and with
    errors that schemes have in common over pairs (which it cannot see), it has not been simulated.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell pairs apart.
        label: Column that names the points.
        slopes: Let the slope vary between pairs. Without it the interval is right only if all pairs have one
            slope, which a note judges by an F test.
        confidence: Nominal coverage, a fraction.

    Raises:
        UsageError: See :func:`~kdstats.association.within.within`; also fewer than 2 pairs.
        CheckError: A column is constant within a pair, no residual is left, or columns so large or small that a
            float64 does not hold the result.
    """
    check_confidence(confidence)
    data = within(df, x=x, y=y, group=group, label=label)
    if data.clusters < 2:
        raise UsageError("a mixed model needs at least 2 groups, told apart by a group column")
    check_residuals(data.y - data.slope * data.x, data.y)
    # Units in which the predictor and the residual have standard deviation 1, so that no tolerance depends on units.
    unit_x = math.sqrt(data.sxx / (data.n - data.groups))
    spread = data.y - data.slope * data.x
    unit_y = math.sqrt(float(spread @ spread) / (data.n - data.groups - 1))
    panels = split(df, x=x, y=y, group=group, label=label)
    means = np.array([float(times_two_to(p.y, -data.exponent_y).mean()) for p in panels])
    columns = _columns(data, means, unit_x, unit_y)
    try:
        reml = Reml(columns, slopes=slopes)
        searched = reml.search()
        fit, accepted, checks = guarded(columns, reml, searched)
    except (np.linalg.LinAlgError, ZeroDivisionError, FloatingPointError) as error:
        raise CheckError(
            f"no mixed model of these columns: {error}; do the pairs differ by many orders of magnitude?"
        ) from error
    boundary = _on_boundary(fit.ratio)
    unit_slope = in_given_units(unit_y / unit_x, data.exponent, "the slope")
    se = math.sqrt(float(fit.covariance[1, 1])) * unit_slope
    slope = float(fit.beta[1]) * unit_slope
    dof = float(data.groups - 1 if slopes else data.n - data.groups - 1)
    half = float(special.stdtrit(dof, 0.5 + confidence / 2)) * se
    ratio = fit.ratio
    between = float(ratio[0, 0])
    residual, intercepts, crossed, sloped = (
        in_given_units(
            value * fit.residual * unit_y**2, 2 * data.exponent_y - times_x * data.exponent_x, "a variance"
        )
        for value, times_x in (
            (1.0, 0),
            (between, 0),
            (float(ratio[0, 1]) / unit_x if slopes else 0.0, 1),
            (float(ratio[1, 1]) / unit_x**2 if slopes else 0.0, 2),
        )
    )
    return MixedFit(
        term=x,
        estimate=slope,
        se=se,
        low=slope - half,
        high=slope + half,
        p_value=float(2 * special.stdtr(dof, -abs(slope) / se)),
        dof=dof,
        confidence=confidence,
        slopes=slopes,
        intercept_variance=intercepts,
        slope_variance=sloped if slopes else None,
        covariance=crossed if slopes else None,
        residual_variance=residual,
        icc=between / (1 + between),
        n=data.n,
        groups=data.groups,
        method="REML (MixedLM, Powell; checked)"
        if accepted
        else "GLS at the covariance of a REML grid search",
        accepted=accepted,
        boundary=boundary,
        checks=checks,
        notes=(*data.notes, *_notes(data, slopes, accepted, boundary, checks)),
    )


def _columns(data: Within, means: Floats, unit_x: float, unit_y: float) -> list[tuple[Floats, Floats]]:
    out = []
    for g in range(data.groups):
        rows = data.group == g
        # The grand mean is taken out first: digits are kept for what differs.
        out.append((data.x[rows] / unit_x, (data.y[rows] + means[g] - means.mean()) / unit_y))
    return out


def guarded(
    columns: list[tuple[Floats, Floats]], reml: Reml, searched: Fitted
) -> tuple[Fitted, bool, tuple[str, ...]]:
    """The fit of statsmodels if it passes, the searched one otherwise; whether it passed; what was checked."""
    found = powell(columns, slopes=reml.q == 2)
    if isinstance(found, str):
        return searched, False, (f"MixedLM: {found}",)
    beta, covariance, residual, converged = found
    checks = [f"MixedLM says converged={converged}"]
    if not (residual > 0 and np.isfinite(covariance).all() and np.isfinite(beta).all()):
        return searched, False, (*checks, "MixedLM's fit is not finite")
    at = reml.at(covariance / residual, residual)
    gap = float(np.max(np.abs(beta - at.beta) / np.sqrt(np.diag(at.covariance))))
    checks.append(f"its fixed effects are within {gap:.2g} standard errors of GLS at its own covariance")
    loss = at.criterion - searched.criterion
    checks.append(f"its -2 log restricted likelihood is {loss:.2g} above that of an independent search")
    fine = converged and gap <= GLS_TOLERANCE and loss <= CRITERION_TOLERANCE
    # Powell's method stops a little short: where both agree, the lower criterion of the two is the better fit.
    return (at if fine and loss < 0 else searched), fine, tuple(checks)


def powell(columns: list[tuple[Floats, Floats]], *, slopes: bool) -> tuple[Floats, Floats, float, bool] | str:
    """Fixed effects, random covariance, residual variance and ``converged`` of MixedLM; or why there are none."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    y = np.concatenate([y for _, y in columns])
    design = np.column_stack([np.ones_like(y), np.concatenate([x for x, _ in columns])])
    codes = np.repeat(np.arange(len(columns)), [x.size for x, _ in columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warnings do not tell good fits from bad ones; the checks do
        try:
            fit = MixedLM(y, design, codes, exog_re=design if slopes else design[:, :1]).fit(
                reml=True, method=["powell"]
            )
        except (np.linalg.LinAlgError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return (
        np.asarray(fit.fe_params, dtype=np.float64),
        np.asarray(fit.cov_re, dtype=np.float64),
        float(fit.scale),
        bool(fit.converged),
    )


def _on_boundary(ratio: Floats) -> bool:
    if float(np.diag(ratio).min()) < BOUNDARY:
        return True
    return ratio.shape[0] == 2 and float(ratio[0, 1] ** 2 / (ratio[0, 0] * ratio[1, 1])) > 1 - 1e-4


def _notes(data: Within, slopes: bool, accepted: bool, boundary: bool, checks: tuple[str, ...]) -> list[str]:
    notes = []
    if not accepted:
        notes.append(f"the fit of statsmodels was refused ({'; '.join(checks)})")
    if boundary:
        notes.append("the fit lies at the boundary: a variance between pairs is 0, or its correlation is ±1")
    if not slopes:
        f, p = slope_test(data)
        if p < 0.1:
            notes.append(
                f"the pairs' slopes differ (F = {f:.3g}, p = {p:.2g}): the interval is too short without random "
                "slopes"
            )
    return notes


def slope_test(data: Within) -> tuple[float, float]:
    """F and p of "all groups have one slope", under independent errors of one variance."""
    g = data.groups
    sxx = np.bincount(data.group, weights=data.x**2)
    own = np.bincount(data.group, weights=data.x * data.y) / sxx
    apart = data.y - own[data.group] * data.x
    together = data.y - data.slope * data.x
    rest = float(apart @ apart)
    dof = data.n - 2 * g
    if rest <= 1e-24 * float(data.y @ data.y):
        return math.inf, 0.0
    f = (float(together @ together) - rest) / (g - 1) / (rest / dof)
    return f, float(special.fdtrc(g - 1, dof, max(f, 0.0)))
