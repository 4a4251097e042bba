"""What ``kdstats correlate`` computes of its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.association.meta import MetaAnalysis
    from kdstats.association.regret import Regret
    from kdstats.cli.correlate.parts import Across, Corrected, Partial
    from kdstats.cli.correlate.request import Request
    from kdstats.cli.correlate.source import Source


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

    def general_notes(self) -> dict[str, tuple[str, ...]]:
        """Section ("" for all of them) → notes that belong to no single number: why a part is missing."""
        return {
            "": tuple(self.notes),
            "across": self.across.notes,
            "errors": () if self.corrected is None else self.corrected.notes,
            "given": () if self.partial is None else self.partial.notes,
        }

    def sentence(self, source: Source) -> str:
        """What choosing by the predictor has been worth."""
        return self.regret.sentence(
            predictor=source.x_name,
            unit=source.unit,
            kind=source.kind,
            what=source.what,
            names=source.short_names,
        )


def compute(request: Request, source: Source) -> Answer:
    """Everything that the sections asked for need; json gets all of it."""
    from kdstats.association.bootstrap import LARGEST_N
    from kdstats.association.correlate import correlate
    from kdstats.association.loo import leave_one_out
    from kdstats.association.panels import split
    from kdstats.association.regret import regret
    from kdstats.cli.correlate.parts import Across, across, corrected, means, partial, rng_for

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
