"""What ``kdstats evaluate-da`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdstats.pages import evaluate_da_facts as facts
from kdstats.tables import to_csv, to_json, write

COLUMNS = ("scheme", "t_stddev", "interval", "relative", "entropy", "effective", "accuracy")

Document = Mapping[str, Any]


def render(fmt: str, document: Document, data_note: str, written: Sequence[Path]) -> str:
    """The answer in one of the formats of :mod:`kdstats.tables`; only ``table`` has words around it."""
    if fmt == "json":
        return to_json(document)
    if fmt == "csv":
        return csv(document)
    if fmt != "table":
        return table(document, fmt)
    head = facts.header(document, data_note)
    width = max(len(name) for name, _ in head)
    lines = [f"{name.ljust(width)}  {text}" for name, text in head]
    lines += ["", *warned] if (warned := facts.warnings(document)) else []
    lines += ["", *_indented(table(document, fmt)), "", f"  {facts.null_note(document)}", ""]
    lines += [facts.lowest(document), *_more(document)]
    if written:
        lines.append(_files(document, written))
    return "\n".join(lines) + "\n"


def side_notes(document: Document, written: Sequence[Path]) -> list[str]:
    """What must still be said, on stderr, when stdout holds nothing but the table or the document."""
    lines = [
        line
        for line in (
            *facts.warnings(document),
            facts.stopping(document),
            facts.published_per_image(document),
            *document["skipped"].values(),
        )
        if line
    ]
    return [*lines, *([_files(document, written)] if written else [])]


def _more(document: Document) -> list[str]:
    lines = [
        facts.stopping(document),
        facts.published_per_image(document),
        facts.worth(document["shared"]["seed"]),
        *document["skipped"].values(),
    ]
    return [f"{line}." if not line.endswith(".") else line for line in lines if line]


def _files(document: Document, written: Sequence[Path]) -> str:
    page = next(path for path in written if path.suffix == ".html")
    rest = ", ".join(path.name for path in written if path != page)
    return f"Page: {page} · beside it: {rest} · {facts.duration(document['provenance']['seconds'])}"


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.rstrip("\n").split("\n")]


def table(document: Document, fmt: str) -> str:
    """The ranking with identity in its place and the null at the end."""
    decimals = facts.digits(document)
    level = f"{100 * document['results'][0]['confidence']:g} %"
    rows = [_row(document, result, decimals) for result in facts.ranking(document)]
    if fmt == "table":  # signs and points below each other
        width = max(len(row["relative"]) for row in rows)
        for row in rows:
            row["relative"] = row["relative"].rjust(width)
    rows.append({"scheme": "null", "t_stddev": document["results"][0]["null"]})
    headers = {
        "scheme": "scheme",
        "t_stddev": "T. stddev",
        "interval": f"{level} interval",
        "relative": "vs identity",
        "entropy": "entropy",
        "effective": "effective inputs",
        "accuracy": "view accuracy",
    }
    formats = {
        "t_stddev": lambda v: f"{v:.{decimals}f}",
        "entropy": lambda v: f"{v:.2f}",
        "effective": lambda v: f"{v:.0f}",
        "accuracy": lambda v: f"{100 * v:.1f} %",
    }
    return write(fmt, rows, COLUMNS, headers, formats)


def _row(document: Document, result: Mapping[str, Any], decimals: int) -> dict[str, Any]:
    compared = facts.comparison(document, result["scheme"])
    relative = ""
    if compared is not None:
        half = 50 * (compared["relative_high"] - compared["relative_low"])
        relative = f"{facts.signed(100 * compared['relative'])} % ±{half:.1f}"
    return {
        "scheme": result["scheme"],
        "t_stddev": result["t_stddev"],
        "interval": f"{result['low']:.{decimals}f} – {result['high']:.{decimals}f}",
        "relative": relative,
        "entropy": result["teacher_entropy"],
        "effective": result["effective_inputs"],
        "accuracy": result["rivals"]["view_accuracy"],
    }


def csv(document: Document) -> str:
    """One line a scheme, every number at full precision, nested names joined by a dot."""
    rows = facts.csv_rows(document)
    return to_csv(rows, list(rows[0]))
