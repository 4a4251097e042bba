"""What pages are put together from: tables, figures and the files behind them, ready for the shared templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup
from matplotlib.figure import Figure

from kdstats.pages.environment import data_uri, draw_svg, embed_svg
from kdstats.pages.hover import Point, tag_points
from kdstats.tables import Table

MOST_EMBEDDED = 256 * 1024  # bytes of one file inside a page; larger ones lie beside it only
MIME = {
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".png": "image/png",
}
_SHOWN = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that the reader can take: ``name`` as it is saved, ``shown`` on the page, ``uri`` with its contents."""

    name: str
    shown: str
    uri: str


@dataclass(frozen=True, slots=True)
class RowPart:
    """A row of a table: cells with whether each is a word, and its look (``best``, ``reference`` or empty)."""

    cells: tuple[tuple[str, bool], ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class TablePart:
    """A table: the first cell of a row names it; heads tell whether their column holds words."""

    name: str
    caption: str
    heads: tuple[tuple[str, bool], ...]
    rows: tuple[RowPart, ...]
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class FigurePart:
    """A drawing with its caption and the files behind it."""

    name: str
    svg: Markup
    caption: str
    files: tuple[File, ...] = ()


def plain_table(
    name: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> TablePart:
    """A table of which the first column is words and the others are numbers."""
    return TablePart(
        name,
        caption,
        tuple((head, at == 0) for at, head in enumerate(heads)),
        tuple(
            RowPart(tuple((cell, at == 0) for at, cell in enumerate(row)), style)
            for row, style in zip(rows, styles, strict=True)
        ),
    )


def table_part(
    name: str, caption: str, table: Table, contents: Iterable[tuple[str, str | bytes]] = ()
) -> TablePart:
    """A table ready for a page; ``contents`` are names and contents of the files behind it."""
    plain = plain_table(name, caption, table.heads, table.cells, [""] * len(table.rows))
    return replace(plain, files=files(contents))


def files(contents: Iterable[tuple[str, str | bytes]]) -> tuple[File, ...]:
    """The files that are small enough to travel inside the page; their kind is that of the suffix."""
    out = []
    for name, content in contents:
        suffix = name[name.rindex(".") :]
        if len(content) <= MOST_EMBEDDED:
            out.append(File(name, _SHOWN.get(suffix, suffix[1:].upper()), data_uri(content, MIME[suffix])))
    return tuple(out)


def figure_part(
    name: str,
    figure: Figure,
    caption: str,
    alt: str,
    points: Iterable[Point] = (),
    contents: Iterable[tuple[str, str | bytes]] = (),
) -> FigurePart:
    """A figure ready for a page; its name, a letter first, begins the ids inside the drawing.

    Args:
        name: Unique on the page.
        figure: What to draw.
        caption: Under it.
        alt: What it shows, for those who cannot see it.
        points: What its marks say on hover.
        contents: Names and contents of the files behind it.
    """
    labels = tag_points(figure, points)
    return FigurePart(name, embed_svg(draw_svg(figure), name, alt, labels), caption, files(contents))
