"""A summary as a table for reading: rows × columns, mean ± sd (n), best bold, ties marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kdstats.errors import UsageError
from kdstats.tables.numbers import decimals_of, with_decimals
from kdstats.tables.summary import Cell, Summary
from kdstats.tables.writers import (
    check_format,
    escape_latex,
    escape_markdown,
    latex_table,
    markdown_table,
    to_csv,
    to_json,
    to_text,
)


@dataclass(frozen=True, slots=True)
class _Style:
    """How one format prints words, the best, the second and a tie."""

    escape: Callable[[str], str]
    best: str
    second: str
    tie: str
    legend: str


_STYLES = {
    "table": _Style(str, "{} *", "{}", " †", "*: {better} mean of its column"),
    "md": _Style(
        escape_markdown, "**{}**", "*{}*", " †", "bold: {better} mean of its column, italic: second"
    ),
    "latex": _Style(
        escape_latex,
        r"\textbf{{{}}}",
        r"\underline{{{}}}",
        r"$^{\dagger}$",
        "bold: {better} mean of its column, underlined: second",
    ),
}


def write_summary(
    summary: Summary,
    fmt: str,
    *,
    scale: float = 1.0,
    decimals: int | None = None,
    labels: Mapping[str, str] | None = None,
    caption: bool = True,
) -> str:
    """The table in one of :data:`~kdstats.tables.writers.FORMATS`.

    LaTeX needs ``booktabs``. CSV and JSON hold the unrounded, unscaled cells, one a row.

    Args:
        summary: From :func:`~kdstats.tables.summary.summarise`.
        fmt: ``table, json, csv, md`` or ``latex``.
        scale: Factor on what is printed (100 for a fraction in percent).
        decimals: Digits after the point; by default two significant digits of a column's median standard error.
        labels: Printed names of rows and columns (a column's key joined by spaces).
        caption: Whether to print what the marks mean (in LaTeX as a comment).

    Raises:
        UsageError: Unknown format, a scale that is not positive, or decimals below 0.
    """
    check_format(fmt)
    if not scale > 0 or (decimals is not None and decimals < 0):
        raise UsageError("the scale is positive and decimals are 0 or more")
    records = summary.records()
    if fmt == "csv":
        plain = [{k: None if v != v else v for k, v in row.items()} for row in records]
        return to_csv(plain, list(records[0]))
    if fmt == "json":
        head = {"value": summary.value, "better": summary.better, "by": list(summary.by)}
        return to_json({**head, "cells": records, "excluded": summary.excluded, "notes": list(summary.notes)})
    style, said = _STYLES[fmt], labels or {}
    columns = summary.columns
    fallback = 4 if scale == 1 else 2
    places = [
        decimals_of([scale * c.se for c in summary.cells if c.column == key], fallback=fallback)
        if decimals is None
        else decimals
        for key in columns
    ]
    heads = [said.get(name, name) for name in (summary.by[0], *map(_joined, columns))]
    if columns == ((),):
        heads[1] = said.get(summary.value, summary.value)
    body = [
        [
            style.escape(said.get(row, row)),
            *(
                _cell(summary.cell(row, key), at, scale, style)
                for key, at in zip(columns, places, strict=True)
            ),
        ]
        for row in summary.rows
    ]
    words = " ".join(summary.caption(style.legend.format(better=summary.better)).split()) if caption else ""
    if fmt == "table":
        keys = [str(i) for i in range(len(heads))]
        rows = [dict(zip(keys, line, strict=True)) for line in body]
        return to_text(rows, keys, dict(zip(keys, heads, strict=True))) + (f"\n{words}\n" if words else "")
    heads = [style.escape(head) for head in heads]
    if fmt == "md":
        return markdown_table(heads, ["---"] + ["---:"] * len(columns), body) + (
            f"\n{escape_markdown(words)}\n" if words else ""
        )
    return latex_table(heads, "l" + "r" * len(columns), body) + (
        f"% {escape_latex(words)}\n" if words else ""
    )


def _joined(key: tuple[str, ...]) -> str:
    return " ".join(key)


def _cell(cell: Cell | None, places: int, scale: float, style: _Style) -> str:
    if cell is None:
        return ""
    number = with_decimals(scale * cell.mean, places)
    if cell.n > 1:
        number += f" ± {with_decimals(scale * cell.sd, places)}"
    number = style.escape(number)
    marked = {1: style.best, 2: style.second}.get(cell.place, "{}").format(number)
    return f"{marked} ({cell.n}){style.tie if cell.tied else ''}"
