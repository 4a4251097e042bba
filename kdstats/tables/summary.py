"""Means over seeds: what a results table holds, unrounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdstats.errors import CheckError, UsageError, unknown
from kdstats.tables.excluded import excluded_rows

if TYPE_CHECKING:
    import pandas as pd

BETTER = ("lowest", "highest")
# Runs that differ in these are not trained alike.
_BUDGET = ("epochs", "recipe_digest")


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of one column of the table.

    Attributes:
        row: Value of the first ``by`` column, e.g. the scheme.
        column: Values of the other ``by`` columns, e.g. the pair; empty where there are none.
        mean: Over seeds, unit of the outcome.
        sd: Standard deviation over seeds (ddof 1); NaN with one.
        se: ``sd/sqrt(n)``; NaN with one.
        n: Seeds.
        place: 1 for the best mean of its column, 2 for the second …; equal means share a place.
        tied: Whether the mean lies within one standard error of the best one (the best's own, or this one's where
            that is not known), and is not the best itself.
    """

    row: str
    column: tuple[str, ...]
    mean: float
    sd: float
    se: float
    n: int
    place: int
    tied: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """A table of means over seeds.

    Attributes:
        value: Name of the outcome.
        by: Columns that made the cells; the first one gives the rows.
        better: ``lowest`` or ``highest``.
        cells: In order of first appearance.
        excluded: Runs left out because they are marked so.
        notes: Warnings that belong under the table.
    """

    value: str
    by: tuple[str, ...]
    better: str
    cells: tuple[Cell, ...]
    excluded: int
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """Row names in order of first appearance."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """Column keys in order of first appearance."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    def cell(self, row: str, column: tuple[str, ...] = ()) -> Cell | None:
        """The cell, None where there are no runs."""
        return next((c for c in self.cells if c.row == row and c.column == column), None)

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a cell, full precision: what CSV and JSON hold."""
        return [
            {
                **dict(zip(self.by, (cell.row, *cell.column), strict=True)),
                "mean": cell.mean,
                "sd": cell.sd,
                "se": cell.se,
                "n": cell.n,
                "place": cell.place,
                "tied": cell.tied,
            }
            for cell in self.cells
        ]

    def caption(self, marks: str) -> str:
        """What the table shows, from the fields.

        Args:
            marks: How the best is marked, in the words of the format.
        """
        counts = sorted({cell.n for cell in self.cells})
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}, as given"
        first = (
            f"Mean ± standard deviation over seeds of {self.value} ({n}); {marks}; †: within one standard error of "
            "the best."
        )
        return " ".join([first, *(f"{note[0].upper()}{note[1:]}." for note in self.notes)])


def summarise(
    runs: pd.DataFrame, *, value: str, by: Sequence[str], better: str, seed: str = "seed"
) -> Summary:
    """Mean, sd and n over seeds, with the best of each column and what ties with it.

    A tie is "within one standard error" of the best mean: a mark for the reader's eye, not a test (for tests see
    :func:`kdstats.power` and the reports).

    Args:
        runs: One row a run. Rows whose column ``excluded`` is true are left out and counted.
        value: Column of the outcome.
        by: Columns that tell cells apart; the first gives the rows of the table, the others its columns.
        better: ``lowest`` (a loss) or ``highest`` (an accuracy).
        seed: Column of the seed, checked for repeats where it is there.

    Raises:
        UsageError: Unknown columns, or nothing to summarise.
        CheckError: An outcome that is not a finite number, or a seed twice in a cell.
    """
    import numpy as np
    import pandas as pd

    if better not in BETTER:
        raise unknown("direction", better, BETTER)
    keys = [by] if isinstance(by, str) else list(by)
    if not keys:
        raise UsageError("name at least one column in by, e.g. by=['scheme']")
    for name in [value, *keys]:
        if name not in runs.columns:
            raise unknown("column", name, [str(c) for c in runs.columns])
    for name in dict.fromkeys([value, *keys, *(c for c in (seed, "excluded") if c in runs.columns)]):
        if int((runs.columns == name).sum()) > 1:
            raise UsageError(f"the table has more than one column named {name!r}")
        if keys.count(name) > 1:
            raise UsageError(f"column {name!r} is named twice in by")
    out = excluded_rows(runs)
    used, excluded = runs[~out], int(out.sum())
    if used.empty:
        raise UsageError(
            "no runs to summarise" + (f" ({excluded} are marked as excluded)" if excluded else "")
        )
    blank = used[keys].isna().any(axis=1)
    if blank.any():
        raise CheckError(f"a run has no {' or '.join(keys)} (row {used.index[blank][0]})")
    outcome = pd.to_numeric(used[value], errors="coerce").astype(float)
    bad = ~np.isfinite(outcome)
    if bad.any():
        raise CheckError(
            f"column {value!r} holds no finite number in row {used.index[bad][0]} ({int(bad.sum())} rows); "
            "mark such runs as excluded"
        )
    if seed in used.columns and used.duplicated([*keys, seed]).any():
        row = used[used.duplicated([*keys, seed])].iloc[0]
        raise CheckError(
            f"seed {row[seed]} is there twice for {', '.join(str(row[k]) for k in keys)}: a run counted twice, or a "
            "column missing in by"
        )
    raw = []
    for names, group in outcome.groupby([used[k].astype(str) for k in keys], sort=False):
        values = group.to_numpy()
        sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        raw.append((tuple(map(str, names)), float(values.mean()), sd, len(values)))
    cells = _placed(raw, better)
    return Summary(value, tuple(keys), better, cells, excluded, _notes(used, keys, cells, excluded))


def _placed(raw: Sequence[tuple[tuple[str, ...], float, float, int]], better: str) -> tuple[Cell, ...]:
    sign = 1.0 if better == "lowest" else -1.0
    cells = []
    for names, mean, sd, n in raw:
        rivals = [other for other in raw if other[0][1:] == names[1:]]
        _, top, top_sd, top_n = min(rivals, key=lambda other: sign * other[1])
        place = 1 + sum(sign * other[1] < sign * mean for other in rivals)
        se = sd / math.sqrt(n)
        reach = top_sd / math.sqrt(top_n) if top_n > 1 else se
        # A comparison with NaN (one run each) is False: without spread nothing is called a tie.
        tied = place > 1 and abs(mean - top) <= reach
        cells.append(Cell(names[0], names[1:], mean, sd, se, n, place, tied))
    return tuple(cells)


def _notes(used: pd.DataFrame, keys: Sequence[str], cells: Sequence[Cell], excluded: int) -> tuple[str, ...]:
    notes = []
    if excluded:
        reasons = "" if "reason" not in used.columns else " (see column reason)"
        notes.append(f"{excluded} excluded runs left out{reasons}")
    lone = [cell for cell in cells if cell.n == 1]
    if lone:
        notes.append(f"n = 1 in {len(lone)} of {len(cells)} cells: no spread, so no ties")
    if len({cell.n for cell in cells}) > 1:
        notes.append("cells rest on unlike numbers of seeds")
    used = used.reset_index(drop=True)  # a level of the index may be named like a column
    panels = used.groupby(list(keys[1:]), sort=False) if len(keys) > 1 else [("", used)]
    for name in _BUDGET:
        if name in used.columns and any(part[name].nunique() > 1 for _, part in panels):
            notes.append(f"runs that are compared differ in {name}")
    return tuple(notes)
