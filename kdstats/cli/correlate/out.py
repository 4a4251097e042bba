"""What ``kdstats correlate --out DIR`` writes: the page, the document, and the points as CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kdstats.association.coefficients import SYMBOLS
from kdstats.cli.correlate.numbers import short
from kdstats.cli.correlate.render import render
from kdstats.cli.correlate.rows import records
from kdstats.cli.correlate.text import blocks, closing
from kdstats.errors import UsageError
from kdstats.figures.correlation import CorrelationFacts
from kdstats.pages import correlate as page
from kdstats.pages.hover import Point
from kdstats.records.atomic import write_bytes_atomic
from kdstats.tables import to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.request import Request
    from kdstats.cli.correlate.source import Source


def write_out(
    request: Request, source: Source, answer: Answer, drawn: tuple[Figure, CorrelationFacts], out: Path
) -> Path:
    """Writes ``index.html``, ``result.json`` and ``points.csv`` into ``out``.

    Args:
        request: In the format ``json``, so that its document has everything.
        source: The points.
        answer: All that was computed.
        drawn: The scatter and its facts.
        out: A folder; made if absent.

    Raises:
        UsageError: ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {str(out)!r} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    result = render(request, source, answer)
    table = records(source.table)
    csv = to_csv(
        [{k: None if v != v else v for k, v in row.items()} for row in table],
        [str(c) for c in source.table.columns],
    )
    said = answer.sentence(source)
    lead = f"{said[0].upper()}{said[1:]}."
    if len(drawn[1].panels) == 1:
        lead = f"{_coefficients(answer)} {lead}"
    text = page.render(
        json.loads(result),
        title=source.title,
        answer=lead,
        parts=[(name, page.Part(b.heading, b.table, b.lines)) for name, b in blocks(source, answer)],
        notes=[line.removeprefix("note: ") for line in closing(source, answer)],
        drawn=drawn,
        points=_points(source, drawn[1]),
        points_csv=csv,
    )
    for name, content in (
        ("index.html", text),
        ("result.json", result),
        ("points.csv", csv),
    ):
        write_bytes_atomic(out / name, content.encode())
    return out / "index.html"


def _coefficients(answer: Answer) -> str:
    """``r 0.91 [0.62, 0.98], ρ …, τ … (n = 9).``"""
    rows = records(answer.results)
    said = [f"{SYMBOLS[row['method']]} {short(row['estimate'], row['low'], row['high'])}" for row in rows]
    return f"{', '.join(said)} (n = {rows[0]['n']})."


def _points(source: Source, facts: CorrelationFacts) -> list[Point]:
    at = {panel.panel: k for k, panel in enumerate(facts.panels)}
    out = []
    for k, row in enumerate(records(source.table), start=1):
        name = " ".join(str(row[group]) for group in source.groups)
        panel = at.get(name, 0) if source.groups else 0
        label = str(row[source.label]) if source.label else f"row {k}"
        values = f"{source.x_name} {row[source.x]:.4g}\n{source.y_name} {row[source.y]:.4g}"
        out.append(Point(panel, row[source.x], row[source.y], f"{label}\n{values}"))
    return out
