"""Repeated-measures correlation: one slope within all panels, each panel with a level of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from kdstats.association.coefficients import Floats, centred
from kdstats.association.labels import (
    Exchange,
    correlation,
    jackknife_of_labels,
    names_as_units,
    notes_on_units,
    p_of,
    p_with_labels,
    reach_of_z,
    recur,
)
from kdstats.association.panels import Columns, Panel, split
from kdstats.association.result import Result
from kdstats.errors import UsageError
from kdstats.estimators.intervals import check_confidence, t_quantile


@dataclass(frozen=True, slots=True)
class RepeatedCorrelation(Result):
    """The correlation of x and y within panels.

    Attributes:
        estimate: Correlation of the deviations from panel means; in [-1, 1].
        low: Lower end of its interval.
        high: Upper end.
        p_value: Two-sided, of no correlation: with ``labels`` that of the interval (its nearer end is 0 at
            confidence 1 - p), else ``p_pointwise``.
        p_pointwise: Two-sided, from the F test of the common slope; it takes points as independent within panels and
            rejects far too often where panels share schemes.
        p_permutation: Share of pairings at least as extreme, (b+1)/(m+1); labels are exchanged as wholes, alike in
            all panels, where every panel has each label once, and points within panels otherwise.
        df: Residual degrees of freedom, points - panels - 1.
        slope: Common slope, units of y per unit of x.
        slope_low: Lower end of its interval.
        slope_high: Upper end.
        p_slopes: F test of equal slopes in all panels; NaN with one panel or without spread around the lines.
        n: Points.
        k: Panels.
        labels: Labels that the interval takes as the independent units; 0 where it takes points.
        confidence: Nominal coverage.
        method: In words that can stand in a caption.
        notes: Warnings that stay with the numbers.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    p_pointwise: float
    p_permutation: float
    df: int
    slope: float
    slope_low: float
    slope_high: float
    p_slopes: float
    n: int
    k: int
    labels: int
    confidence: float
    method: str
    notes: tuple[str, ...] = ()


def repeated_correlation(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns,
    label: str | None = None,
    confidence: float = 0.95,
    permutations: int = 9_999,
    seed: int = 0,
) -> RepeatedCorrelation:
    """Correlation within panels under one common slope (Bland and Altman 1995; Bakdash and Marusich 2017).

    r = S_xy / sqrt(S_xx S_yy) with sums of products of deviations from panel means, df = points - panels - 1,
    the pointwise p from t = r sqrt(df / (1 - r²)).

    Interval. Without ``label`` or where no label recurs: Fisher's z with standard error 1/sqrt(df - 1), the usual
    one, which takes the points of a panel as independent. Where the same labels (schemes) stand in several panels,
    what is peculiar to a scheme recurs with it, and 36 points of nine schemes in four pairs are not 36 independent
    ones: there the interval is Student's t with labels - 2 degrees of freedom around z, with the jackknife that
    leaves out a label from all panels at once, and never shorter than the usual one; ``p_value`` goes with it.

    Coverage of the correlation's interval, nominal 0.95, correlation 0 and 0.8 (2,000 replications;
    ``benchmarks/results/coverage_association.md``), by the share of the scatter that is the schemes' own in all pairs:

    ===================  ============  ============  ============
    nine schemes         share 0       share 0.5     share 0.9
    ===================  ============  ============  ============
    3 pairs, by label    0.977, 0.973  0.965, 0.967  0.944, 0.951
    10 pairs, by label   0.980, 0.973  0.958, 0.961  0.940, 0.958
    3 pairs, by point    0.948 (0.8)   not counted   0.754 (0.8)
    10 pairs, by point   0.953 (0.8)   not counted   0.485 (0.8)
    ===================  ============  ============  ============

    The slope's interval has not been simulated.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell panels apart.
        label: Column that names the points (schemes).
        confidence: Nominal coverage, a fraction.
        permutations: Random pairings behind ``p_permutation``.
        seed: Seed of the pairings.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also no group, no permutations.
        CheckError: A column is constant within a panel.
    """
    check_confidence(confidence)
    if group is None or not (isinstance(group, str) or len(group)):
        raise UsageError("repeated_correlation needs group: the column that tells panels apart")
    if permutations < 1:
        raise UsageError(f"permutations must be at least 1, got {permutations}")
    panels = split(df, x=x, y=y, group=group, label=label)
    u, v, sx, sy = _deviations(panels)
    n, k = u.size, len(panels)
    r, dof = correlation(u, v), n - k - 1
    notes = [f"panel {p.name!r}: {note}" for p in panels for note in p.notes]
    if k == 1:
        notes.append("one panel: this is its Pearson correlation")
    p_slopes = _equal_slopes(panels, u, v)
    if p_slopes < 0.05:
        notes.append(
            f"the slopes of the panels differ (p = {p_slopes:.3g}): one correlation does not describe them"
        )
    perfect = abs(r) > 1 - 1e-12
    slope = float((u * v).sum() / (u * u).sum())
    low, high, slope_low, slope_high, units = r, r, slope, slope, 0
    pointwise = p_value = p_of(r, dof)
    if perfect:
        notes.append("all points lie on lines of one slope: the intervals have no width")
    else:
        z, se, z_se = math.atanh(r), 1 / math.sqrt(dof - 1), 0.0
        residual = float(((v - slope * u) ** 2).sum()) / dof
        slope_reach = t_quantile(confidence, dof) * math.sqrt(residual / float((u * u).sum()))
        if names := names_as_units(panels, label):
            units, z_se, slope_se = _by_label(panels, names)
            p_value = p_with_labels(z, z_se, units, se)
            slope_reach = max(slope_reach, t_quantile(confidence, units - 2) * slope_se)
        reach = reach_of_z(se, confidence, units=units, label_se=z_se)
        low, high = math.tanh(z - reach), math.tanh(z + reach)
        slope_low, slope_high = slope - slope_reach, slope + slope_reach
    exchange = Exchange.of(panels, by_label=recur(panels, label))
    notes += notes_on_units(panels, label, exchange)
    p_permutation = exchange.p_value(
        lambda rows: (v[rows] @ u) / n, r, permutations, panels[0].stream(seed, "repeated correlation")
    )
    scale = sy / sx
    return RepeatedCorrelation(
        estimate=r,
        low=low,
        high=high,
        p_value=p_value,
        p_pointwise=pointwise,
        p_permutation=p_permutation,
        df=dof,
        slope=slope * scale,
        slope_low=slope_low * scale,
        slope_high=slope_high * scale,
        p_slopes=p_slopes,
        n=n,
        k=k,
        labels=units,
        confidence=confidence,
        method="repeated-measures correlation, "
        + (f"jackknife over {units} labels" if units else "Fisher's z, points as units"),
        notes=tuple(notes),
    )


def _deviations(panels: Sequence[Panel]) -> tuple[Floats, Floats, float, float]:
    """Deviations from panel means, each column scaled to a root mean square of 1, and the scales."""
    u = np.concatenate([p.x - p.x.mean() for p in panels])
    v = np.concatenate([p.y - p.y.mean() for p in panels])
    top_x, top_y = float(np.abs(u).max()), float(np.abs(v).max())
    sx, sy = (top * math.sqrt(float(((c / top) ** 2).mean())) for c, top in ((u, top_x), (v, top_y)))
    return u / sx, v / sy, sx, sy


def _equal_slopes(panels: Sequence[Panel], u: Floats, v: Floats) -> float:
    """p of the F test of one slope against one a panel; NaN with one panel or points on their lines."""
    cuts = np.cumsum([p.n for p in panels])[:-1]
    own = 0.0
    for p, a, b in zip(panels, np.split(u, cuts), np.split(v, cuts), strict=True):
        # Beside a panel that spreads 1e160 times as far, the squares of a panel's deviations would be 0.
        a = a if float(np.abs(a).max()) > 1e-100 else centred(p.x)
        own += float((b * b).sum()) - float((a * b).sum()) ** 2 / float((a * a).sum())
    common = float((v * v).sum()) - float((u * v).sum()) ** 2 / float((u * u).sum())
    k, left = len(panels), u.size - 2 * len(panels)
    if k == 1 or own <= 1e-12 * u.size:
        return math.nan
    return float(special.fdtrc(k - 1, left, max(common - own, 0.0) / (k - 1) / (own / left)))


def _by_label(panels: Sequence[Panel], names: Sequence[str]) -> tuple[int, float, float]:
    """Labels, and the jackknife standard errors over them of Fisher's z and of the slope of scaled columns."""
    x, y = np.concatenate([p.x for p in panels]), np.concatenate([p.y for p in panels])
    member = np.repeat(np.arange(len(panels)), [p.n for p in panels])
    _, _, sx, sy = _deviations(panels)

    def statistic(kept: NDArray[np.bool_]) -> Floats:
        group = member[kept]
        size = np.maximum(np.bincount(group, minlength=len(panels)), 1)
        u, v = (
            (c[kept] - (np.bincount(group, c[kept], len(panels)) / size)[group]) / scale
            for c, scale in ((x, sx), (y, sy))
        )
        return np.array([np.arctanh(correlation(u, v)), (u * v).sum() / (u * u).sum()])

    z_se, slope_se = jackknife_of_labels(names, statistic)
    return len(set(names)), float(z_se), float(slope_se)
