"""What ``kdstats correlate`` prints for a reader: the table, the means over panels, what a choice costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdstats.association.coefficients import SYMBOLS
from kdstats.tables import escape_latex, write

if TYPE_CHECKING:
    from kdstats.association.meta import MetaAnalysis
    from kdstats.association.regret import Regret
    from kdstats.cli.correlate import Request
    from kdstats.cli.correlate_answer import Answer, Source


def page(request: Request, source: Source, answer: Answer) -> str:
    """The whole answer as text, Markdown or LaTeX (there the sentences are comments)."""
    table = _table(request.fmt, source, answer)
    paragraphs = [
        _across(answer),
        _cost(source, answer.regret),
        _check(source, answer),
        _notes(source, answer),
    ]
    said = [line for paragraph in paragraphs if paragraph for line in ["", *paragraph]]
    title = f"{source.title} ({_count(answer)})"
    if request.fmt == "latex":
        lines = [f"% {escape_latex(line)}".rstrip() for line in [title, *said]]
        return table + "\n".join(lines) + "\n"
    if request.fmt == "md":
        said = [line and f"{line}  " for line in said]  # two spaces end a line in Markdown
    return f"{title}\n\n{table}" + "\n".join([*said, ""])


def _count(answer: Answer) -> str:
    sizes = sorted(set(answer.results["n"]))
    points = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    k = answer.regret.k
    return f"{k} panels, {points} each" if k > 1 else points


def _table(fmt: str, source: Source, answer: Answer) -> str:
    many = answer.regret.k > 1
    confidence = float(answer.results["confidence"].iloc[0])
    rows: list[dict[str, Any]] = []
    previous = None
    for record in answer.results.to_dict("records"):
        name = " ".join(str(record[g]) for g in source.groups)
        row: dict[str, Any] = (
            {} if name == previous and fmt == "table" else {"panel": source.names.get(name, name)}
        )
        previous = name
        row |= {
            "coefficient": SYMBOLS[record["method"]],
            "estimate": float(record["estimate"]),
            "interval": bracket(record["low"], record["high"]),
            "n": int(record["n"]),
        }
        row |= {name: float(record[name]) for name in ("p_value", "p_permutation", "p_holm")}
        rows.append(row)
    columns = ["coefficient", "estimate", "interval", "p_value", "p_permutation", "n"]
    if many:
        columns.insert(-1, "p_holm")
    if source.groups:
        columns.insert(0, "panel")
    headers = {
        "coefficient": "" if fmt == "table" else "coefficient",
        "interval": f"{100 * confidence:g} % interval",
        "p_value": "p",
        "p_permutation": "p (permutation)",
        "p_holm": "p (Holm)",
    }
    formats = {"estimate": number, **dict.fromkeys(("p_value", "p_permutation", "p_holm"), p_text)}
    return write(fmt, rows, columns, headers, formats)


def number(value: float) -> str:
    """Four decimals, with a true minus sign."""
    return _signed(value, 4)


def p_text(value: float) -> str:
    """A p-value as papers print it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def bracket(low: float, high: float) -> str:
    """An interval of correlations."""
    return f"[{_signed(low, 3)}, {_signed(high, 3)}]"


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # + 0.0 turns -0.0 into 0.0


def _across(answer: Answer) -> list[str]:
    if answer.regret.k < 2:
        return []
    lines = ["Panels are never pooled as independent points."]
    if answer.meta:
        lines[0] += f" Mean over {answer.meta[0].k} panels, random effects on Fisher's z:"
        lines += [f"  {_mean(found)}" for found in answer.meta]
        lines.append("Panels that share a teacher, a data set or schemes are not independent:")
        lines.append("these means are less sure than their intervals say.")
    return lines


def _mean(found: MetaAnalysis) -> str:
    text = f"{SYMBOLS[found.coefficient]} {number(found.estimate)} {bracket(found.low, found.high)}"
    if found.prediction_low == found.prediction_low:
        text += f", a further panel {bracket(found.prediction_low, found.prediction_high)}"
    return f"{text}, I² {100 * found.i2:.0f} %"


def _cost(source: Source, cost: Regret) -> list[str]:
    if cost.k < 2:
        return []
    sentence = cost.sentence(
        predictor=source.x_name,
        unit=source.unit,
        kind=source.kind,
        what=source.what,
        names=source.short_names,
    )
    span = f"[{cost.low:.2g}, {cost.high:.2g}]"
    return [
        f"{sentence[0].upper()}{sentence[1:]}.",
        f"Mean cost over panels {cost.mean:.2g} {source.unit} {span}; share of panels hit "
        f"[{cost.hits_low:.3f}, {cost.hits_high:.3f}]; "
        f"{100 * cost.concordance:.0f} % of {cost.pairs} pairs ordered rightly.",
    ]


def _check(source: Source, answer: Answer) -> list[str]:
    if source.study is None:
        return []
    total = 6 * len(source.study.titles)
    if answer.unreproduced:
        return [f"{total - len(answer.unreproduced)} of {total} printed numbers are reproduced."]
    return [
        f"All {total} printed numbers (coefficients and p-values of {answer.regret.k} panels) are reproduced."
    ]


def _notes(source: Source, answer: Answer) -> list[str]:
    where: dict[str, list[str]] = {}
    for record in answer.results.to_dict("records"):
        name = " ".join(str(record[g]) for g in source.groups)
        for note in filter(None, str(record["notes"]).split("; ")):
            at = (
                f"{SYMBOLS[record['method']]} of {source.names.get(name, name)}"
                if name
                else SYMBOLS[record["method"]]
            )
            where.setdefault(note, []).append(at)
    lines = []
    for note, places in where.items():
        shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        lines.append(f"note: {note} ({shown})")
    lines += [f"note: {note}" for note in [*answer.regret.notes, *answer.notes]]
    return lines
