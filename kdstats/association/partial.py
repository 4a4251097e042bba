"""Partial correlation: what a predictor says about the outcome beyond its rivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from kdstats.association.coefficients import Floats, centred, check_varies
from kdstats.association.columns import as_row, extra, naming, refuse_clash
from kdstats.association.labels import (
    FEWEST_LABELS,
    Exchange,
    correlation,
    jackknife_of_labels,
    p_of,
    p_with_labels,
    recur,
)
from kdstats.association.panels import Columns, Panel, group_columns, split
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import check_confidence, t_quantile

PARTIAL_METHODS = ("pearson", "spearman")
_ALIKE = 1e-9  # share of a column's length that is left when the others explain all of it but for rounding


@dataclass(frozen=True, slots=True)
class PartialCorrelation:
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

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON."""
        return {**asdict(self), "covariates": list(self.covariates), "notes": list(self.notes)}


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

    Coverage with one, 3 and 10 pairs of nine schemes: ``benchmarks/results/coverage_association.md``.

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
    names = _covariates(covariates, x, y, group)
    groups = group_columns(group)
    if across and not groups:
        raise UsageError("across=True needs group: the column that tells panels apart")
    if not across:
        refuse_clash(groups, [f.name for f in fields(PartialCorrelation)])
    panels = split(df, x=x, y=y, group=group, label=label)
    columns = {name: extra(df, name) for name in names}
    for panel in panels:
        for name, column in columns.items():
            where = f" in panel {panel.name!r}" if groups else ""
            check_varies(column[panel.rows], f"covariate {name!r}", where)
    parts = [panels] if across else [[panel] for panel in panels]
    rows = []
    for part in parts:
        for method in PARTIAL_METHODS:
            if across:
                found = partial_of(part, columns, method, label, confidence, permutations, seed).to_dict()
                rows.append({**found, "notes": "; ".join(found["notes"])})
            else:
                with naming(part[0]):
                    found = partial_of(part, columns, method, label, confidence, permutations, seed).to_dict()
                rows.append(as_row(groups, part[0], found))
    return pd.DataFrame([{**row, "covariates": ", ".join(row["covariates"])} for row in rows])


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


class _Columns:
    """x, y and covariates of some panels, less panel means, scaled; ranked within panels first for spearman."""

    def __init__(self, panels: Sequence[Panel], covariates: dict[str, Floats], method: str) -> None:
        self.member = np.repeat(np.arange(len(panels)), [p.n for p in panels])
        self.x, self.y, *rest = (
            self._prepared(
                [getattr(p, c) if c in "xy" else covariates[c[1:]][p.rows] for p in panels], method
            )
            for c in ("x", "y", *(f" {name}" for name in covariates))
        )
        self.z = np.column_stack(rest)

    @staticmethod
    def _prepared(parts: list[Floats], method: str) -> Floats:
        if method == "spearman":
            parts = [stats.rankdata(part) for part in parts]
        return centred(np.concatenate(parts))

    def within(self, column: Floats, kept: NDArray[np.bool_]) -> Floats:
        """The kept entries of a column (n,) or (n, c) less the means of their panels."""
        member = self.member[kept]
        out = np.array(column[kept])
        for k in np.unique(member):
            out[member == k] -= out[member == k].mean(axis=0)
        return out


def _basis(z: Floats, names: Sequence[str]) -> Floats:
    """Orthonormal columns (n, c) that span the covariates; ``CheckError`` where one is a mixture of the others."""
    scaled = z / np.linalg.norm(z, axis=0)
    for i, name in enumerate(names):
        others = np.delete(scaled, i, axis=1)
        left = scaled[:, i] - others @ np.linalg.lstsq(others, scaled[:, i], rcond=None)[0]
        if float(np.linalg.norm(left)) < _ALIKE:
            rest = ", ".join(repr(other) for other in names if other != name)
            raise CheckError(f"covariate {name!r} is a linear combination of {rest}: leave one out")
    out: Floats = np.linalg.qr(scaled)[0]
    return out


def _residual(column: Floats, basis: Floats) -> Floats:
    # Twice, because one projection leaves the rounding of its own sums.
    out = column - basis @ (basis.T @ column)
    cleaned: Floats = out - basis @ (basis.T @ out)
    return cleaned


def _left(column: Floats, basis: Floats, name: str, covariates: Sequence[str]) -> Floats:
    out = _residual(column, basis)
    if float(np.linalg.norm(out)) < _ALIKE * float(np.linalg.norm(column)):
        raise CheckError(f"the covariates ({', '.join(covariates)}) explain {name} in full: nothing is left")
    return out


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
    table = _Columns(panels, covariates, method)
    every = np.ones(table.x.size, dtype=bool)
    n, dof = table.x.size, table.x.size - k - len(names) - 1
    if dof < 2:
        raise UsageError(
            f"{n} points with {len(names)} covariates leave {max(dof, 0)} degrees of freedom: an interval needs at "
            f"least {k + len(names) + 3} points"
        )
    x, y = table.within(table.x, every), table.within(table.y, every)
    try:
        basis = _basis(table.within(table.z, every), names)
        u, v = (_left(column, basis, name, names) for name, column in (("x", x), ("y", y)))
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
    shared, units, low, high = k > 1 and recur(panels, label), 0, r, r
    pointwise = p_value = p_of(r, dof)
    if abs(r) > 1 - 1e-12:
        notes.append("the residuals lie on a line: the interval has no width")
    else:
        factor = 1 + r * r / 2 if method == "spearman" else 1.0
        se = math.sqrt(factor / (dof - 1))
        reach = float(special.ndtri(0.5 + confidence / 2)) * se
        together = [name for p in panels for name in p.labels]
        if shared and len(set(together)) >= FEWEST_LABELS:
            units = len(set(together))

            def left_out(kept: NDArray[np.bool_]) -> Floats:
                q = np.linalg.qr(table.within(table.z, kept))[0]
                a, b = (_residual(table.within(c, kept), q) for c in (table.x, table.y))
                z: Floats = np.arctanh(np.array([correlation(a, b)]))
                return z

            z_se = float(jackknife_of_labels(together, left_out)[0])
            p_value = p_with_labels(math.atanh(r), z_se, units, se)
            reach = max(reach, t_quantile(confidence, units - 2) * z_se)
        low, high = math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)
    if k > 1 and label is None:
        notes.append(
            "without label= interval and p_value take points as independent; where panels share schemes the interval "
            "is too short and the p too small"
        )
    exchange = Exchange.of(panels, by_label=shared)
    if shared and not exchange.together:
        notes.append("panels have unlike labels: p_permutation exchanges points within panels")
    rng = panels[0].stream(seed, f"partial {method} {len(panels)}")
    return PartialCorrelation(
        method=method,
        estimate=r,
        low=low,
        high=high,
        p_value=p_value,
        p_pointwise=pointwise,
        p_permutation=exchange.p_value(_freedman_lane(u, v, basis), r, permutations, rng),
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


def _freedman_lane(u: Floats, v: Floats, basis: Floats) -> Callable[[NDArray[np.intp]], Floats]:
    """The partial correlation of each arrangement of the residuals v; adding back the fit would cancel."""
    length_u = float(np.linalg.norm(u))

    def statistic(rows: NDArray[np.intp]) -> Floats:
        moved = v[rows]
        left = (moved * moved).sum(axis=1) - ((moved @ basis) ** 2).sum(axis=1)
        safe = np.sqrt(np.maximum(left, 1e-300))
        out: Floats = np.where(left > 1e-20, moved @ u / (safe * length_u), 0.0)
        return out

    return statistic
