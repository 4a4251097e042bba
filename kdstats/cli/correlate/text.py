"""What ``kdstats correlate`` prints for a reader: the sections asked for, then every note and a hint or two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdstats.association.coefficients import METHODS, SYMBOLS
from kdstats.cli.correlate import sections
from kdstats.cli.correlate.notes import note_lines
from kdstats.cli.correlate.numbers import bracket, number, p_text, short
from kdstats.cli.correlate.rows import records
from kdstats.cli.correlate.sections import Block
from kdstats.tables import Table, escape_latex

if TYPE_CHECKING:
    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.request import Request
    from kdstats.cli.correlate.source import Source

MOST_LONG = 3  # panels that get three lines each when nothing else is asked for


def page(request: Request, source: Source, answer: Answer) -> str:
    """The whole answer as text, Markdown or LaTeX (there the sentences are comments)."""
    fmt, shown = request.fmt, request.sections()
    title = f"{source.title} ({_count(answer)})"
    blocks = [
        _block(name, fmt, source, answer, full=bool(shown)) for name in shown or _default(source, answer)
    ]
    blocks.append(
        Block(
            "",
            None,
            [*_check(source, answer), *note_lines(source, answer, shown), *_hints(shown, source, answer)],
        )
    )
    parts = [f"% {escape_latex(title)}" if fmt == "latex" else title]
    if source.said:
        parts += [*([""] if fmt == "md" else []), *(_line(fmt, _sentence(line)) for line in source.said)]
    for block in blocks:
        if block.empty:
            continue
        parts.append("")
        if block.heading:
            parts.append(_heading(fmt, block.heading))
        if block.table:
            parts += [*([""] if block.heading and fmt == "md" else []), block.table.write(fmt).rstrip("\n")]
        if block.table and block.lines and fmt == "md":
            parts.append("")
        parts += [_line(fmt, line) for line in block.lines]
    if fmt == "latex":
        parts = [part for part in parts if part]
    return "\n".join([*parts, ""])


def blocks(source: Source, answer: Answer) -> list[tuple[str, Block]]:
    """Name and contents of the sections that are printed by default and with ``--show mixed``, in full."""
    names = [*_default(source, answer), *(["mixed"] if answer.across.mixed is not None else [])]
    found = [(name, _block(name, "md", source, answer, full=True)) for name in names]
    return [(name, block) for name, block in found if not block.empty]


def closing(source: Source, answer: Answer) -> list[str]:
    """What stands below all sections: how the file was read, what was checked, notes, what the table seems to lack."""
    said = map(_sentence, source.said)
    return [*said, *_check(source, answer), *note_lines(source, answer), *source.hints]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _default(source: Source, answer: Answer) -> list[str]:
    names = ["panels", "across", "choice"]
    if answer.regret.k < 2 and answer.across.regression is None:
        names.remove("across")
    if answer.corrected is not None:
        names.append("errors")
    if source.given:
        names.append("given")
    return names


def _block(name: str, fmt: str, source: Source, answer: Answer, *, full: bool) -> Block:
    if name == "panels":
        compact = fmt == "table" and not full and answer.regret.k > MOST_LONG
        said = "p of r: permutation test; (Holm): its parametric p, corrected for the number of panels."
        return Block("", (_compact if compact else _table)(fmt, source, answer), [said] if compact else [])
    make = {
        "across": sections.across,
        "choice": sections.choice,
        "errors": sections.errors,
        "given": sections.given,
        "without": sections.without,
        "mixed": sections.mixed,
    }
    return make[name](fmt, source, answer)


def _heading(fmt: str, text: str) -> str:
    if fmt == "latex":
        return f"% {escape_latex(text)}"
    return f"**{text}**" if fmt == "md" else text


def _line(fmt: str, line: str) -> str:
    if fmt == "latex":
        return f"% {escape_latex(line)}".rstrip()
    return f"{line}  " if fmt == "md" else line  # two spaces end a line in Markdown


def _count(answer: Answer) -> str:
    sizes = sorted(set(answer.results["n"]))
    points = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    k = answer.regret.k
    return f"{k} panels, {points} each" if k > 1 else points


def _table(fmt: str, source: Source, answer: Answer) -> Table:
    """Three rows a panel: each coefficient with its interval and p-values."""
    confidence = float(answer.results["confidence"].iloc[0])
    rows: list[dict[str, Any]] = []
    for record in records(answer.results):
        row = {
            "panel": source.panel(record),
            "coefficient": SYMBOLS[record["method"]],
            "estimate": float(record["estimate"]),
            "interval": bracket(record["low"], record["high"]),
            "n": int(record["n"]),
        }
        row |= {p: record[p] for p in ("p_value", "p_permutation", "p_holm")}
        rows.append(row)
    columns = ["coefficient", "estimate", "interval", "p_value", "p_permutation", "n"]
    if answer.regret.k > 1:
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
    return Table(sections.once(fmt, rows), columns, headers, formats)


def _compact(fmt: str, source: Source, answer: Answer) -> Table:
    """One row a panel; p-values are those of Pearson's r."""
    rows: list[dict[str, Any]] = []
    for record in records(answer.results):
        if record["method"] == METHODS[0]:
            rows.append({"panel": source.panel(record), "n": int(record["n"])})
            rows[-1] |= {name: record[name] for name in ("p_permutation", "p_holm")}
        rows[-1][record["method"]] = short(record["estimate"], record["low"], record["high"])
    confidence = 100 * float(answer.results["confidence"].iloc[0])
    headers = {method: f"{SYMBOLS[method]} [{confidence:g} %]" for method in METHODS}
    headers |= {"p_permutation": "p of r", "p_holm": "(Holm)"}
    columns = ["panel", *METHODS, "p_permutation", "p_holm", "n"]
    return Table(rows, columns, headers, dict.fromkeys(("p_permutation", "p_holm"), p_text))


def _check(source: Source, answer: Answer) -> list[str]:
    if source.study is None:
        return []
    total = 6 * len(source.study.titles)
    if answer.unreproduced:
        return [f"{total - len(answer.unreproduced)} of {total} printed numbers are reproduced."]
    return [
        f"All {total} printed numbers (coefficients and p-values of {answer.regret.k} panels) are reproduced."
    ]


def _hints(shown: tuple[str, ...], source: Source, answer: Answer) -> list[str]:
    hints = [f"hint: {hint}" for hint in source.hints]
    if not shown:
        more = ["without"]
        if answer.regret.k > 1:
            more = [*(["panels"] if answer.regret.k > MOST_LONG else []), *more, "mixed"]
        if answer.corrected is None and source.y_se is not None:
            more.append("errors")
        hints.append(
            f"more: --show {','.join(more)} or all; --format json has everything; words: docs/method.md, section Words"
        )
    return hints
