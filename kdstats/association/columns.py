"""From a table to a tidy frame of results: further columns checked at the door, the loop over panels, their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from kdstats.association.coefficients import Floats
from kdstats.association.panels import Columns, Panel, check_column, group_columns, numbers, split
from kdstats.association.result import notes_text
from kdstats.errors import KdstatsError, UsageError


def extra(df: pd.DataFrame, name: str) -> Floats:
    """A further column as float64, (rows of ``df``,).

    Raises:
        UsageError: Unknown or repeated column, a value that is not a number, NaN or Inf (rows are named).
    """
    check_column(df, name)
    return numbers(df, name)


def refuse_clash(groups: Sequence[str], results: Iterable[str]) -> None:
    """``UsageError`` where a group column has the name of a result column."""
    clash = sorted(set(groups) & set(results))
    if clash:
        raise UsageError(f"group column {clash[0]!r} has the name of a result column; rename it")


@contextmanager
def naming(panel: str) -> Iterator[None]:
    """Adds the name of a panel to an error raised inside; a table that is not grouped has none (``""``)."""
    try:
        yield
    except KdstatsError as error:
        if not panel:
            raise
        raise type(error)(f"panel {panel!r}: {error}") from error


def panels_for(
    df: pd.DataFrame,
    results: Iterable[str],
    *,
    x: str,
    y: str,
    group: Columns = None,
    label: str | None = None,
) -> list[Panel]:
    """:func:`~kdstats.association.panels.split`, of a table whose group columns do not hide a result column.

    Args:
        df: One row per point.
        results: Names of the result columns that will stand beside the group columns.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell panels apart.
        label: Column that names the points.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also a group column named like a result.
        CheckError: A column is constant within a panel.
    """
    refuse_clash(group_columns(group), results)
    return split(df, x=x, y=y, group=group, label=label)


def each_panel(
    panels: Sequence[Panel], group: Columns, results_of: Callable[[Panel], Iterable[Mapping[str, Any]]]
) -> pd.DataFrame:
    """A tidy frame with the results of every panel: group columns, then the fields of the result.

    Args:
        panels: Of :func:`panels_for`, with the same ``group``.
        group: Column or columns that tell them apart.
        results_of: The rows of one panel. ``notes`` of a row is a sequence; the panel's own notes go before it and both
            become one text. An error raised inside gets the panel's name.
    """
    groups = group_columns(group)
    rows: list[dict[str, Any]] = []
    for panel in panels:
        key = dict(zip(groups, panel.key, strict=True))
        with naming(panel.name if groups else ""):
            rows += [
                {**key, **row, "notes": notes_text([*panel.notes, *row["notes"]])}
                for row in results_of(panel)
            ]
    return pd.DataFrame(rows)
