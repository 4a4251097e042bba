"""What ``kdstats power`` prints: sentences and a table, or a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from kdstats._version import __version__
from kdstats.association.power_correlation import CorrelationPower
from kdstats.association.power_curve import power_curve
from kdstats.association.power_gap import GapPower
from kdstats.tables import escape_latex, to_json, write

SCHEMA = "kdstats/power/1"
_MOST_SENTENCES = 6
_GAP_COLUMNS: tuple[str, ...] = (
    "asked",
    "gap",
    "seeds",
    "power",
    "low",
    "high",
    "target",
    "alpha",
    "alpha_each",
    "comparisons",
)
_GAP_COLUMNS += ("adjust", "pooled", "df", "sd_difference", "confidence", "method")
_R_COLUMNS: tuple[str, ...] = (
    "asked",
    "r",
    "r_seen",
    "schemes",
    "pairs",
    "tau",
    "reliability",
    "power",
    "target",
    "alpha",
)
_R_COLUMNS += ("alpha_each", "comparisons", "adjust", "method")


def gap_answer(plans: Sequence[GapPower], fmt: str, command: str) -> str:
    """The answers about gaps in one of the formats."""
    first = plans[0]
    interval = f"{100 * first.confidence:g} % interval"
    uncertain = first.low != first.high
    rows = [
        {
            "gap": plan.gap,
            "seeds": plan.seeds,
            "power": plan.power,
            "interval": _ends(plan) if uncertain else None,
            "alpha": plan.alpha_each,
            "df": plan.df,
        }
        for plan in plans
    ]
    what = {"seeds": "seeds needed", "gap": "smallest gap", "power": "power"}[first.asked]
    columns = ["gap", "seeds", "power", *(["interval"] if uncertain else []), "alpha", "df"]
    spread = first.spread
    lines = [
        *_sentences(plans),
        f"A difference of two runs has sd {first.sd_difference:.4g} ({spread.source}); one run {spread.sd_run:.4g}"
        + (f", correlation over seeds {spread.correlation:.2f}." if spread.paired else "."),
        f"Test: {first.method}.",
    ]
    return _render(
        fmt,
        plans,
        command,
        title=what,
        rows=rows,
        columns=columns,
        headers={"interval": f"{what}, {interval}", "alpha": "alpha of a test"},
        formats={"gap": _short, "power": _two, "alpha": _short},
        lines=lines,
        raw=_GAP_COLUMNS,
    )


def correlation_answer(plans: Sequence[CorrelationPower], fmt: str, command: str) -> str:
    """The answers about correlations in one of the formats."""
    first = plans[0]
    what = {
        "schemes": "schemes needed",
        "pairs": "pairs needed",
        "r": "smallest correlation",
        "power": "power",
    }
    rows = [
        {
            "r": p.r,
            "r_seen": p.r_seen,
            "schemes": p.schemes,
            "pairs": p.pairs,
            "power": p.power,
            "alpha": p.alpha_each,
        }
        for p in plans
    ]
    columns = ["r", *(["r_seen"] if first.reliability < 1 else []), "schemes", "pairs", "power", "alpha"]
    return _render(
        fmt,
        plans,
        command,
        title=what[first.asked],
        rows=rows,
        columns=columns,
        headers={"alpha": "alpha of a test", "r_seen": "r as seen"},
        formats={"r": _short, "r_seen": _short, "power": _two, "alpha": _short},
        lines=[*_sentences(plans), *(f"Test: {m}." for m in dict.fromkeys(p.method for p in plans))],
        raw=_R_COLUMNS,
    )


def plot_to(path: Path, plans: Sequence[GapPower | CorrelationPower]) -> None:
    """Saves the curve and says where, with its caption, on stderr."""
    from kdstats.figures.power import power_figure
    from kdstats.figures.style import save

    figure, facts = power_figure(plans)
    typer.echo(f"figure: {save(figure, path)}\ncaption: {facts.caption()}", err=True)


def _render(
    fmt: str,
    plans: Sequence[GapPower | CorrelationPower],
    command: str,
    *,
    title: str,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    headers: dict[str, str],
    formats: dict[str, Any],
    lines: Sequence[str],
    raw: Sequence[str],
) -> str:
    if fmt == "json":
        return to_json(
            {
                "schema": SCHEMA,
                "results": [{**plan.to_dict(), "curve": power_curve(plan).to_dict()} for plan in plans],
                "provenance": {"version": __version__, "command": command},
            }
        )
    if fmt == "csv":
        return write("csv", [plan.to_dict() for plan in plans], [*raw])
    notes = list(dict.fromkeys(note for plan in plans for note in plan.notes))
    said = [
        "",
        *lines,
        *(f"note: {note}" for note in notes),
        "What the words mean: docs/method.md, section Words.",
    ]
    table = write(fmt, rows, columns, headers, formats)
    head = f"{title[0].upper()}{title[1:]}"
    if fmt == "latex":
        return table + "".join(f"% {escape_latex(line)}".rstrip() + "\n" for line in [head, *said])
    if fmt == "md":
        said = [line and f"{line}  " for line in said]
    return f"{head}\n\n{table}" + "\n".join([*said, ""])


def _sentences(plans: Sequence[GapPower] | Sequence[CorrelationPower]) -> list[str]:
    """One sentence a plan; with many the table says it all."""
    return [f"{_sentence(plan)}." for plan in plans] if len(plans) <= _MOST_SENTENCES else []


def _sentence(plan: GapPower | CorrelationPower) -> str:
    tests = f"two-sided alpha {plan.alpha:g}" + (
        ""
        if plan.comparisons == 1 or plan.adjust == "none"
        else f" over {plan.comparisons} comparisons ({plan.adjust})"
    )
    if isinstance(plan, GapPower):
        ends = f" ({_ends(plan)})" if plan.low != plan.high else ""
        each = f"{plan.seeds} seeds of each scheme"
        if plan.asked == "seeds":
            return f"A gap of {plan.gap:g} needs {each}{ends} for power {plan.target:g}, {tests}"
        if plan.asked == "gap":
            return f"{each} show a gap of {plan.gap:.3g}{ends} with power {plan.target:g}, {tests}"
        return f"{each} show a gap of {plan.gap:g} with power {_two(plan.power)}{ends}, {tests}"
    design = f"{plan.schemes} schemes in {plan.pairs} pair{'s' * (plan.pairs > 1)}"
    if plan.asked in ("schemes", "pairs"):
        return f"A correlation of {plan.r:g} needs {design} for power {plan.target:g}, {tests}"
    if plan.asked == "r":
        return f"{design} show a correlation of {plan.r:.3g} with power {plan.target:g}, {tests}"
    return f"{design} show a correlation of {plan.r:g} with power {_two(plan.power)}, {tests}"


def _ends(plan: GapPower) -> str:
    if plan.asked == "seeds":
        high = f"{plan.high:.0f}" if plan.high < float("inf") else "more than a million"
        return f"{plan.low:.0f} to {high}"
    return (
        f"{plan.low:.3g} to {plan.high:.3g}" if plan.asked == "gap" else f"{plan.low:.2f} to {plan.high:.2f}"
    )


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−") if abs(value) >= 1e-4 else f"{value:.2e}".replace("-", "−")


def _two(value: float) -> str:
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"
