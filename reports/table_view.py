"""What a table of a page is: a raw frame, and how each column is printed. CSV keeps the raw frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.words import number
from kdstats import tables
from kdstats.pages.parts import RowPart, TablePart, files

Row = dict[str, Any]
FORMATS = {"csv": ".csv", "md": ".md", "latex": ".tex"}


@dataclass(frozen=True, slots=True)
class Column:
    """One printed column: ``word`` columns stand to the left."""

    header: str
    cell: Callable[[Row], str]
    word: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TableView:
    """A table of the page.

    Attributes:
        name: File stem, and id on the page.
        caption: From the fields of the result.
        frame: Raw, unrounded.
        columns: What is printed; the first one names the row.
        style: Class of a row on the page: ``best``, ``reference`` or empty.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    style: Callable[[Row], str] = lambda row: ""

    def rows(self) -> list[Row]:
        """The raw rows."""
        return [{str(k): v for k, v in row.items()} for row in self.frame.to_dict("records")]

    def printed(self) -> list[list[str]]:
        """The cells as printed."""
        return [[column.cell(row) for column in self.columns] for row in self.rows()]

    def write(self, fmt: str) -> str:
        """As ``csv`` (raw, full precision), ``md`` or ``latex`` (as printed, caption in a comment)."""
        if fmt == "csv":
            return plain_csv(self.frame)
        # Positions as keys: two columns may bear the same header.
        keys = [str(at) for at in range(len(self.columns))]
        heads = dict(zip(keys, (column.header for column in self.columns), strict=True))
        text = tables.write(
            fmt, [dict(zip(keys, cells, strict=True)) for cells in self.printed()], keys, heads
        )
        # A caption is one line, so that in LaTeX nothing of it can leave the comment.
        line = " ".join(self.caption.split())
        return f"% {line}\n{text}" if fmt == "latex" else f"{tables.escape_markdown(line)}\n\n{text}"

    def part(self) -> TablePart:
        """As the page takes it, its files inside."""
        words = [column.word for column in self.columns]
        rows = [
            RowPart(tuple(zip(cells, words, strict=True)), self.style(raw))
            for cells, raw in zip(self.printed(), self.rows(), strict=True)
        ]
        heads = tuple((column.header, column.word) for column in self.columns)
        contents = [(f"{self.name}{suffix}", self.write(fmt)) for fmt, suffix in FORMATS.items()]
        return TablePart(self.name, self.caption, heads, tuple(rows), files(contents))


def plain_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, unrounded; what is missing leaves its cell empty."""
    names = [str(name) for name in frame.columns]
    cells = [
        [
            None if empty else value
            for value, empty in zip(frame[name].tolist(), frame[name].isna(), strict=True)
        ]
        for name in frame.columns
    ]
    return tables.to_csv([dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)], names)


def missing(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def significant(value: float, digits: int = 4) -> str:
    """``value`` with a number of significant digits, as a plain decimal where it is not tiny."""
    if value == 0 or not math.isfinite(value):
        return number(value, 0) if value == 0 else "–"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return number(value, max(0, places)) if places <= 8 else f"{value:.{digits - 1}e}".replace("-", "−")
