"""Tables: from runs to mean ± sd (n) with the best marked, and writers for terminal, Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

from kdstats.tables.layout import write_summary
from kdstats.tables.numbers import decimals_of, inside_one, with_decimals
from kdstats.tables.summary import Cell, Summary, summarise
from kdstats.tables.writers import (
    FORMATS,
    Formatter,
    Row,
    Table,
    check_format,
    escape_latex,
    escape_markdown,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_text,
    write,
)

__all__ = [
    "FORMATS",
    "Cell",
    "Formatter",
    "Row",
    "Summary",
    "Table",
    "check_format",
    "decimals_of",
    "escape_latex",
    "escape_markdown",
    "inside_one",
    "summarise",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_text",
    "with_decimals",
    "write",
    "write_summary",
]
