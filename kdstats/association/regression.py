"""The slope of an outcome on a predictor with an effect for every pair, and four standard errors of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kdstats.association.coefficients import Floats, in_given_units
from kdstats.association.panels import Columns
from kdstats.association.result import notes_text
from kdstats.association.within import Within, check_residuals, within
from kdstats.errors import CheckError
from kdstats.estimators.intervals import check_confidence

KINDS = ("cr2", "cr1", "hc3", "classical")
NAMES = {
    "cr2": "cluster-robust CR2, Bell-McCaffrey degrees of freedom",
    "cr1": "cluster-robust CR1, t(clusters - 1)",
    "hc3": "heteroscedasticity-consistent HC3",
    "classical": "classical",
}
FEW_DOF = 4.0
FEW_CLUSTERS = 10


@dataclass(frozen=True, slots=True)
class Error:
    """One standard error of the slope and the degrees of freedom of its t, with notes."""

    se: float
    dof: float
    notes: tuple[str, ...] = ()


def regress(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns = None,
    cluster: Columns = None,
    label: str | None = None,
    standardised: bool = False,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Least squares of y on x with an effect for every group, under four kinds of standard error.

    y_gi = a_g + b x_gi + e_gi. Groups (pairs) are never pooled as if their points were independent: each has an
    intercept of its own, and errors may depend on each other within a cluster (the group, unless ``cluster``
    says otherwise). With h the leverages, ẍ, ÿ deviations from group means, S = ẍ'ẍ, e the residuals, K =
    groups + 1:

    * ``classical``: e'e/(n - K)/S, t with n - K.
    * ``hc3``: sum ẍ² e²/(1 - h)² / S² (MacKinnon and White 1985), t with n - K.
    * ``cr1``: G/(G-1) (n-1)/(n-K) sum_c (ẍ_c'e_c)² / S² (Liang and Zeger 1986), t with G - 1.
    * ``cr2``: sum_c (ẍ_c' A_c e_c)² / S², A_c = (I - H_cc)^(-1/2), the symmetric root of the Moore-Penrose
      inverse (Bell and McCaffrey 2002; Pustejovsky and Tipton 2018), t with Satterthwaite's degrees of freedom
      under independent errors: (sum λ)²/sum λ², λ the eigenvalues of the variance as a quadratic form.

    Why ``cr2`` is the default: coverage at 9 points a pair, 0.95 nominal, with 3, 5 and 10 pairs (2,000
    replications; benchmarks/results/coverage_regression.md):

    =============================  ===================  ===================  ===================
    setting                        cr2                  cr1                  classical
    =============================  ===================  ===================  ===================
    one slope, equal errors        0.961, 0.954, 0.956  0.951, 0.952, 0.959  0.950, 0.949, 0.948
    slopes differ between pairs    0.955, 0.948, 0.949  0.940, 0.944, 0.950  0.577, 0.588, 0.587
    and x spreads unlike           0.955, 0.958, 0.949  0.813, 0.793, 0.820  0.450, 0.409, 0.368
    half of the error is schemes'  0.873, 0.722, 0.533  0.880, 0.735, 0.553  0.838, 0.747, 0.608
    =============================  ===================  ===================  ===================

    In the last, schemes have errors in common over all pairs, which clusters of pairs cannot see; a note says so
    where ``label`` shows it. With the schemes as clusters ``cr2`` covers 0.961, 0.948, 0.957 there.

    Args:
        df: One row per point, e.g. one scheme of one pair.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell pairs apart; each gets an intercept. None: one intercept.
        cluster: Column or columns that tell clusters apart, e.g. the teacher where pairs share one; the groups
            where absent.
        label: Column that names the points (schemes).
        standardised: Divide x and y by their standard deviation within each group. The slope is then a mean of
            the groups' Pearson correlations, in which no group counts for more because its predictor spreads
            more.
        confidence: Nominal coverage, a fraction.

    Returns:
        One row a kind, the default first: ``term`` (x), ``kind, estimate`` (y per x, or per standard deviation),
        ``se, low, high, confidence, p_value`` (two-sided, slope 0), ``dof, n, groups, clusters, default, notes``.
        Without groups and clusters there are ``hc3`` (default) and ``classical`` only.

    Raises:
        UsageError: See :func:`~kdstats.association.within.within`; also a confidence outside (0, 1).
        CheckError: A column is constant within a group, no residual is left, every cluster gives the same slope,
            one cluster holds all spread of the predictor, or columns so large or small that a float64 does not hold
            the slope.
    """
    check_confidence(confidence)
    data = within(df, x=x, y=y, group=group, cluster=cluster, label=label, standardised=standardised)
    found = errors_of(data)
    rows: list[dict[str, Any]] = []
    for kind, error in found.items():
        half = float(special.stdtrit(error.dof, 0.5 + confidence / 2)) * error.se
        estimate, se, low, high = (
            in_given_units(value, data.exponent, "the slope")
            for value in (data.slope, error.se, data.slope - half, data.slope + half)
        )
        rows.append(
            {
                "term": x,
                "kind": kind,
                "estimate": estimate,
                "se": se,
                "low": low,
                "high": high,
                "confidence": confidence,
                "p_value": float(2 * special.stdtr(error.dof, -abs(data.slope) / error.se)),
                "dof": error.dof,
                "n": data.n,
                "groups": data.groups,
                "clusters": data.clusters,
                "default": not rows,
                "notes": notes_text([*data.notes, *error.notes]),
            }
        )
    return pd.DataFrame(rows)


def errors_of(data: Within) -> dict[str, Error]:
    """The standard errors of :attr:`Within.slope`, the one that covers best first.

    Raises:
        CheckError: No residual is left, every cluster gives the same slope, or one cluster holds all spread.
    """
    residuals = data.y - data.slope * data.x
    check_residuals(residuals, data.y)
    sxx, dof = data.sxx, data.n - data.groups - 1
    sse = float(residuals @ residuals)
    leverage = 1 / data.sizes[data.group] + data.x**2 / sxx
    if float(leverage.max()) > 1 - 1e-10:
        raise CheckError("one point alone decides the slope (leverage 1): no robust error is defined")
    hc3 = math.sqrt(float(((data.x * residuals / (1 - leverage)) ** 2).sum())) / sxx
    plain = {
        "hc3": Error(hc3, dof, _ignores(data)),
        "classical": Error(math.sqrt(sse / dof / sxx), dof, _ignores(data)),
    }
    return {**_clustered(data, residuals), **plain} if data.clusters else plain


def _ignores(data: Within) -> tuple[str, ...]:
    if not data.clusters:
        return ()
    return ("takes the points of a cluster as independent: too short where slopes differ between pairs",)


def _clustered(data: Within, residuals: Floats) -> dict[str, Error]:
    g, n, sxx = data.clusters, data.n, data.sxx
    scores = data.per_cluster(data.x * residuals)
    if float((scores**2).sum()) <= 1e-24 * sxx * float(residuals @ residuals):
        raise CheckError(
            "every cluster gives the same slope: no spread is left between them (is a panel there twice?)"
        )
    factor = g / (g - 1) * (n - 1) / (n - data.groups - 1)
    cr1 = math.sqrt(factor * float((scores**2).sum())) / sxx
    weighted = _adjusted(data)
    cr2 = math.sqrt(float((data.per_cluster(weighted * residuals) ** 2).sum())) / sxx
    dof = _satterthwaite(data, weighted)
    few = (f"t({g - 1}) with CR1 is too short with {g} clusters of unlike spread: see cr2",)
    return {
        "cr2": Error(cr2, dof, _few(dof)),
        "cr1": Error(cr1, g - 1, few if g <= FEW_CLUSTERS else ()),
    }


def _few(dof: float) -> tuple[str, ...]:
    if dof >= FEW_DOF:
        return ()
    said = f"{dof:.2g} degree{'' if f'{dof:.2g}' == '1' else 's'} of freedom"
    return (f"{said}: the interval is wide and its coverage approximate",)


def _adjusted(data: Within) -> Floats:
    """A_c ẍ_c of every cluster, (n,).

    Where every group lies in one cluster, (I - H_cc) ẍ_c = (1 - S_c/S) ẍ_c, so A_c ẍ_c = ẍ_c / sqrt(1 - S_c/S).
    """
    share = data.per_cluster(data.x**2) / data.sxx
    if float(share.max()) > 1 - 1e-10:
        raise CheckError("one cluster holds all spread of the predictor: no cluster-robust error is defined")
    if data.nested:
        return data.x / np.sqrt(1 - share)[data.cluster]
    out = np.empty_like(data.x)
    for c in range(data.clusters):
        rows = np.flatnonzero(data.cluster == c)
        same = data.group[rows][:, None] == data.group[rows][None, :]
        hat = same / data.sizes[data.group[rows]] + np.outer(data.x[rows], data.x[rows]) / data.sxx
        values, vectors = np.linalg.eigh(np.eye(rows.size) - hat)
        root = np.where(values > 1e-10, 1 / np.sqrt(np.maximum(values, 1e-10)), 0.0)
        out[rows] = vectors @ (root * (vectors.T @ data.x[rows]))
    return out


def _satterthwaite(data: Within, weighted: Floats) -> float:
    """Degrees of freedom of the CR2 variance as a quadratic form in independent errors of one variance."""
    # Row r of q_c is ((I - H) v)_r with v = A_c ẍ_c on the rows of cluster c; λ are the eigenvalues of q'q.
    spread = np.zeros((data.n, data.clusters))
    spread[np.arange(data.n), data.cluster] = weighted
    q = data.centre(spread) - np.outer(data.x, data.x @ spread) / data.sxx
    gram = q.T @ q
    return float(np.trace(gram)) ** 2 / float((gram**2).sum())
