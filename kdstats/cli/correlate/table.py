"""From FILE to the table that is correlated: names trimmed, repeats averaged, panels that are too small left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdstats.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.association.repeats import Averaged
    from kdstats.cli.correlate.request import Request

REPEATS = "repeats"
"""Value of ``--x-se`` and ``--y-se`` that asks for the spread over repeats."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the table are used, and as what."""

    x: str
    y: str
    groups: list[str]
    label: str | None
    x_se: str | None
    y_se: str | None
    given: list[str]
    cluster: list[str]

    @property
    def names(self) -> list[str]:
        """Columns that tell rows apart."""
        return [*self.groups, *([self.label] if self.label is not None else []), *self.cluster]

    @property
    def errors(self) -> dict[str, str]:
        """Column of standard errors → the column that it belongs to."""
        pairs = ((self.x_se, self.x), (self.y_se, self.y))
        return {name: of for name, of in pairs if name is not None}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The table to be correlated.

    Attributes:
        table: One row per point.
        columns: What is used of it.
        rows: Rows of the file.
        said: What was done to get here, for the first lines.
        notes: What is missing from the answer because of the table.
        hints: What the names in it suggest.
    """

    table: pd.DataFrame
    columns: Columns
    rows: int
    said: tuple[str, ...]
    notes: tuple[str, ...]
    hints: tuple[str, ...]


def prepare(request: Request, table: pd.DataFrame, columns: Columns) -> Prepared:
    """Checks every column that is used and makes each point one row.

    Raises:
        UsageError: Unknown columns, cells that are missing or no numbers (all of them in one message), or no panel of
            enough points.
    """
    from kdstats.association.cells import check_cells, trimmed, unlike_case

    rows = len(table)
    table, changed = trimmed(table, columns.names)
    asked = {name: of for name, of in columns.errors.items() if not _over_repeats(name, table)}
    check_cells(
        table, values=[columns.x, columns.y, *columns.given], names=columns.names, may_miss=list(asked)
    )
    for name in asked:
        _check_errors(table, name)
    hints = [f"spaces around the names in column {name!r} were taken off" for name in changed]
    hints += [
        f"{one!r} and {other!r} in column {name!r} differ in capitals only and count as two: write them alike if they "
        "are one"
        for name, (one, other) in unlike_case(table, columns.names).items()
    ]
    table, columns, averaged = _points(request, table, columns)
    said = []
    if averaged is not None:
        said.append(_averaged_sentence(averaged, columns))
        if request.y_se is None:
            hints.append("repeats tell how sure their means are: --y-se repeats corrects for their spread")
    table, notes = _large_enough(table, columns, averaged)
    return Prepared(table, columns, rows, tuple(said), tuple(notes), tuple(hints))


def _over_repeats(name: str | None, table: pd.DataFrame) -> bool:
    return name == REPEATS and REPEATS not in table.columns


def _points(
    request: Request, table: pd.DataFrame, columns: Columns
) -> tuple[pd.DataFrame, Columns, Averaged | None]:
    """Rows of one label in one panel as one row, where there are such and they are not to be kept."""
    from kdstats.association.repeats import average_repeats, repeats, spread_over_repeats

    label = columns.label
    wanted = [
        option
        for option, name in (("--x-se", columns.x_se), ("--y-se", columns.y_se))
        if _over_repeats(name, table)
    ]
    there = (
        label is not None
        and label not in columns.groups
        and repeats(table, label=label, group=columns.groups)
    )
    if label is None or not there or request.repeats == "keep":
        if wanted:
            why = (
                "--repeats keep takes every row as a point"
                if there
                else "no label (--label COL) stands twice in a panel"
            )
            raise UsageError(f"{wanted[0]} repeats: {why}, so there is no spread over repeats")
        return table, columns, None
    found = {}
    for field, name, of in (("x_se", columns.x_se, columns.x), ("y_se", columns.y_se, columns.y)):
        if _over_repeats(name, table):
            found[field] = f"{of}_se_over_{REPEATS}"
            spread = spread_over_repeats(table, of, label=label, group=columns.groups)
            table = table.assign(**{found[field]: spread})
    columns = replace(columns, x_se=found.get("x_se", columns.x_se), y_se=found.get("y_se", columns.y_se))
    averaged = average_repeats(
        table,
        means=[columns.x, columns.y, *columns.given],
        errors=columns.errors,
        label=label,
        group=columns.groups,
        keep=columns.cluster,
    )
    return averaged.table, columns, averaged


def _averaged_sentence(averaged: Averaged, columns: Columns) -> str:
    text = f"repeats: {averaged.sentence(str(columns.label))}"
    if columns.errors:
        text += "; standard errors combine as sqrt(sum se²)/n (copies of one value keep theirs)"
    return f"{text}; --repeats keep takes each row as a point."


def _large_enough(
    table: pd.DataFrame, columns: Columns, averaged: Averaged | None
) -> tuple[pd.DataFrame, list[str]]:
    """The table without panels of too few points, and a note for each; all of it where no other panel remains."""
    from kdstats.association.panels import SMALLEST_N, members, panel_name

    panels = members(table, columns.groups)
    small = [(key, rows) for key, rows in panels if len(rows) < SMALLEST_N]
    if small and len(small) == len(panels) and averaged is not None:
        most = max(len(rows) for _, rows in panels)
        raise UsageError(
            f"{averaged.sentence(str(columns.label))}: at most {most} in a panel, and a correlation with an interval "
            f"needs at least {SMALLEST_N}; --repeats keep takes each row as a point"
        )
    if not small or len(small) == len(panels):
        return table, []
    notes = [
        f"panel {panel_name(key)!r} is left out: {len(rows)} point{'s' * (len(rows) > 1)}, and a correlation with an "
        f"interval needs at least {SMALLEST_N}"
        for key, rows in small
    ]
    out = sorted(int(i) for _, rows in small for i in rows)
    kept = [i for i in range(len(table)) if i not in set(out)]
    return table.iloc[kept], notes


def _check_errors(table: pd.DataFrame, name: str) -> None:
    """Refuses standard errors that are negative or all missing, before squares hide the sign."""
    import numpy as np

    from kdstats.association.panels import numbers, row_name

    values = numbers(table, name, missing=True)
    if np.isnan(values).all():
        raise UsageError(f"column {name!r} holds no standard error at all")
    if (values < 0).any():
        where = row_name(table, int((values < 0).argmax()))
        raise UsageError(f"column {name!r} is negative in {where}: a standard error is 0 or more")
