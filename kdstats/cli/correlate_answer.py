"""What ``kdstats correlate`` computes, the document it prints, and its sections as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdstats._version import __version__
from kdstats.cli.correlate_rows import records, section_rows
from kdstats.tables import to_json, write

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.association.meta import MetaAnalysis
    from kdstats.association.regret import Regret
    from kdstats.cli.correlate import Request
    from kdstats.cli.correlate_parts import Across, Corrected, Partial
    from kdstats.cli.correlate_source import Source

SCHEMA = "kdstats/correlate/1"
_POOLING = "Panels are never pooled as independent points."


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything computed; parts that were not asked for are empty."""

    results: pd.DataFrame
    leave_one_out: pd.DataFrame | None
    meta: list[MetaAnalysis]
    regret: Regret
    across: Across
    corrected: Corrected | None
    partial: Partial | None
    notes: list[str]
    unreproduced: list[str]


def compute(request: Request, source: Source) -> Answer:
    """Everything that the sections asked for need; json gets all of it."""
    from kdstats.association.bootstrap import LARGEST_N
    from kdstats.association.correlate import correlate
    from kdstats.association.loo import leave_one_out
    from kdstats.association.panels import split
    from kdstats.association.regret import regret
    from kdstats.cli.correlate_parts import Across, across, corrected, means, partial, rng_for

    columns: dict[str, Any] = {"x": source.x, "y": source.y, "group": source.groups, "label": source.label}
    table, shown = source.table, request.sections()
    everything = request.fmt == "json"
    if not shown:
        shown = ("panels",) if request.fmt == "csv" else ("panels", "across", "choice", *_asked(source))
    results = correlate(
        table, **columns, confidence=request.confidence, interval=request.interval, seed=request.seed
    )
    panels = split(table, **columns)
    without, notes = None, []
    if everything or "without" in shown:
        if int(results["n"].max()) <= LARGEST_N:
            without = leave_one_out(table, **columns)
        else:
            notes.append(f"no leave-one-out: a panel has more than {LARGEST_N:,} points")
    meta, missing = means(request, results, [panel.name for panel in panels])
    cost = regret(
        table,
        **columns,
        choose=request.choose,
        better=request.better,
        confidence=request.confidence,
        rng=rng_for(request, "regret"),
    )
    errors = None
    if everything or "errors" in shown:
        errors = corrected(request, source, panels)
    over = Across()
    if everything or {"across", "choice", "mixed"} & set(shown):
        over = across(request, source, panels, mixed=everything or "mixed" in shown)
    return Answer(
        results=results,
        leave_one_out=without,
        meta=meta,
        regret=cost,
        across=over,
        corrected=errors,
        partial=partial(request, source, panels) if everything or "given" in shown else None,
        notes=[*source.notes, *missing, *notes],
        unreproduced=source.study.unreproduced(results) if source.study is not None else [],
    )


def _asked(source: Source) -> tuple[str, ...]:
    """Sections that belong to the default page because columns for them were named."""
    errors = source.study is None and (source.x_se is not None or source.y_se is not None)
    return (*(("errors",) if errors else ()), *(("given",) if source.given else ()))


def render(request: Request, source: Source, answer: Answer) -> str:
    """The answer in the format asked for."""
    if request.fmt == "json":
        return to_json(_document(request, source, answer))
    if request.fmt == "csv":
        section = (request.sections() or ("panels",))[0]
        rows = section_rows(section, source, answer)
        head = list(rows[0]) if rows else ["notes"]
        return write("csv", rows, list(dict.fromkeys([*head, *(key for row in rows for key in row)])))
    from kdstats.cli.correlate_text import page

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
        "regret": {**answer.regret.to_dict(), "sentence": sentence(source, answer)},
        "notes": [note for notes in general_notes(answer).values() for note in notes],
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


def general_notes(answer: Answer) -> dict[str, tuple[str, ...]]:
    """Section ("" for all of them) → notes that belong to no single number: why a part is missing."""
    return {
        "": tuple(answer.notes),
        "across": answer.across.notes,
        "errors": () if answer.corrected is None else answer.corrected.notes,
        "given": () if answer.partial is None else answer.partial.notes,
    }


def sentence(source: Source, answer: Answer) -> str:
    """What choosing by the predictor has been worth."""
    return answer.regret.sentence(
        predictor=source.x_name,
        unit=source.unit,
        kind=source.kind,
        what=source.what,
        names=source.short_names,
    )


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
