"""What lies beside a page: JSON for programs, Markdown for a pull request, LaTeX for a paper."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexWalker
from synthetic_study import NINE

from reports import written
from reports.page import Page

Whole = tuple[Page, Path]
HOSTILE = "mix<script>alert(1)</script>&50%_a#{b}~ü→漢"


def nodes(text: str) -> list[Any]:
    return list(LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0])


def test_the_document_holds_the_tables_unrounded(whole: Whole) -> None:
    page, path = whole
    said = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    rows = said["tables"]["ranking"]["rows"]
    assert [row["test_loss"] for row in rows] == list(page.results["ranking"].table["test_loss"])
    identity = next(row for row in rows if row["scheme"] == "identity")
    assert identity["difference"] is None  # not NaN, which is no JSON
    assert said["complete"] is True
    assert said["runs"] == {"planned": 27, "used": 27, "failed": 0}
    assert said["definition"]["batch_size"] == 64
    assert said["provenance"]["command"] == page.study.card.provenance["command"]
    assert [asked["name"] for asked in said["asked"]] == ["best_and_last", "overhead", "picking"]
    assert said["asked"][2]["refused"]
    for entry in said["questions"]:
        assert entry["question"] == page.questions[entry["name"]]
        assert entry["findings"] == page.said(entry["name"])


def test_the_document_has_no_number_that_json_lacks(whole: Whole) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(json.loads(written.json_text(whole[0], "index.html"), parse_constant=lambda name: pytest.fail(name)))


def test_the_markdown_answers_and_says_where_it_comes_from(whole: Whole) -> None:
    page, path = whole
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    assert text.startswith("## Which augmentation should resnet8 → lenet8 distil with on digits?\n")
    for line in page.answer()[0][1]:
        assert line in text
    tables = [block for block in re.split(r"\n\n+", text) if block.startswith("| ")]
    ranking, correlation = tables[0].splitlines(), tables[1].splitlines()
    assert len(ranking) == 2 + 9
    assert [cell.strip() for cell in ranking[2].split("|")[1:4]] == [
        "cutmix_pick_teacher",
        "best",
        "0.5014 ± 0.0007 (3)",
    ]
    assert [line.split("|")[1].strip() for line in correlation[2:]] == [
        "Pearson r",
        "Spearman ρ",
        "Kendall τ",
    ]
    assert "--ask best_and_last,overhead,picking" in text
    assert page.study.card.provenance["command"] in text
    assert "batch size 64" in text


def test_the_latex_file_takes_the_tables_that_are_there(whole: Whole) -> None:
    page, path = whole
    text = (path.parent / "report.tex").read_text(encoding="utf-8")
    nodes(text)
    assert text.count(r"\begin{table}") == len(page.every_table())
    for name in re.findall(r"\\input\{([^}]+)\}", text):
        table = (path.parent / f"{name}.tex").read_text(encoding="utf-8")
        nodes(table)
        assert table.count(r"\begin{tabular}") == 1
    for name in re.findall(r"\\includegraphics\{([^}]+)\}", text):
        assert (path.parent / name).is_file()
    for drawing in page.every_drawing():
        assert f"figures/{drawing.name}.pdf" in text


def test_every_row_of_a_latex_table_has_all_its_cells(whole: Whole) -> None:
    for view in whole[0].every_table():
        lines = [line for line in view.write("latex").splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(view.columns) - 1}
        assert len(lines) == 1 + len(view.frame)


def test_hostile_labels_are_text_everywhere(built: Callable[..., Whole]) -> None:
    page, path = built(schemes=(*NINE[:4], HOSTILE), name="s", dataset={"name": HOSTILE, "classes": 10})
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "mix&lt;script&gt;alert(1)&lt;/script&gt;&amp;50%_a#{b}~ü→漢" in html
    for text in (
        page.tables["ranking"].write("latex"),
        (path.parent / "report.tex").read_text(encoding="utf-8"),
    ):
        nodes(text)
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        plain = LatexNodes2Text(math_mode="text").latex_to_text(body)
        assert HOSTILE.replace("~", "") in plain.replace("~", "").replace("\u00a0", "")
    markdown = (path.parent / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"(?<!\\)<(?=/?script)", markdown) == []


def test_the_markdown_of_an_incomplete_study_says_so_first(built: Callable[..., Whole]) -> None:
    page, path = built(failed=(("mixup", 2),), missing=(("flip", 0),), schemes=NINE[:6])
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    assert text.splitlines()[2].startswith("> This study is incomplete: 16 of 18 runs are in the numbers")
    assert "FloatingPointError: loss is NaN at epoch 3" in text
    said = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
    assert said["complete"] is False
    assert said["incomplete"] == text.splitlines()[2][2:]
    assert page.offers
