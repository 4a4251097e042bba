"""Sections for the analyses on request: unlike results brought to one form.

A result of an analysis holds frames, perhaps ``figure()`` with the facts of its caption, ``findings``, and perhaps
results of the same kind as fields. Which frames are printed and which are only data follows from their names and
sizes, so an analysis need not know of pages.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

import analyses
from analyses.study import Study
from analyses.words import CANNOT, records
from kdstats.errors import KdstatsError
from kdstats.pages.hover import Point
from kdstats.pages.parts import File, files
from reports import any_table
from reports.drawing import MOST_EMBEDDED_ROWS, Drawing, draw
from reports.table_view import TableView, plain_csv, significant

MOST_ROWS = 60  # of a printed table; longer ones are data
# What a frame holds, by the name of its field, where its columns do not say it.
WHAT = {
    "tests": "tests that all values are equal",
    "orders": "orders of the schemes by last and by best epoch",
}
DATA = (
    "per_run",
    "per_network",
    "per_epoch",
    "points",
    "histogram",
    "curves",
    "reliability",
    "samples",
    "per_batch",
)
# A figure shows the first of these that its result has.
BEHIND = ("curves", "points", "histogram", "reliability")


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One question with its answer.

    Attributes:
        name: Of the analysis.
        question: Its heading.
        findings: In words.
        refused: Why the study does not answer it; empty where it does.
        drawings: Figures.
        tables: Printed tables.
        data: Name → frame that is too long to print.
    """

    name: str
    question: str
    findings: tuple[str, ...]
    refused: str
    drawings: tuple[Drawing, ...]
    tables: tuple[TableView, ...]
    data: dict[str, pd.DataFrame]

    @property
    def downloads(self) -> tuple[File, ...]:
        """The data that is not printed, where it is small enough for the page."""
        small = ((name, frame) for name, frame in self.data.items() if len(frame) <= MOST_EMBEDDED_ROWS)
        return files((f"{name}.csv", plain_csv(frame)) for name, frame in small)


def ask(study: Study, name: str, *others: Study) -> Section:
    """Runs one analysis on request.

    Args:
        study: The study.
        name: Of the analysis.
        others: Further studies, for the analyses that compare settings over several.

    Raises:
        UsageError: No such analysis.
    """
    module = analyses.get(name)
    question = " ".join(module.QUESTION.split())
    try:
        result = module.run(study, *others) if _takes_others(module) else module.run(study)
    except KdstatsError as error:
        return Section(name, question, (), " ".join(str(error).split()), (), (), {})
    return of_result(name, question, result, study.pairs, getattr(module, "HEADS", {}))


def of_result(
    name: str, question: str, result: Any, pairs: tuple[str, ...], heads: Mapping[str, str] | None = None
) -> Section:
    """The section of a result.

    Args:
        name: Of the analysis; names of tables and figures begin with it.
        question: Its heading.
        result: What ``run`` gave.
        pairs: Of the study, for figures of one pair each.
        heads: Printed names of columns that mean something else in this analysis than elsewhere.
    """
    drawings: list[Drawing] = []
    tables: list[TableView] = []
    data: dict[str, pd.DataFrame] = {}
    for path, part in _parts(name, result):
        frames = {
            field.name: value
            for field in dataclasses.fields(part)
            if isinstance(value := getattr(part, field.name), pd.DataFrame) and not value.empty
        }
        drawings += _drawn(path, part, frames, pairs)
        for field, frame in frames.items():
            stem = path if field == "table" else f"{path}-{field.replace('_', '-')}"
            if field in DATA or len(frame) > MOST_ROWS:
                data[stem] = frame
            else:
                what = WHAT.get(field, "")
                noun = getattr(part, "noun", "")
                tables.append(
                    any_table.view(stem, frame, f"{what}, {noun}" if noun and what else what, heads)
                )
    said = tuple(dict.fromkeys(map(str, result.findings)))
    if not tables and not drawings:
        reasons = [text for text in said if CANNOT in text] or list(said)
        return Section(name, question, (), " ".join(reasons) or "It found nothing to report.", (), (), data)
    return Section(name, question, said, "", tuple(drawings), tuple(tables), data)


def _takes_others(module: Any) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(module.run).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _parts(path: str, result: Any) -> Iterator[tuple[str, Any]]:
    """The result, and the results among its fields."""
    yield path, result
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if dataclasses.is_dataclass(value) and hasattr(value, "findings"):
            yield from _parts(f"{path}-{field.name.replace('_', '-')}", value)


def _drawn(path: str, part: Any, frames: dict[str, pd.DataFrame], pairs: tuple[str, ...]) -> list[Drawing]:
    """The figures of one result: one for all, or one a pair where ``figure`` asks for the pair."""
    method = getattr(part, "figure", None)
    if method is None:
        return []
    each = "pair" in inspect.signature(method).parameters
    kept = next((frames[n] for n in BEHIND if n in frames), None)
    if kept is None:
        kept = frames.get("table", next(iter(frames.values()), pd.DataFrame()))
    out = []
    for at, pair in enumerate(pairs if each else ("",), start=1):
        made = method(pair) if each else method()
        if not made:
            continue
        figure, facts = made
        own = kept[kept["pair"] == pair] if each and "pair" in kept else kept
        stem = f"{path}-{at}" if each and len(pairs) > 1 else path
        out.append(draw(stem, figure, facts.caption(), facts.caption(), own, _level_points(part, own)))
    return out


def _level_points(part: Any, frame: pd.DataFrame) -> list[Point]:
    """What the marks of a comparison of levels say; nothing for other results."""
    if not hasattr(part, "noun") or not {"stratum", "level", "test_loss"} <= set(frame):
        return []
    out = []
    for panel, name in enumerate(dict.fromkeys(frame["stratum"])):
        rows = records(frame[frame["stratum"] == name])
        words = any(isinstance(row["level"], str) for row in rows)
        for at, row in enumerate(rows):
            text = f"{row['level'] if words else format(row['level'], 'g')}\ntest loss {significant(row['test_loss'])}"
            out.append(
                Point(panel, at if words else row["level"], row["test_loss"], f"{text}\nn = {row['seeds']}")
            )
    return out
