"""Writers: aligned terminal columns, Markdown, CSV, JSON rows and booktabs LaTeX.

Writers take cells that are already text, or numbers with a format per column; nothing is rounded before it
reaches a writer, and CSV and JSON keep full precision.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdstats.errors import unknown

FORMATS = ("table", "json", "csv", "md", "latex")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "<": r"$<$",
    ">": r"$>$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "λ": r"$\lambda$",
    "–": "--",
    "†": r"$^{\dagger}$",
    "²": "$^2$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "√": r"$\surd$",
    "α": r"$\alpha$",
    "σ": r"$\sigma$",
    "…": r"\ldots{}",
    "\n": " ",
}
_LIGATURES = ("--", "``", "''", "?`", "!`")  # LaTeX would print another character for the two
# What Markdown would read as markup: always, at the edge of a word, or only in the company shown.
_MARKDOWN = re.compile(
    r"""[\\`*|]                       # escapes, code, emphasis, columns
    | (?<!\w)_ | _(?!\w)              # emphasis; within a word an underscore is plain
    | <(?=[A-Za-z/!?])                # a tag
    | &(?=\#?\w+;)                    # an entity
    | ~(?=~) | (?<=~)~                # struck out
    | \[(?=[^\]]*\][(\[:])            # a link
    """,
    re.VERBOSE,
)

Row = Mapping[str, Any]
Formatter = Callable[[Any], str]


def check_format(name: str) -> str:
    """``name`` if it is one of :data:`FORMATS`; raises ``UsageError`` with the nearest one otherwise."""
    if name not in FORMATS:
        raise unknown("output format", name, FORMATS)
    return name


def _text(value: Any, fmt: Formatter | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return fmt(value) if fmt else str(value)


def _cells(rows: Sequence[Row], columns: Sequence[str], formats: Mapping[str, Formatter]) -> list[list[str]]:
    return [[_text(row.get(column), formats.get(column)) for column in columns] for row in rows]


def _numeric(rows: Sequence[Row], column: str) -> bool:
    values = [row.get(column) for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def to_text(
    rows: Sequence[Row],
    columns: Sequence[str],
    headers: Mapping[str, str] | None = None,
    formats: Mapping[str, Formatter] | None = None,
) -> str:
    """Aligned columns for a terminal; numbers to the right, words to the left."""
    heads = [(headers or {}).get(c, c) for c in columns]
    body = _cells(rows, columns, formats or {})
    widths = [max([len(h), *(len(r[i]) for r in body)]) for i, h in enumerate(heads)]
    right = [_numeric(rows, c) for c in columns]

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return "\n".join(line(cells) for cells in [heads, *body]) + "\n"


def to_markdown(
    rows: Sequence[Row],
    columns: Sequence[str],
    headers: Mapping[str, str] | None = None,
    formats: Mapping[str, Formatter] | None = None,
) -> str:
    """A pipe table; characters that Markdown would read as markup are escaped."""
    heads = [escape_markdown((headers or {}).get(c, c)) for c in columns]
    marks = ["---:" if _numeric(rows, c) else "---" for c in columns]
    body = [[escape_markdown(cell) for cell in r] for r in _cells(rows, columns, formats or {})]
    return markdown_table(heads, marks, body)


def markdown_table(heads: Sequence[str], marks: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A pipe table of cells that are Markdown already; ``marks`` are ``---`` or ``---:``."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, marks, *body]) + "\n"


def escape_markdown(text: str) -> str:
    """``text`` as one line that Markdown prints as it is.

    >>> escape_markdown("a*b|c_d <0.001 [1, 2]")
    'a\\\\*b\\\\|c_d <0.001 [1, 2]'
    """
    return _MARKDOWN.sub(lambda found: "\\" + found[0], " ".join(text.splitlines()))


def escape_latex(text: str) -> str:
    """``text`` with every character that LaTeX would read as a command made printable."""
    return "".join(
        ("{}" if before + ch in _LIGATURES else "") + _LATEX.get(ch, ch)
        for before, ch in zip(" " + text, text, strict=False)
    )


def to_latex(
    rows: Sequence[Row],
    columns: Sequence[str],
    headers: Mapping[str, str] | None = None,
    formats: Mapping[str, Formatter] | None = None,
) -> str:
    """A booktabs ``tabular`` (needs ``\\usepackage{booktabs}``)."""
    heads = [escape_latex((headers or {}).get(c, c)) for c in columns]
    align = "".join("r" if _numeric(rows, c) else "l" for c in columns)
    body = [[escape_latex(cell) for cell in r] for r in _cells(rows, columns, formats or {})]
    return latex_table(heads, align, body)


def latex_table(heads: Sequence[str], align: str, body: Sequence[Sequence[str]]) -> str:
    """A booktabs ``tabular`` of cells that are LaTeX already."""
    lines = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", _latex_row(heads), "\\midrule"]
    return "\n".join([*lines, *map(_latex_row, body), "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    text = " & ".join(cells) + r" \\"
    # After a rule or a row's end LaTeX takes "[" for an option and "*" for the starred form, line ends or not.
    return "{}" + text if text.startswith(("[", "*")) else text


def to_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Comma-separated text, full precision, one header line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row.get(c) is None else row.get(c) for c in columns])
    return out.getvalue()


def to_json(document: Any) -> str:
    """One JSON document, indented, UTF-8; NaN and infinities become ``null`` (JSON has no such numbers)."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _finite(value.item())
    return value


@dataclass(frozen=True, slots=True)
class Table:
    """A table before anybody has decided how it is written.

    >>> table = Table([{"scheme": "cut|mix", "loss": 1.25}], ["scheme", "loss"], formats={"loss": "{:.1f}".format})
    >>> table.cells
    [['cut|mix', '1.2']]
    >>> print(table.write("md").splitlines()[-1])
    | cut\\|mix | 1.2 |

    Attributes:
        rows: Raw cells by column.
        columns: Those that are shown, in order.
        headers: Column → what is printed above it; its name where it is absent.
        formats: Column → how its cells become text.
        bare: Whether a terminal shows no head and indents the lines.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Formatter] = field(default_factory=dict)
    bare: bool = False

    def write(self, fmt: str) -> str:
        """The table as :func:`write` gives it."""
        if fmt == "table" and self.bare:
            lines = to_text(
                self.rows, self.columns, dict.fromkeys(self.columns, ""), self.formats
            ).splitlines()[1:]
            return "\n".join(f"  {line}" for line in lines)
        return write(fmt, self.rows, self.columns, self.headers, self.formats)

    @property
    def heads(self) -> list[str]:
        """What is printed above each column."""
        return [self.headers.get(column, column) for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        """Every cell as text."""
        return _cells(self.rows, self.columns, self.formats)


def write(
    fmt: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    headers: Mapping[str, str] | None = None,
    formats: Mapping[str, Formatter] | None = None,
) -> str:
    """The table in one of :data:`FORMATS`; ``json`` gives the rows as a list of objects."""
    check_format(fmt)
    if fmt == "csv":
        return to_csv(rows, columns)
    if fmt == "json":
        return to_json([{c: row.get(c) for c in columns} for row in rows])
    if fmt == "md":
        return to_markdown(rows, columns, headers, formats)
    if fmt == "latex":
        return to_latex(rows, columns, headers, formats)
    return to_text(rows, columns, headers, formats)
