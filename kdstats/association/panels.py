"""The door of this room: a tidy frame becomes checked panels, or an error that names the rows at fault.

A *panel* is one group of points that are correlated with each other, e.g. nine schemes of one teacher/student
pair. Panels are never pooled as if their points were independent.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.coefficients import Floats, check_varies
from kdstats.association.number_text import what_is_wrong
from kdstats.errors import UsageError, unknown

SMALLEST_N = 5

Columns = str | Sequence[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One group of points.

    Attributes:
        key: Values of the group columns; empty when there is one panel only.
        x: Predictor, (n,) float64, finite and not constant.
        y: Outcome, (n,) alike.
        labels: What each point is called, (n,).
        rows: Positions of the points in the frame, (n,).
        notes: Warnings that stay with every result of this panel.
    """

    key: tuple[Hashable, ...]
    x: Floats
    y: Floats
    labels: tuple[str, ...]
    rows: Floats
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key as one text; ``"all"`` for an ungrouped panel."""
        return panel_name(self.key)

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.x.size)

    def stream(self, seed: int, purpose: str) -> np.random.Generator:
        """A generator that depends on seed, panel and purpose only, not on which other panels there are."""
        return stream(self.name, seed, purpose)


def panel_name(key: Sequence[Hashable]) -> str:
    """The values of the group columns as one text; ``"all"`` where there are none."""
    return " ".join(map(str, key)) if key else "all"


def stream(panel: str, seed: int, purpose: str) -> np.random.Generator:
    """:meth:`Panel.stream` of the panel of that name; ``UsageError`` for a negative seed."""
    return np.random.default_rng([check_seed(seed), zlib.crc32(f"{purpose}\0{panel}".encode())])


def check_seed(seed: int) -> int:
    """``seed`` if it is 0 or more; raises ``UsageError`` otherwise."""
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {seed}")
    return seed


def group_columns(group: Columns) -> list[str]:
    """``group`` as a list of column names."""
    if group is None:
        return []
    return [group] if isinstance(group, str) else list(group)


def split(
    df: pd.DataFrame, *, x: str, y: str, group: Columns = None, label: str | None = None
) -> list[Panel]:
    """Checks ``df`` and cuts it into panels, in order of first appearance.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns whose values tell panels apart.
        label: Column with the name of each point; the index otherwise.

    Raises:
        UsageError: Unknown or repeated column, a value that is not a number, NaN or Inf, a missing group value,
            fewer than five points in a panel; the message names columns, panel and rows.
        CheckError: A column is constant within a panel.
    """
    groups = group_columns(group)
    wanted = [x, y, *groups, *([label] if label is not None else [])]
    _check_columns(df, wanted, x, y, groups)
    if len(df) == 0:
        raise UsageError("the table has no rows")
    xs, ys = numbers(df, x), numbers(df, y)
    for name in groups:
        refuse_rows(df, df[name].isna().to_numpy(), f"group column {name!r} has no value")
    labels = _labels(df, label)
    panels = []
    for key, rows in members(df, groups):
        panel = Panel(
            key, xs[rows], ys[rows], tuple(labels[i] for i in rows), rows, _repeats(labels, rows, label)
        )
        where = f" in panel {panel.name!r}" if groups else ""
        if panel.n < SMALLEST_N:
            place = where or " in the table"
            raise UsageError(
                f"{panel.n} points{place}: a correlation with an interval needs at least {SMALLEST_N}"
            )
        check_varies(panel.x, f"column {x!r}", where)
        check_varies(panel.y, f"column {y!r}", where)
        panels.append(panel)
    return panels


def numbers(df: pd.DataFrame, column: str, *, missing: bool = False) -> Floats:
    """A column as float64, (n,).

    Args:
        df: The table.
        column: Its column.
        missing: Whether NaN may stay (optional error bars).

    Raises:
        UsageError: A value is not a number, is infinite, or is missing although ``missing`` is False; the rows
            are named.
    """
    series: pd.Series[Any] = df[column]
    if pd.api.types.is_bool_dtype(series) or not (
        pd.api.types.is_numeric_dtype(series) or pd.api.types.is_object_dtype(series) or _is_text(series)
    ):
        raise UsageError(f"column {column!r} holds {series.dtype} values, not numbers")
    if pd.api.types.is_complex_dtype(series):
        raise UsageError(f"column {column!r} holds complex numbers; a correlation needs real ones")
    converted = pd.to_numeric(series, errors="coerce")
    bad = (converted.isna() & series.notna()).to_numpy()
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        value = series.iloc[first]
        remedy = what_is_wrong(str(value))
        raise UsageError(
            f"column {column!r} is not numeric: {row_name(df, first)} holds {value!r}"
            + (f", {remedy}" if remedy else "")
        )
    values: Floats = converted.to_numpy(dtype=np.float64, na_value=np.nan)
    if not missing:
        refuse_rows(
            df, np.isnan(values), f"column {column!r} has no value (NaN)", "remove these rows or fill them in"
        )
    refuse_rows(df, np.isinf(values), f"column {column!r} is infinite")
    return values


def row_name(df: pd.DataFrame, position: int) -> str:
    """What a row is called in a message: ``row 3``, or ``line 5`` where the index carries file lines."""
    return f"{df.index.name or 'row'} {df.index[position]}"


def _is_text(series: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_string_dtype(series))


def check_column(df: pd.DataFrame, name: str) -> None:
    """``UsageError`` where ``df`` has no column of that name (with the nearest ones), or more than one."""
    if name not in df.columns:
        raise unknown("column", name, map(str, df.columns))
    if int((df.columns == name).sum()) > 1:
        raise UsageError(f"the table has more than one column named {name!r}")


def _check_columns(df: pd.DataFrame, wanted: list[str], x: str, y: str, groups: list[str]) -> None:
    for name in wanted:
        check_column(df, name)
    if x == y:
        raise UsageError(f"x and y are the same column, {x!r}")
    for name in groups:
        if groups.count(name) > 1:
            raise UsageError(f"group column {name!r} is named twice")
        if name in (x, y):
            raise UsageError(f"column {name!r} cannot both tell panels apart and be correlated")


def refuse_rows(
    df: pd.DataFrame, bad: np.ndarray[Any, np.dtype[np.bool_]], what: str, remedy: str = ""
) -> None:
    """``UsageError`` that names the rows where ``bad`` (n,) is true; ``what`` says what they lack."""
    positions = np.flatnonzero(bad)
    if positions.size == 0:
        return
    shown = ", ".join(str(df.index[i]) for i in positions[:8]) + (", …" if positions.size > 8 else "")
    kind = str(df.index.name or "row")
    tail = f"; {remedy}" if remedy else ""
    raise UsageError(f"{what} in {kind}{'s' if positions.size > 1 else ''} {shown}{tail}")


def _labels(df: pd.DataFrame, label: str | None) -> list[str]:
    if label is None:
        return [row_name(df, i) for i in range(len(df))]
    refuse_rows(df, df[label].isna().to_numpy(), f"label column {label!r} has no value")
    return [str(value) for value in df[label]]


def members(df: pd.DataFrame, groups: list[str]) -> list[tuple[tuple[Hashable, ...], Any]]:
    """Values of the group columns and positions (n,) of each panel's rows, in order of first appearance.

    Args:
        df: One row per point; the group columns hold no missing value.
        groups: Their names; without any, all rows are one panel with the key ``()``.
    """
    if not groups:
        return [((), np.arange(len(df)))]
    # ngroup numbers the panels in order of first appearance; one stable sort then collects their rows.
    # An index level may be named like a column, so the index is left out.
    columns = df[groups].reset_index(drop=True)
    numbers_ = columns.groupby(groups, sort=False, observed=True).ngroup().to_numpy()
    order = np.argsort(numbers_, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers_[order])) + 1
    parts = np.split(order, cuts)
    return [(tuple(df[name].iloc[int(rows[0])] for name in groups), rows) for rows in parts]


def _repeats(labels: list[str], rows: Any, label: str | None) -> tuple[str, ...]:
    if label is None:
        return ()
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for i in rows:
        if labels[i] in seen:
            twice[labels[i]] = None
        seen.add(labels[i])
    if not twice:
        return ()
    names = ", ".join(list(twice)[:4]) + (", …" if len(twice) > 4 else "")
    return (f"more than one point is labelled {names}: repeats of one scheme are not independent points",)
