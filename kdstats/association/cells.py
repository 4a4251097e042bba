"""What the cells of a table lack, all of it in one message, and names that differ by spaces or capitals only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.number_text import what_is_wrong
from kdstats.association.panels import check_column, row_name
from kdstats.errors import UsageError

_MOST = 8  # rows and values shown of one column


def check_cells(
    df: pd.DataFrame, *, values: Sequence[str], names: Sequence[str], may_miss: Sequence[str] = ()
) -> None:
    """Refuses a table with cells that a correlation cannot use, naming all of them at once.

    Args:
        df: One row per point.
        values: Columns that hold finite numbers.
        names: Columns that hold a value in every row (groups, labels, clusters).
        may_miss: Columns of numbers that may miss some (standard errors).

    Raises:
        UsageError: Columns that are unknown or named twice; else one message with every column and row at fault, and
            what to do about it.
    """
    said, missing = [], False
    for name in dict.fromkeys([*values, *names, *may_miss]):
        check_column(df, name)
    for name in dict.fromkeys([*values, *names]):
        if absent := _at(df, df[name].isna().to_numpy()):
            said.append(f"{name!r} has no value in {absent}")
            missing = True
    for name in dict.fromkeys([*values, *may_miss]):
        column = df[name]
        if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
            continue
        found = pd.to_numeric(column, errors="coerce")
        bad = np.array(found.isna() & column.notna())
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            text = str(column.iloc[first])
            remedy = what_is_wrong(text)
            bad[first] = False
            also = f" (also {_at(df, bad)})" if bad.any() else ""
            said.append(
                f"{name!r} is not numeric: {row_name(df, first)} holds {text!r}{f', {remedy}' if remedy else ''}{also}"
            )
        said += _infinite(df, name, found)
    for name in dict.fromkeys([*values, *may_miss]):
        if pd.api.types.is_float_dtype(df[name]):
            said += _infinite(df, name, df[name])
    if not said:
        return
    text = "; ".join(said)
    if missing:
        text += "; fill them in or delete these rows"
    raise UsageError(f"column {text}")


def _infinite(df: pd.DataFrame, name: str, column: pd.Series[Any]) -> list[str]:
    bad = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return [f"{name!r} is infinite in {_at(df, bad)}"] if bad.any() else []


def _at(df: pd.DataFrame, bad: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    """``lines 5, 9``: where ``bad`` (n,) is true; empty where nowhere."""
    rows = np.flatnonzero(bad)
    if not rows.size:
        return ""
    if rows.size == len(df):
        return "any row"
    shown = ", ".join(str(df.index[i]) for i in rows[:_MOST]) + (", …" if rows.size > _MOST else "")
    kind = str(df.index.name or "row")
    return f"{kind}{'s' if rows.size > 1 else ''} {shown}"


def trimmed(df: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with spaces around the names in ``columns`` taken off, and the columns in which there were any."""
    out, changed = df, []
    for name in dict.fromkeys(columns):
        if name not in df.columns or int((df.columns == name).sum()) > 1:
            continue  # said by whoever checks the columns
        column = df[name]
        if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
            continue
        plain = column.map(lambda v: v.strip() if isinstance(v, str) else v)
        # A name that was nothing but spaces is none.
        plain = plain.mask(plain.map(lambda v: isinstance(v, str) and not v))
        if not column.equals(plain):
            out = out.assign(**{name: plain})
            changed.append(name)
    return out, changed


def unlike_case(df: pd.DataFrame, columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Column → two of its names that are one but for capitals; only columns that have such."""
    found = {}
    for name in dict.fromkeys(columns):
        seen: dict[str, str] = {}
        for value in map(str, df[name].dropna().unique()):
            other = seen.setdefault(value.casefold(), value)
            if other != value:
                found[name] = (other, value)
                break
    return found
