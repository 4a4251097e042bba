"""Columns with the means of their groups taken out, and which groups belong together: the start of every regression.

With an effect for every group (pair), the slope of y on x depends on the deviations from group means alone (Frisch
and Waugh 1933), so all slopes of this room are computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdstats.association.coefficients import Floats, exponent_of, times_two_to
from kdstats.association.panels import Columns, Panel, check_column, group_columns, row_name, split
from kdstats.errors import CheckError, UsageError

Codes = NDArray[np.intp]
_PLAIN = 200  # powers of two at which sums of fourth powers still fit a float64


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """Predictor and outcome without their group means, in rows sorted by group.

    Attributes:
        x: Predictor minus its group's mean, (n,).
        y: Outcome alike, (n,).
        group: Number of each row's group, (n,).
        names: Group names, (groups,).
        sizes: Rows of each group, (groups,).
        cluster: Number of each row's cluster, (n,); all zero where there are none.
        clusters: Number of clusters; 0 where neither a group nor a cluster column was given.
        nested: Whether every group lies in one cluster.
        notes: Warnings that stay with every result.
        exponent_x: ``x`` is in units of 2**exponent_x; other than 0 only for columns whose squares a float64 does not
            hold.
        exponent_y: ``y`` alike; :attr:`slope` is in units of 2**:attr:`exponent`.
    """

    x: Floats
    y: Floats
    group: Codes
    names: tuple[str, ...]
    sizes: Floats
    cluster: Codes
    clusters: int
    nested: bool
    notes: tuple[str, ...]
    exponent_x: int = 0
    exponent_y: int = 0

    @property
    def exponent(self) -> int:
        """The power of two that turns slopes into units of y per unit of x."""
        return self.exponent_y - self.exponent_x

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.x.size)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.names)

    @property
    def sxx(self) -> float:
        """Sum of squares of the predictor within groups."""
        return float(self.x @ self.x)

    @property
    def slope(self) -> float:
        """Least-squares slope with group effects."""
        return float(self.x @ self.y) / self.sxx

    def centre(self, column: Floats) -> Floats:
        """``column`` (n,) or (n, m) minus the mean of its group."""
        out: Floats = column - group_means(column, self.group, self.sizes)[self.group]
        return out

    def per_cluster(self, column: Floats) -> Floats:
        """Sums of ``column`` over clusters, (clusters,)."""
        out: Floats = np.bincount(self.cluster, weights=column, minlength=self.clusters).astype(np.float64)
        return out


def group_means(column: Floats, group: Codes, sizes: Floats) -> Floats:
    """Means of ``column`` (n,) or (n, m) over groups, (groups,) or (groups, m)."""
    sums = np.zeros((sizes.size, *column.shape[1:]))
    np.add.at(sums, group, column)
    out: Floats = sums / sizes.reshape(-1, *([1] * (column.ndim - 1)))
    return out


def within(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns = None,
    cluster: Columns = None,
    label: str | None = None,
    standardised: bool = False,
) -> Within:
    """Checks a tidy frame and takes the group means out.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell groups (pairs) apart; each gets an effect of its own.
        cluster: Column or columns whose values tell clusters apart: rows whose errors may depend on each other.
            The groups where absent.
        label: Column that names the points.
        standardised: Divide both columns by their standard deviation within each group, so that the slope of a
            group is its Pearson correlation.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also a cluster column that is unknown, holds
            missing values or is correlated itself, and fewer than two clusters.
        CheckError: A column is constant within a group.
    """
    panels = split(df, x=x, y=y, group=group, label=label)
    rows = np.concatenate([panel.rows for panel in panels]).astype(np.intp)
    sizes = np.array([panel.n for panel in panels], dtype=np.float64)
    codes = np.repeat(np.arange(len(panels)), sizes.astype(np.intp))
    clusters_of, clusters = _clusters(df, rows, codes, panels, x, y, group, cluster)
    firsts = np.unique(np.stack([codes, clusters_of]), axis=1)
    nested = clusters > 0 and firsts.shape[1] == len(panels)
    notes = list(dict.fromkeys(note for panel in panels for note in panel.notes))
    if label is not None and clusters > 1 and _shared(panels, clusters_of):
        notes.append(
            f"the same {label} is found in several clusters: what it does to all of them alike is not in this "
            f"interval, which may be far too short then; regress(cluster={label!r}) has it"
        )
    deviations_x, exponent_x = _columns([panel.x for panel in panels], standardised)
    deviations_y, exponent_y = _columns([panel.y for panel in panels], standardised)
    for panel, part in zip(
        panels, np.split(deviations_x, np.cumsum(sizes.astype(np.intp))[:-1]), strict=True
    ):
        if not 0 < float(part @ part) < math.inf:
            raise CheckError(
                f"the spread of column {x!r} in panel {panel.name!r} is too small or too large beside that of other "
                "panels for a float64; rescale it"
            )
    return Within(
        x=deviations_x,
        y=deviations_y,
        group=codes,
        names=tuple(panel.name for panel in panels),
        sizes=sizes,
        cluster=clusters_of,
        clusters=clusters,
        nested=nested,
        notes=tuple(notes),
        exponent_x=exponent_x,
        exponent_y=exponent_y,
    )


def check_residuals(residuals: Floats, y: Floats) -> None:
    """Refuses points that lie on their lines exactly: nothing is left to judge a slope by."""
    if float(residuals @ residuals) <= 1e-24 * float(y @ y):
        raise CheckError(
            "the points of every panel lie exactly on lines of one slope: no error is left to judge it by"
        )


def _columns(parts: list[Floats], standardised: bool) -> tuple[Floats, int]:
    """Deviations of all panels' values of one column, and the power of two that was taken out of them."""
    if standardised:  # no unit is left, so each panel may be scaled by itself
        return np.concatenate([_deviations(times_two_to(p, -exponent_of(p)), True) for p in parts]), 0
    exponent = max(exponent_of(p) for p in parts)
    if abs(exponent) <= _PLAIN:
        exponent = 0
    return np.concatenate([_deviations(times_two_to(p, -exponent), False) for p in parts]), exponent


def _deviations(column: Floats, standardised: bool) -> Floats:
    out: Floats = column - column.mean()
    out -= out.mean()  # a second pass takes the rounding of the first mean out
    return out / float(out.std(ddof=1)) if standardised else out


def _shared(panels: list[Panel], clusters_of: Codes) -> bool:
    seen: dict[str, int] = {}
    labels = [label for panel in panels for label in panel.labels]
    return any(seen.setdefault(label, int(c)) != c for label, c in zip(labels, clusters_of, strict=True))


def _clusters(
    df: pd.DataFrame,
    rows: Codes,
    codes: Codes,
    panels: list[Panel],
    x: str,
    y: str,
    group: Columns,
    cluster: Columns,
) -> tuple[Codes, int]:
    names = group_columns(cluster)
    if not names:
        return (codes, len(panels)) if group_columns(group) and len(panels) > 1 else (np.zeros_like(codes), 0)
    for name in names:
        check_column(df, name)
        if name in (x, y):
            raise UsageError(f"column {name!r} cannot both tell clusters apart and be correlated")
        missing = np.flatnonzero(df[name].isna().to_numpy())
        if missing.size:
            raise UsageError(f"cluster column {name!r} has no value in {row_name(df, int(missing[0]))}")
    keys: dict[tuple[Hashable, ...], int] = {}
    values = list(zip(*(df[name].iloc[rows] for name in names), strict=True))
    found = np.array([keys.setdefault(value, len(keys)) for value in values], dtype=np.intp)
    if len(keys) < 2:
        raise UsageError(
            f"one cluster only in {', '.join(map(repr, names))}: a robust error needs at least 2"
        )
    return found, len(keys)
