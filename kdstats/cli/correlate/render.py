"""The answer of ``kdstats correlate`` as text, as one section in CSV, or as the whole document in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdstats._version import __version__
from kdstats.cli.correlate.rows import records, section_rows
from kdstats.cli.correlate.text import page
from kdstats.tables import to_json, write

if TYPE_CHECKING:
    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.request import Request
    from kdstats.cli.correlate.source import Source

SCHEMA = "kdstats/correlate/1"
_POOLING = "Panels are never pooled as independent points."


def render(request: Request, source: Source, answer: Answer) -> str:
    """The answer in the format asked for."""
    if request.fmt == "json":
        return to_json(_document(request, source, answer))
    if request.fmt == "csv":
        section = (request.sections() or ("panels",))[0]
        rows = section_rows(section, source, answer)
        head = list(rows[0]) if rows else ["notes"]
        return write("csv", rows, list(dict.fromkeys([*head, *(key for row in rows for key in row)])))
    return page(request, source, answer)


def _document(request: Request, source: Source, answer: Answer) -> dict[str, Any]:
    found = answer.across
    definition = {
        "source": str(request.file) if request.file is not None else request.published,
        "x": source.x,
        "y": source.y,
        "group": source.groups,
        "label": source.label,
        "x_se": source.x_se,
        "y_se": source.y_se,
        "given": source.given,
        "cluster": source.cluster,
        "confidence": request.confidence,
        "interval": request.interval,
        "p_value": "two-sided, scipy's default test",
        "p_permutation": "two-sided; all n! pairings up to n = 8, else (b+1)/(m+1) with m = 9,999",
        "p_holm": "Holm over the panels, for each coefficient, on p_value",
        "choose": request.choose,
        "better": request.better,
        "pooling": _POOLING,
        "repeats": request.repeats if source.study is None else None,
        "rows": source.rows,
        "points": len(source.table),
    }
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "definition": definition,
        "results": records(answer.results),
        "leave_one_out": [] if answer.leave_one_out is None else records(answer.leave_one_out),
        "meta_analysis": [each.to_dict() for each in answer.meta],
        "repeated_correlation": None if found.repeated is None else found.repeated.to_dict(),
        "regression": [] if found.regression is None else records(found.regression),
        "wild_bootstrap": [{"clusters_by": w.clusters_by, **w.found.to_dict()} for w in found.wild],
        "mixed_model": None if found.mixed is None else found.mixed.to_dict(),
        "leave_one_pair_out": None if found.pair_out is None else found.pair_out.to_dict(),
        "measurement_errors": _errors_document(answer),
        "partial_correlation": _partial_document(answer),
        "regret": {**answer.regret.to_dict(), "sentence": answer.sentence(source)},
        "notes": [note for notes in answer.general_notes().values() for note in notes],
        "hints": list(source.hints),
        "provenance": {"version": __version__, "command": request.command(), "seed": request.seed},
    }
    if source.study is not None:
        document["published"] = {
            "citation": source.study.citation,
            "printed_numbers": 6 * len(source.study.titles),
            "unreproduced": answer.unreproduced,
        }
    return document


def _errors_document(answer: Answer) -> dict[str, Any] | None:
    found = answer.corrected
    if found is None:
        return None
    frames = {"deming": found.deming, "disattenuated": found.disattenuated, "simex": found.simex}
    return {name: records(frame) for name, frame in frames.items()}


def _partial_document(answer: Answer) -> dict[str, Any] | None:
    found = answer.partial
    if found is None:
        return None
    return {"panels": records(found.panels), "across": records(found.across)}
