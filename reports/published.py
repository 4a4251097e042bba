"""The page of a published study, analysed anew: the look of the others, and the numbers of its analysis.

python -m reports.build published:wang2022 --out FILE
"""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pandas as pd

from analyses.published_wang2022 import QUESTION, Published, run
from analyses.published_wang2022.accuracy import LONG, dataset_name
from analyses.published_wang2022.claims import NOT_SHOWN, PARTLY, SHOWN, claims, findings
from analyses.published_wang2022.page import (
    ACCURACY_NOTE,
    CLAIMS_NOTE,
    CONTRASTS_NOTE,
    ERRORS_NOTE,
    PANELS_NOTE,
    SCHEMA,
    document,
    figure,
    provenance,
    reproduced,
)
from analyses.published_wang2022.reanalysis import X, Y
from analyses.published_wang2022.tables import (
    accuracy_table,
    contrast_table,
    error_table,
    mean_table,
    panel_table,
)
from analyses.words import count, listed, records
from kdstats.errors import UsageError, unknown
from kdstats.pages.environment import make_environment
from kdstats.pages.hover import Point
from kdstats.pages.parts import TablePart, figure_part, table_part
from kdstats.records.atomic import write_bytes_atomic
from kdstats.tables import Table, to_json
from reports import TEMPLATES
from reports.place import check_page, check_single
from reports.table_view import FORMATS, plain_csv, significant

PREFIX = "published:"
STUDIES = ("wang2022",)
MEANS_NOTE = (
    "Random-effects means of the coefficients over panels, and where that of one further panel is expected. "
    "Panels share schemes, teachers and data sets, so these are less sure than they say."
)


def write(name: str, out: Path | None, *, seed: int) -> tuple[Published, Path]:
    """Writes the page, and the numbers as JSON beside it.

    Args:
        name: After ``published:``.
        out: The page.
        seed: Of permutations and bootstraps.

    Raises:
        UsageError: No such study, or no place for a page.
    """
    if name not in STUDIES:
        raise unknown("published study", name, STUDIES)
    if out is None:
        raise UsageError(f"{PREFIX}{name} lies in no folder of yours; name the page with --out FILE.html")
    check_page(out)
    check_single(out, SCHEMA)
    result = run(seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    words = ["python", "-m", "reports.build", f"{PREFIX}{name}", "--out", out.name]
    command = shlex.join([*words, *(["--seed", str(seed)] if seed else [])])
    write_bytes_atomic(out, html(result, command).encode())
    write_bytes_atomic(out.with_suffix(".json"), to_json(document(result)).encode())
    return result, out


def verdicts(result: Published) -> str:
    """How many statements hold, in a sentence."""
    found = Counter(claim.verdict for claim in claims(result))
    words = {SHOWN: "shown by the published numbers", PARTLY: "shown in part", NOT_SHOWN: "not shown"}
    said = [
        f"{found[kind]} {'is' if found[kind] == 1 else 'are'} {text}"
        for kind, text in words.items()
        if found[kind]
    ]
    return f"Of {count(found.total(), 'statement')} of the paper {listed(said)}."


def html(result: Published, command: str) -> str:
    """The page that ``command`` makes."""
    drawn, facts = figure(result)
    tables = {
        "panels": _part("panels", PANELS_NOTE, panel_table(result), result.every.correlations),
        "means": _part("means", MEANS_NOTE, mean_table(result), result.means),
        "errors": _part("errors", ERRORS_NOTE, error_table(result), result.corrected),
        **{
            f"accuracy-{dataset}": _part(
                f"accuracy-{dataset}",
                f"{dataset_name(dataset)}: {ACCURACY_NOTE}",
                accuracy_table(result, dataset),
            )
            for dataset in LONG
        },
        "contrasts": _part("contrasts", CONTRASTS_NOTE, contrast_table(result), result.accuracy.contrasts),
    }
    return (
        make_environment([TEMPLATES])
        .get_template("published.html.j2")
        .render(
            question=QUESTION,
            citation=result.study.citation,
            verdicts=verdicts(result),
            reproduced=reproduced(result),
            findings=findings(result),
            claims=claims(result),
            claims_note=CLAIMS_NOTE,
            tables=tables,
            figure=figure_part(
                "f-panels",
                drawn,
                facts.caption(),
                "Test loss of students against T. stddev of their teachers, a panel per pair and data set",
                _points(result),
                [("points.csv", plain_csv(result.study.points))],
            ),
            contents=[{"id": anchor, "title": title, "below": ()} for anchor, title in _SECTIONS],
            command=command,
            made=provenance(result),
        )
    )


_SECTIONS = (
    ("intervals", "What intervals add"),
    ("panels", "Panels"),
    ("over-panels", "Over panels"),
    ("errors", "Errors of measurement"),
    ("accuracy", "Accuracy tables"),
    ("reproduce", "Reproduce"),
    ("provenance", "Provenance"),
)


def _part(name: str, caption: str, table: Table, data: pd.DataFrame | None = None) -> TablePart:
    """A table with its data and itself in other forms."""
    kept = [] if data is None else [(f"{name}.csv", plain_csv(data))]
    return table_part(
        name, caption, table, [*kept, *((f"{name}{FORMATS[f]}", table.write(f)) for f in ("md", "latex"))]
    )


def _points(result: Published) -> list[Point]:
    """What the marks say: scheme, panel and both numbers."""
    names = result.study.names()
    out = []
    for at, panel in enumerate(dict.fromkeys(result.study.points["panel"])):
        for row in records(result.study.points[result.study.points["panel"] == panel]):
            said = f"{row['scheme']}\n{names[panel]}\nT. stddev {significant(row[X])}\ntest loss {significant(row[Y])}"
            out.append(Point(at, row[X], row[Y], said))
    return out
