"""What the writers print is read again by a LaTeX parser and by a Markdown reader of our own."""

from __future__ import annotations

import re

import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexMacroNode, LatexWalker

from kdstats.tables import escape_latex, escape_markdown, summarise, to_latex, to_markdown, write_summary

# Letters, digits and everything that either language treats as special.
TEXT = st.text(st.sampled_from(list(r"abZ09 \&%$#_{}~^±−<>|*`[]()!.:;-/ρτλ²×")), max_size=14)

# How the parser prints what has no plain character of its own; spaces and braces carry nothing.
_READ = {"−": "-", "²": "^2", "ˆ": "^", "˜": "~"}


def read_back(text: str) -> str:
    for shown, meant in _READ.items():
        text = text.replace(shown, meant)
    return text


def squeezed(text: str) -> str:
    return re.sub(r"[\s{}]+", "", text)


def rows_of(latex: str) -> list[str]:
    """The body rows of a tabular, as a strict LaTeX parser splits them, printed as plain text."""
    nodes, _, _ = LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    (table,) = (n for n in nodes if isinstance(n, LatexEnvironmentNode))
    assert table.environmentname == "tabular"
    rows, current = [], []
    for node in table.nodelist[1:]:  # the first node is the column specification
        if isinstance(node, LatexMacroNode) and node.macroname == "\\":
            assert node.nodeargd is None or not any(node.nodeargd.argnlist or []), "a cell became an option"
            rows.append(current)
            current = []
        else:
            current.append(node)
    read = LatexNodes2Text(keep_comments=True, math_mode="text", strict_latex_spaces=True)
    return [re.sub(r"\s+", " ", read.nodelist_to_text(row)).strip() for row in rows]


@given(TEXT)
@example("[0.1, 0.2]")
@example("*starred")
@example("\\")
def test_latex_cells_come_back(text):
    latex = to_latex([{"a": text, "b": 1.5}], ["a", "b"])
    assert latex.count(r"\\" + "\n") == 2
    body = latex.splitlines()[4]
    assert not body.startswith(("[", "*"))
    _, row = rows_of(latex)
    assert row.endswith("1.5")
    cell = row.removesuffix("1.5")  # the parser prints a column's end as a space
    expected = read_back(text)
    assert squeezed(read_back(cell)) == squeezed(expected)


@given(TEXT)
def test_latex_specials_never_stay_bare(text):
    bare = re.sub(r"\{\}|\$[^$]*\$|\\[a-z]+\{\}|\\[&%$#_{}]", "", escape_latex(text))
    assert not set(bare) & set("\\&%$#_{}~^")


def test_line_ends_do_not_end_a_paragraph():
    assert "\n\n" not in to_latex([{"a": "x\n\ny"}], ["a"])
    assert to_markdown([{"a": "x\n\ny"}], ["a"]).count("\n") == 3


def plain_markdown(text: str) -> str:
    """Undoes backslash escapes; anything that is markup in GFM inside a table cell fails."""
    kept, special = "", []
    for part in re.findall(r"\\[!-/:-@\[-`{-~]|.", text):
        kept += part[-1] if len(part) == 2 else part
        special.append("\0" if len(part) == 2 else part)
    bare = "".join(special)
    assert not re.search(r"[`*|]|<[A-Za-z/!?]|~~|&#?\w+;|\[[^\]]*\][(\[]", bare)
    return kept


@given(TEXT)
@example("[a](b)")
@example("&amp;")
@example("__init__ a_b _c_")
@example("<b> <0.001")
@example(r"\| and \\")
def test_markdown_cells_come_back(text):
    escaped = escape_markdown(text)
    assert plain_markdown(escaped) == text
    line = to_markdown([{"a": text, "b": 1}], ["a", "b"]).splitlines()[2]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


def test_what_reads_well_stays_plain():
    assert (
        escape_markdown("p <0.001 [−0.41, 0.82] crop_flip 5 & 6 a~b")
        == "p <0.001 [−0.41, 0.82] crop_flip 5 & 6 a~b"
    )


def test_a_summary_with_hostile_names_parses():
    names = ["50% & [x]", "a_b^c", r"\evil{", "[first]", "*star"]
    runs = pd.DataFrame([{"scheme": s, "loss": i + 0.1 * k} for i, s in enumerate(names) for k in range(3)])
    latex = write_summary(summarise(runs, value="loss", by=["scheme"], better="lowest"), "latex")
    found = rows_of(latex)
    assert len(found) == 6
    assert found[1].startswith("50% & [x]")
    assert "0.100 ± 0.100" in found[1]
    assert "†" in rows_of(latex.replace("(3)", "(3)$^{\\dagger}$", 1))[1]
