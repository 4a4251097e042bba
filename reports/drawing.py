"""A figure of a page: drawn once, with its caption, what its marks say, and the data behind it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analyses.words import number
from kdstats._version import __version__
from kdstats.figures.style import save, style
from kdstats.pages.environment import draw_svg, embed_svg
from kdstats.pages.hover import Point, tag_points
from kdstats.pages.parts import FigurePart, files
from kdstats.records.atomic import write_bytes_atomic
from reports.table_view import plain_csv, significant

MOST_EMBEDDED_ROWS = 5000  # of data inside the page; longer ones lie beside it


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure with the caption that its facts wrote.

    Attributes:
        name: File stem, and id on the page.
        figure: Laid out for good, so that every format shows the same.
        caption: Under it.
        alt: What it shows, for those who cannot see it.
        data: What is plotted, unrounded.
        svg: The figure as an SVG file.
        pdf: The figure as a PDF file.
        labels: What its marks say, see :func:`kdstats.pages.hover.tag_points`.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    data: pd.DataFrame
    svg: str
    pdf: bytes
    labels: Mapping[str, Sequence[str]]

    def part(self) -> FigurePart:
        """As the page takes it, its data inside."""
        small = len(self.data) <= MOST_EMBEDDED_ROWS
        data = [(f"{self.name}.csv", plain_csv(self.data))] if small else []
        return FigurePart(
            self.name,
            embed_svg(self.svg, f"f-{self.name}", self.alt, self.labels),
            self.caption,
            files([*data, (f"{self.name}.pdf", self.pdf)]),
        )

    def write(self, folder: Path) -> None:
        """Writes ``NAME.svg, NAME.png, NAME.pdf`` and ``NAME.csv`` into a folder that exists."""
        write_bytes_atomic(folder / f"{self.name}.svg", self.svg.encode())
        write_bytes_atomic(folder / f"{self.name}.csv", plain_csv(self.data).encode())
        write_bytes_atomic(folder / f"{self.name}.pdf", self.pdf)
        save(self.figure, folder / f"{self.name}.png")


def draw(
    name: str, figure: Figure, caption: str, alt: str, data: pd.DataFrame, points: Iterable[Point] = ()
) -> Drawing:
    """Lays the figure out, once for all formats, and draws it.

    Args:
        name: File stem and id: letters, digits, ``-`` and ``_``.
        figure: As an analysis made it.
        caption: From its facts.
        alt: In words what it shows.
        data: What is plotted.
        points: What its marks say on hover.
    """
    with style():
        figure.draw_without_rendering()
        # Not "none": that leaves an engine which has every format drawn twice.
        figure.set_layout_engine(None)
    labels = tag_points(figure, points)
    return Drawing(name, figure, caption, alt, data, draw_svg(figure), draw_pdf(figure), labels)


def draw_pdf(figure: Figure) -> bytes:
    """A figure as a PDF file (Type 42 fonts); equal figures give equal files."""
    buffer = io.BytesIO()
    with style():
        metadata = {"Creator": f"kdstats {__version__}", "CreationDate": None}
        figure.savefig(buffer, format="pdf", metadata=metadata)
    return buffer.getvalue()


def scatter_points(frame: pd.DataFrame, panel: int, x: str, y: str, said: Mapping[str, str]) -> list[Point]:
    """What the marks of a scatter say: the scheme, then the named columns.

    Args:
        frame: One row a mark, with ``scheme``.
        panel: Position of the axes.
        x: Column across.
        y: Column up.
        said: Column → its printed name, in order.
    """
    out = []
    for row in frame.to_dict("records"):
        numbers = [f"{name} {significant(row[key])}" for key, name in said.items() if row[key] == row[key]]
        if "seeds" in row:
            numbers.append(f"n = {number(float(row['seeds']), 0)}")
        out.append(Point(panel, row[x], row[y], "\n".join([str(row["scheme"]), *numbers])))
    return out
