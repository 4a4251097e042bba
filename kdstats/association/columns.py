"""Further columns of a table beside x and y, checked at the door, and rows that carry a panel's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdstats.association.coefficients import Floats
from kdstats.association.panels import Panel, numbers, row_name
from kdstats.errors import CheckError, UsageError, unknown


def extra(df: pd.DataFrame, name: str) -> Floats:
    """A further column as float64, (rows of ``df``,).

    Raises:
        UsageError: Unknown or repeated column, a value that is not a number, NaN or Inf (rows are named).
    """
    if name not in df.columns:
        raise unknown("column", name, map(str, df.columns))
    if int((df.columns == name).sum()) > 1:
        raise UsageError(f"the table has more than one column named {name!r}")
    return numbers(df, name)


def error_column(df: pd.DataFrame, source: str | float | None, role: str) -> Floats:
    """Standard errors of x or y, one per row of ``df``.

    Args:
        df: One row per point.
        source: A column, one number for all points, or None for no error.
        role: ``"x_se"`` or ``"y_se"``, for messages.

    Raises:
        UsageError: As :func:`extra`; also a negative value.
    """
    if source is None:
        return np.zeros(len(df))
    if not isinstance(source, str):
        return errors_of(source, len(df), role)
    values = extra(df, source)
    below = np.flatnonzero(values < 0)
    if below.size:
        raise UsageError(
            f"column {source!r} ({role}) is negative in {row_name(df, int(below[0]))}: "
            "a standard error is 0 or more"
        )
    return values


def errors_of(value: ArrayLike | None, n: int, role: str) -> Floats:
    """Standard errors as (n,) float64 from one number, n numbers, or None for zeros.

    Raises:
        UsageError: Another shape, NaN, Inf or a negative value.
    """
    if value is None:
        return np.zeros(n)
    given = np.asarray(value, dtype=np.float64)
    if given.shape not in ((), (n,)):
        raise UsageError(f"{role} must be one number or one per point ({n}), got shape {given.shape}")
    if not (np.isfinite(given) & (given >= 0)).all():
        raise UsageError(
            f"{role} holds a value that is negative, NaN or infinite: a standard error is 0 or more"
        )
    out: Floats = np.broadcast_to(given, (n,)).copy()
    return out


def refuse_clash(groups: Sequence[str], results: Sequence[str]) -> None:
    """``UsageError`` where a group column has the name of a result column."""
    clash = sorted(set(groups) & set(results))
    if clash:
        raise UsageError(f"group column {clash[0]!r} has the name of a result column; rename it")


@contextmanager
def naming(panel: Panel) -> Iterator[None]:
    """Adds the panel's name to an error raised inside; an ungrouped panel has none."""
    try:
        yield
    except (UsageError, CheckError) as error:
        if not panel.key:
            raise
        raise type(error)(f"panel {panel.name!r}: {error}") from error


def as_row(groups: Sequence[str], panel: Panel, result: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a tidy frame: group columns, then the result with the panel's notes and its own as text."""
    notes = "; ".join([*panel.notes, *result["notes"]])
    return {**dict(zip(groups, panel.key, strict=True)), **result, "notes": notes}
