"""Several rows of one scheme in one panel (seeds): brought to one point, because they are not independent points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.coefficients import Floats, exponent_of, times_two_to
from kdstats.association.columns import extra
from kdstats.association.panels import Columns, check_column, group_columns, members, numbers, refuse_rows
from kdstats.errors import UsageError


@dataclass(frozen=True, slots=True)
class Averaged:
    """A table with one row per panel and label.

    Attributes:
        table: The means, in order of first appearance; the index is that of each point's first row.
        rows: Rows of the table that was given.
        points: Rows of ``table``.
        fewest: Rows behind the point that has fewest.
        most: Rows behind the point that has most; 1 where nothing repeats.
    """

    table: pd.DataFrame
    rows: int
    points: int
    fewest: int
    most: int

    def sentence(self, what: str) -> str:
        """What was averaged, e.g. ``81 rows → 27 points, each the mean over 3 rows``; ``what`` is a point's name."""
        each = str(self.most) if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{self.rows:,} rows → {self.points:,} points, each the mean over {each} rows of one {what}"


def average_repeats(
    df: pd.DataFrame,
    *,
    means: Sequence[str],
    errors: Mapping[str, str] | None = None,
    label: str,
    group: Columns = None,
    keep: Sequence[str] = (),
) -> Averaged:
    """One row per panel and label: the means of the numbers, and their standard errors.

    Rows of one scheme in one panel (seeds of one pair) share the scheme, so they are repeats of one point; correlated
    as points of their own they would multiply n for nothing.

    The standard error of a mean over n rows is sqrt(Σ se²)/n, rows taken as independent. Where all n rows hold one and
    the same value (a predictor measured once and copied beside every seed) there is one measurement, not n: its
    standard error stays, as the root mean square of the n.

    Args:
        df: One row per measurement.
        means: Columns of numbers, averaged.
        errors: Column of standard errors → the column of ``means`` that it belongs to. A missing one leaves the error
            of its point missing.
        label: Column that names the points.
        group: Column or columns that tell panels apart.
        keep: Further columns that must be one value per point, e.g. what tells clusters apart.

    Returns:
        The group columns, ``label``, ``keep``, the means and the errors. Any other column is kept where all rows of
        every point agree, and left out otherwise.

    Raises:
        UsageError: Unknown columns; values of ``means`` that are missing or no numbers, or missing names; a column of
            ``keep`` that differs between the rows of a point.

    >>> rows = pd.DataFrame({"scheme": ["a", "a", "b"], "loss": [1.0, 2.0, 5.0], "se": [0.3, 0.4, 0.5]})
    >>> average_repeats(rows, means=["loss"], errors={"se": "loss"}, label="scheme").table.values.tolist()
    [['a', 1.5, 0.25], ['b', 5.0, 0.5]]
    """
    groups = group_columns(group)
    belongs = dict(errors or {})
    for name in dict.fromkeys([*groups, label, *keep, *belongs]):
        check_column(df, name)
    for name in dict.fromkeys([*groups, label]):
        kind = "label" if name == label else "group"
        refuse_rows(df, df[name].isna().to_numpy(), f"{kind} column {name!r} has no value")
    cells = [rows for _, rows in members(df, list(dict.fromkeys([*groups, label])))]
    firsts = np.array([rows[0] for rows in cells], dtype=np.intp)
    sizes = [len(rows) for rows in cells]
    cell = np.empty(len(df), dtype=np.intp)  # the point of each row
    cell[np.concatenate(cells)] = np.repeat(np.arange(len(cells)), sizes)
    columns: dict[str, Any] = {}
    values = {name: extra(df, name) for name in dict.fromkeys(means)}
    for name in map(str, df.columns):
        if name in values:
            columns[name] = [_mean(values[name][rows]) for rows in cells]
        elif name in belongs:
            of, own = values[belongs[name]], numbers(df, name, missing=True)
            columns[name] = [_error(own[rows], of[rows]) for rows in cells]
        elif name in groups or name == label or _one_each(df[name], firsts, cell):
            columns[name] = df[name].to_numpy()[firsts]
        elif name in keep:
            raise UsageError(
                f"column {name!r} differs between rows of one {label}: they are no repeats of one point"
            )
    table = pd.DataFrame(columns, index=df.index[firsts])
    return Averaged(table, len(df), len(cells), min(sizes), max(sizes))


def repeats(df: pd.DataFrame, *, label: str, group: Columns = None) -> bool:
    """Whether a label stands more than once in a panel."""
    return bool(df.duplicated(list(dict.fromkeys([*group_columns(group), label]))).any())


def spread_over_repeats(df: pd.DataFrame, column: str, *, label: str, group: Columns = None) -> Floats:
    """Standard error of each row (n,) as one measurement: the spread over repeats, pooled over the points of a panel.

    Three seeds say little about their own spread, so all points of a panel are taken to spread alike: the variance
    within (panel, label), over its degrees of freedom. :func:`average_repeats` makes the error of the mean of it. It
    holds all that differs between repeats, also what a seed does to all schemes alike.

    Raises:
        UsageError: A column that is unknown or holds no numbers, or a panel in which nothing repeats.
    """
    values, groups = extra(df, column), group_columns(group)
    exponent = exponent_of(values)
    values = times_two_to(values, -exponent)
    out = np.empty(len(df))
    for key, rows in members(df, groups):
        within = [values[rows[own]] for _, own in members(df.iloc[rows], [label])]
        freedom = len(rows) - len(within)
        if freedom < 1:
            where = f" in panel {' '.join(map(str, key))!r}" if groups else ""
            raise UsageError(f"no {label} is repeated{where}: there is no spread of {column!r} over repeats")
        out[rows] = math.sqrt(sum(float(((v - v.mean()) ** 2).sum()) for v in within) / freedom)
    return times_two_to(out, exponent)


def _mean(values: Floats) -> float:
    if (values == values[0]).all():
        return float(values[0])  # a sum of copies would add rounding
    exponent = exponent_of(values)  # the sum of values near 1e308 would not fit
    return float(times_two_to(np.array([times_two_to(values, -exponent).mean()]), exponent)[0])


def _error(own: Floats, of: Floats) -> float:
    if np.isnan(own).any():
        return math.nan
    exponent = exponent_of(own)
    scaled = times_two_to(own, -exponent)
    copies = bool((of == of[0]).all())
    root = math.sqrt(float((scaled**2).sum())) / (math.sqrt(own.size) if copies else own.size)
    return float(times_two_to(np.array([root]), exponent)[0])


def _one_each(column: pd.Series[Any], firsts: Any, cell: Any) -> bool:
    codes = pd.factorize(column, use_na_sentinel=False)[0]
    return bool((codes == codes[firsts][cell]).all())
