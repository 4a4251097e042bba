"""What must be read before the answer stands before it in every form of a report, and nowhere without a reason."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from pylatexenc.latex2text import LatexNodes2Text
from synthetic_study import NINE, make_study

from kdstats.records.part import write_table
from reports.build import build, main
from reports.page import Page

UNEQUAL = (
    "Not on equal terms: resnet8/lenet8: 2 different recipes among 11 runs; "
    "resnet8/lenet8: not all schemes have the same seeds: flip lacks seed 1."
)
INCOMPLETE = (
    "This study is incomplete: 11 of 12 runs are in the numbers (1 missing). What follows rests on these."
)
RECIPE = {"epochs": 30, "lr": {"lenet8": 0.05, "ShuffleV2": 0.01}}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every text of a study that lacks a run, one of whose others had a recipe of its own."""
    root = make_study(
        tmp_path_factory.mktemp("unequal") / "study",
        schemes=NINE[:4],
        missing=(("flip", 1),),
        curves=False,
        recipe=RECIPE,
    )
    runs = pd.read_parquet(root / "runs.parquet")
    runs.loc[runs["scheme"] == "cutout", "recipe_digest"] = "1e" * 32
    write_table(root / "runs.parquet", "runs", runs)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([str(root), "--quiet"]) == 0
    folder = root / "report"
    files = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("report.md", "report.tex", "index.html")
    }
    return {
        **files,
        "report.json": (folder / "report.json").read_text(encoding="utf-8"),
        "terminal": said.getvalue(),
    }


def test_the_terminal_says_them_before_the_answer(told: dict[str, str]) -> None:
    answer = json.loads(told["report.json"])["answer"]
    lines = told["terminal"].splitlines()
    assert lines[:3] == [INCOMPLETE, UNEQUAL, answer]
    assert Path(lines[3]).name == "index.html"
    assert len(lines) == 4


def test_the_document_lists_them(told: dict[str, str]) -> None:
    said = json.loads(told["report.json"])
    assert said["caveats"] == [INCOMPLETE, UNEQUAL]
    assert (said["fair"], said["complete"]) == (False, False)


def test_the_markdown_quotes_them_before_the_answer(told: dict[str, str]) -> None:
    lines = told["report.md"].splitlines()
    assert lines[2] == f"> {INCOMPLETE}"
    assert lines[4].replace("\\", "") == f"> {UNEQUAL}"
    first = json.loads(told["report.json"])["answers"][0]["sentences"][0]
    assert lines[6].replace("\\", "") == first


def test_the_latex_file_sets_them_before_the_answer(told: dict[str, str]) -> None:
    marked = [line for line in told["report.tex"].splitlines() if line.startswith(r"\emph{")]
    assert len(marked) == 2
    plain = LatexNodes2Text(math_mode="text").latex_to_text(told["report.tex"])
    text = " ".join(plain.split())
    answer = text.index("has the lowest")
    for caveat in (INCOMPLETE, UNEQUAL):
        assert text.index(caveat) < answer


def test_the_page_shows_them_on_its_first_screen(told: dict[str, str]) -> None:
    lead = told["index.html"].partition('<header class="lead">')[2].partition("</header>")[0]
    assert [lead.count(text) for text in (INCOMPLETE, UNEQUAL)] == [1, 1]


@pytest.mark.parametrize(("accuracy", "told"), [(0.09, True), (0.12, True), (0.15, False)])
def test_a_teacher_that_guesses_is_told_first(tmp_path: Path, accuracy: float, told: bool) -> None:
    """Of 360 images in 10 classes: 12 % may still be luck, 15 % is not."""
    root = make_study(tmp_path / "study", schemes=NINE[:3], curves=False)
    card = json.loads((root / "study.json").read_text(encoding="utf-8"))
    card["dataset"] |= {"classes": 10, "test": 360}
    card["teachers"]["resnet8"]["test_accuracy"] = accuracy
    (root / "study.json").write_text(json.dumps(card), encoding="utf-8")
    page, _ = build(root)
    said = [text for text in page.caveats() if "cannot be told from guessing among 10 classes" in text]
    assert len(said) == told
    assert not told or f"resnet8 ({100 * accuracy:.1f} %) cannot" in said[0]


def test_a_study_on_equal_terms_has_none(whole: tuple[Page, Path]) -> None:
    page, path = whole
    assert page.caveats() == []
    assert json.loads((path.parent / "report.json").read_text(encoding="utf-8"))["caveats"] == []
    for name in ("report.md", "report.tex"):
        text = (path.parent / name).read_text(encoding="utf-8")
        assert "equal terms" not in text
        assert "\n> " not in text
        assert r"\emph{" not in text


def test_the_page_shows_what_each_student_was_trained_with(told: dict[str, str]) -> None:
    assert "epochs 30, lr 0.05 (lenet8) and 0.01 (ShuffleV2)" in told["index.html"]
