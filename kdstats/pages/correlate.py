"""The page of ``kdstats correlate``: the answer first, then coefficients, what all panels say, notes and origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from kdstats.figures.correlation import CorrelationFacts
from kdstats.pages.environment import data_uri, render_template
from kdstats.pages.hover import Point
from kdstats.pages.parts import figure_part, table_part
from kdstats.tables import Table, to_json

CAPTIONS = {
    "panels": "Each coefficient with its interval; p: scipy's test; permutation p: pairings at random.",
    "across": "Over all panels; panels are never pooled as independent points.",
    "errors": "Corrected for the standard errors given.",
    "given": "Partial correlations, the rivals held fixed.",
    "without": "Each coefficient without any one point.",
    "mixed": "Mixed model of all panels.",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One section: its heading (may be empty), a table where there is one, lines under it."""

    heading: str
    table: Table | None
    lines: Sequence[str]


def render(
    document: Mapping[str, object],
    *,
    title: str,
    answer: str,
    parts: Sequence[tuple[str, Part]],
    notes: Sequence[str],
    drawn: tuple[Figure, CorrelationFacts],
    points: Sequence[Point],
    points_csv: str,
) -> str:
    """The page as one self-contained HTML text.

    Args:
        document: The ``kdstats/correlate/1`` document.
        title: What was correlated.
        answer: What it comes to, a sentence.
        parts: Name and contents of each section, the coefficients first.
        notes: Below all sections.
        drawn: The scatter and its facts.
        points: What its marks say.
        points_csv: The points as CSV.
    """
    figure, facts = drawn
    said = []
    for panel in facts.panels:
        r, low, high = panel.coefficients["pearson"]
        said.append(f"{panel.panel or 'all points'}: r {r:.2f}, {low:.2f} to {high:.2f}, n = {panel.n}")
    caption = facts.caption()
    provenance = document["provenance"]
    return render_template(
        "correlate.html.j2",
        title=title,
        x=facts.x,
        y=facts.y,
        answer=answer,
        sections=[
            {
                "name": name,
                "heading": part.heading,
                "table": None if part.table is None else table_part(name, CAPTIONS.get(name, ""), part.table),
                "lines": part.lines,
            }
            for name, part in parts
        ],
        notes=notes,
        plot=figure_part(
            "scatter",
            figure,
            caption[:1].upper() + caption[1:],
            f"Scatter of {facts.y} against {facts.x}. {'; '.join(said)}.",
            points,
            [("points.csv", points_csv)],
        ),
        wide=len(facts.panels) > 1,
        definition=document["definition"],
        made=provenance,
        json_uri=data_uri(to_json(document), "application/json"),
    )
