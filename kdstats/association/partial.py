"""Partial correlation: what a predictor says about the outcome beyond its rivals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdstats.association.coefficients import Floats, check_varies
from kdstats.association.columns import each_panel, extra, panels_for
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
from kdstats.association.panels import Columns, Panel, check_seed, group_columns
from kdstats.association.residuals import WithinPanels, basis_of, freedman_lane, left_by, residual
from kdstats.association.result import Result, notes_text
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import check_confidence

PARTIAL_METHODS = ("pearson", "spearman")


@dataclass(frozen=True, slots=True)
class PartialCorrelation(Result):
    """Correlation of x and y with the covariates held fixed.

    Attributes:
        method: One of :data:`PARTIAL_METHODS`; spearman is the partial correlation of ranks.
        estimate: In [-1, 1]; NaN, with the reason in ``notes``, where ranks of the covariates explain those of x or y.
        low: Lower end of its interval; -1 and 1 where there is no estimate.
        high: Upper end.
        p_value: Two-sided: with ``labels`` that of the interval (its nearer end is 0 at confidence 1 - p), else
            ``p_pointwise``.
        p_pointwise: Two-sided, Student's t with ``df``; it takes points as independent and rejects far too often
            where panels share schemes.
        p_permutation: Freedman-Lane permutation p.
        plain: The same coefficient without covariates (within panels, where there are several).
        df: Residual degrees of freedom.
        n: Points.
        k: Panels.
        labels: Labels that the interval takes as the independent units; 0 where it takes points.
        covariates: What was held fixed.
        confidence: Nominal coverage.
        interval: How the interval was formed.
        notes: Warnings that stay with the numbers.
    """

    method: str
    estimate: float
    low: float
    high: float
    p_value: float
    p_pointwise: float
    p_permutation: float
    plain: float
    df: int
    n: int
    k: int
    labels: int
    covariates: tuple[str, ...]
    confidence: float
    interval: str
    notes: tuple[str, ...] = ()


def partial_correlation(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    covariates: str | Sequence[str],
    group: Columns = None,
    label: str | None = None,
    across: bool = False,
    confidence: float = 0.95,
    permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Partial correlation, Pearson and of ranks, of every panel or across all of them.

    The correlation of the residuals of x and y after least squares on the covariates (Fisher 1924); for
    ``spearman`` all columns are ranked first. With ``across`` every panel has a level of its own (columns are
    centred, and ranked, within panels) and the slopes on x and covariates are common. df = points - panels -
    covariates - 1.

    Interval: Fisher's z with variance 1/(df - 1), times 1 + r²/2 for ranks (Bonett and Wright 2000). Across panels
    whose labels recur: Student's t with labels - 2 degrees of freedom and the jackknife that leaves a label out of
    all panels at once, never shorter than the other; ``p_value`` goes with it. Permutation: residuals of y on the
    covariates are exchanged and added back (Freedman and Lane 1983), within panels, or labels as wholes where every
    panel has each once.

    With nine schemes and one covariate an interval is wide: |r| below about 0.71 has p above 0.05.

    Coverage of Pearson's interval, nominal 0.95, one covariate, partial correlation 0 and 0.8 (2,000 replications;
    ``benchmarks/results/coverage_association.md``): one pair of nine schemes 0.945, 0.959; across pairs, by label, where
    0 and 0.9 of the scatter are the schemes' own, 3 pairs 0.976, 0.984 and 0.960, 0.963; 10 pairs 0.978, 0.977 and
    0.957, 0.952. Ranks, several covariates, and pairs without ``label`` have not been simulated; without ``label`` the
    plain correlation within pairs covers as little as 0.485
    (:func:`~kdstats.association.repeated.repeated_correlation`).

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        covariates: Column or columns to hold fixed, e.g. the teacher's entropy.
        group: Column or columns that tell panels apart.
        label: Column that names the points (schemes).
        across: One result over all panels instead of one a panel.
        confidence: Nominal coverage, a fraction.
        permutations: Random arrangements where there are too many to count.
        seed: Seed of the arrangements.

    Returns:
        Two rows a panel (two in all with ``across``): the group columns (not with ``across``), then the fields of
        :class:`PartialCorrelation`; covariates and notes as text.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also no covariate, an unknown one, one that is x
            or y, or too few points for their number.
        CheckError: A column is constant within a panel, covariates that are collinear, or x or y that they
            explain in full.
    """
    check_confidence(confidence)
    if permutations < 1:
        raise UsageError(f"permutations must be at least 1, got {permutations}")
    check_seed(seed)
    names = _covariates(covariates, x, y, group)
    groups = group_columns(group)
    if across and not groups:
        raise UsageError("across=True needs group: the column that tells panels apart")
    beside = () if across else PartialCorrelation.columns()
    panels = panels_for(df, beside, x=x, y=y, group=group, label=label)
    columns = {name: extra(df, name) for name in names}
    for panel in panels:
        for name, column in columns.items():
            where = f" in panel {panel.name!r}" if groups else ""
            check_varies(column[panel.rows], f"covariate {name!r}", where)

    def both(*part: Panel) -> Iterator[dict[str, Any]]:
        for method in PARTIAL_METHODS:
            found = partial_of(part, columns, method, label, confidence, permutations, seed)
            yield {**found.to_dict(), "covariates": ", ".join(found.covariates)}

    if across:
        return pd.DataFrame([{**row, "notes": notes_text(row["notes"])} for row in both(*panels)])
    return each_panel(panels, group, both)


def _covariates(given: str | Sequence[str], x: str, y: str, group: Columns) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names:
        raise UsageError("partial_correlation needs at least one covariate; correlate() needs none")
    for name in names:
        if name in (x, y):
            raise UsageError(f"covariate {name!r} is x or y itself")
        if name in group_columns(group):
            raise UsageError(f"column {name!r} cannot both tell panels apart and be a covariate")
        if names.count(name) > 1:
            raise UsageError(f"covariate {name!r} is named twice")
    return names


def partial_of(
    panels: Sequence[Panel],
    covariates: dict[str, Floats],
    method: str,
    label: str | None,
    confidence: float,
    permutations: int,
    seed: int,
) -> PartialCorrelation:
    """One coefficient of one panel, or across several; see :func:`partial_correlation`.

    Args:
        panels: Checked panels.
        covariates: By name, a value for each row of the table that the panels were cut from.
        method: One of :data:`PARTIAL_METHODS`.
        label: Column that the labels came from; None where they are row numbers.
        confidence: Nominal coverage, a fraction.
        permutations: Random arrangements.
        seed: Seed of the arrangements.
    """
    names, k = tuple(covariates), len(panels)
    table = WithinPanels(panels, covariates, method)
    every = np.ones(table.x.size, dtype=bool)
    n, dof = table.x.size, table.x.size - k - len(names) - 1
    if dof < 2:
        raise UsageError(
            f"{n} points with {len(names)} covariates leave {max(dof, 0)} degrees of freedom: an interval needs at "
            f"least {k + len(names) + 3} points"
        )
    x, y = table.within(table.x, every), table.within(table.y, every)
    try:
        basis = basis_of(table.within(table.z, every), names)
        u, v = (left_by(column, basis, name, names) for name, column in (("x", x), ("y", y)))
    except CheckError as reason:
        if method == "pearson":
            raise
        # Ranks of few points coincide by chance; Pearson's row and the other panels still stand.
        said, plain = f"no partial rank correlation: among ranks, {reason}", correlation(x, y)
        return PartialCorrelation(
            method=method,
            estimate=math.nan,
            low=-1.0,
            high=1.0,
            p_value=math.nan,
            p_pointwise=math.nan,
            p_permutation=math.nan,
            plain=plain,
            df=dof,
            n=n,
            k=k,
            labels=0,
            covariates=names,
            confidence=confidence,
            interval="none",
            notes=(said,),
        )
    r = correlation(u, v)
    notes = [f"panel {p.name!r}: {note}" for p in panels for note in p.notes] if k > 1 else []
    share = float((u * u).sum() / (x * x).sum())
    if share < 0.1:
        notes.append(
            f"the covariates explain {1 - share:.0%} of x: what is left may be its errors of measurement"
        )
    low, high, units = r, r, 0
    pointwise = p_value = p_of(r, dof)
    if abs(r) > 1 - 1e-12:
        notes.append("the residuals lie on a line: the interval has no width")
    else:
        z, z_se = math.atanh(r), 0.0
        se = math.sqrt((1 + r * r / 2 if method == "spearman" else 1.0) / (dof - 1))
        if together := names_as_units(panels, label):
            units, z_se = len(set(together)), _se_by_label(table, together)
            p_value = p_with_labels(z, z_se, units, se)
        reach = reach_of_z(se, confidence, units=units, label_se=z_se)
        low, high = math.tanh(z - reach), math.tanh(z + reach)
    exchange = Exchange.of(panels, by_label=recur(panels, label))
    notes += notes_on_units(panels, label, exchange)
    rng = panels[0].stream(seed, f"partial {method} {len(panels)}")
    return PartialCorrelation(
        method=method,
        estimate=r,
        low=low,
        high=high,
        p_value=p_value,
        p_pointwise=pointwise,
        p_permutation=exchange.p_value(freedman_lane(u, v, basis), r, permutations, rng),
        plain=correlation(x, y),
        df=dof,
        n=n,
        k=k,
        labels=units,
        covariates=names,
        confidence=confidence,
        interval=f"jackknife over {units} labels" if units else "Fisher's z, points as units",
        notes=tuple(notes),
    )


def _se_by_label(table: WithinPanels, names: Sequence[str]) -> float:
    """Jackknife standard error of Fisher's z when a label is left out of all panels at once."""

    def left_out(kept: NDArray[np.bool_]) -> Floats:
        basis = np.linalg.qr(table.within(table.z, kept))[0]
        u, v = (residual(table.within(column, kept), basis) for column in (table.x, table.y))
        z: Floats = np.arctanh(np.array([correlation(u, v)]))
        return z

    return float(jackknife_of_labels(names, left_out)[0])
