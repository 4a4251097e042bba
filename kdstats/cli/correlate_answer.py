"""What ``kdstats correlate`` computes, and the document it prints."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdstats._version import __version__
from kdstats.errors import UsageError
from kdstats.tables import to_json, write

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.association.meta import MetaAnalysis
    from kdstats.association.regret import Regret
    from kdstats.cli.correlate import Request
    from kdstats.published.wang2022 import Wang2022

SCHEMA = "kdstats/correlate/1"
_POOLING = "Panels are never pooled as independent points."


@dataclass(frozen=True, slots=True)
class Source:
    """The points, and what they are called."""

    table: pd.DataFrame
    title: str
    x: str
    y: str
    groups: list[str]
    label: str | None
    x_name: str
    y_name: str
    unit: str
    what: str
    kind: str = "panels"
    names: dict[str, str] = field(default_factory=dict)
    short_names: dict[str, str] = field(default_factory=dict)
    study: Wang2022 | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything computed."""

    results: pd.DataFrame
    leave_one_out: pd.DataFrame | None
    meta: list[MetaAnalysis]
    regret: Regret
    notes: list[str]
    unreproduced: list[str]


def published_source(request: Request) -> Source:
    from kdstats.published import load_published

    study = load_published(str(request.published))
    return Source(
        table=study.points,
        title=f"{study.citation}: student test loss against T. stddev",
        x="t_stddev",
        y="test_loss",
        groups=["panel"],
        label="scheme",
        x_name="T. stddev",
        y_name="student test loss (nats)",
        unit="nats",
        what="scheme",
        kind="published panels",
        names=study.names(),
        short_names=study.names(short=True),
        study=study,
    )


def file_source(request: Request) -> Source:
    from kdstats.association.reading import read_table

    table = read_table(request.file or "")
    x, y = str(request.x), str(request.y)
    if request.group is None:
        groups = []
    elif request.group in table.columns:
        groups = [request.group]
    else:
        groups = [name.strip() for name in request.group.split(",") if name.strip()]
        if not groups:
            raise UsageError("--group names no column")
    return Source(
        table=table,
        title=f"{request.file}: {y} against {x}",
        x=x,
        y=y,
        groups=groups,
        label=request.label,
        x_name=x,
        y_name=y,
        unit=f"in {y}",
        what=request.label or "row",
    )


def compute(request: Request, source: Source) -> Answer:
    import numpy as np

    from kdstats.association.bootstrap import LARGEST_N
    from kdstats.association.coefficients import METHODS
    from kdstats.association.correlate import correlate
    from kdstats.association.loo import leave_one_out
    from kdstats.association.meta import meta_analysis
    from kdstats.association.regret import regret

    x, y, group, label, table = source.x, source.y, source.groups, source.label, source.table
    results = correlate(
        table,
        x=x,
        y=y,
        group=group,
        label=label,
        confidence=request.confidence,
        interval=request.interval,
        seed=request.seed,
    )
    notes, meta, without = [], [], None
    if int(results["n"].max()) <= LARGEST_N:
        without = leave_one_out(table, x=x, y=y, group=group, label=label)
    else:
        notes.append(f"no leave-one-out: a panel has more than {LARGEST_N:,} points")
    if len(results) > len(METHODS):
        for method in METHODS:
            rows = results[results["method"] == method]
            try:
                found = meta_analysis(
                    rows["estimate"], rows["n"], method=method, confidence=request.confidence
                )
            except UsageError as error:
                notes.append(f"no mean over panels for {method}: {error}")
            else:
                meta.append(found)
    cost = regret(
        table,
        x=x,
        y=y,
        group=group,
        label=label,
        choose=request.choose,
        better=request.better,
        confidence=request.confidence,
        rng=np.random.default_rng([request.seed, zlib.crc32(b"regret")]),
    )
    wrong = source.study.unreproduced(results) if source.study is not None else []
    return Answer(results, without, meta, cost, notes, wrong)


def render(request: Request, source: Source, answer: Answer) -> str:
    if request.fmt == "json":
        return to_json(_document(request, source, answer))
    if request.fmt == "csv":
        return write("csv", _records(answer.results), [str(c) for c in answer.results.columns])
    from kdstats.cli.correlate_text import page

    return page(request, source, answer)


def _document(request: Request, source: Source, answer: Answer) -> dict[str, Any]:
    definition = {
        "source": str(request.file) if request.file is not None else request.published,
        "x": source.x,
        "y": source.y,
        "group": source.groups,
        "label": source.label,
        "confidence": request.confidence,
        "interval": request.interval,
        "p_value": "two-sided, scipy's default test",
        "p_permutation": "two-sided; all n! pairings up to n = 8, else (b+1)/(m+1) with m = 9,999",
        "p_holm": "Holm over the panels, for each coefficient, on p_value",
        "choose": request.choose,
        "better": request.better,
        "pooling": _POOLING,
    }
    kind, names = source.kind, source.short_names
    sentence = answer.regret.sentence(
        predictor=source.x_name, unit=source.unit, kind=kind, what=source.what, names=names
    )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "definition": definition,
        "results": _records(answer.results),
        "leave_one_out": [] if answer.leave_one_out is None else _records(answer.leave_one_out),
        "meta_analysis": [found.to_dict() for found in answer.meta],
        "regret": {**answer.regret.to_dict(), "sentence": sentence},
        "notes": answer.notes,
        "provenance": {"version": __version__, "command": request.command(), "seed": request.seed},
    }
    if source.study is not None:
        document["published"] = {
            "citation": source.study.citation,
            "printed_numbers": 6 * len(source.study.titles),
            "unreproduced": answer.unreproduced,
        }
    return document


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    # NaN (a permutation p that was not computed) leaves as None: an empty cell in CSV, null in JSON.
    return [{str(k): None if v != v else v for k, v in row.items()} for row in frame.to_dict("records")]
