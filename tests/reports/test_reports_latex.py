"""The LaTeX of a report is set by a real pdfTeX."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pypdf import PdfReader
from synthetic_study import NINE, make_study

from reports.build import build

HOSTILE = r"mix<script>&50%_a#{b}~ü→漢^^5cinput{secret}$x$"


@pytest.fixture(scope="module")
def pdflatex() -> str:
    found = shutil.which("pdflatex")
    if found is None:
        if os.environ.get("KDSTATS_REQUIRE_LATEX") == "1":
            pytest.fail("KDSTATS_REQUIRE_LATEX=1, but there is no pdflatex")
        pytest.skip("no pdflatex; Debian has it in texlive-latex-recommended")
    return found


@pytest.mark.filterwarnings("ignore:Glyph")  # figures show a box for what their font lacks
def test_a_report_is_set_and_holds_what_it_says(pdflatex: str, tmp_path: Path) -> None:
    root = make_study(tmp_path / "study", schemes=(*NINE, HOSTILE), name="s", failed=(("mixup", 2),))
    page, path = build(root, ask=("overhead", "best_and_last"))
    (path.parent / "secret.tex").write_text("precious")
    for _ in range(2):  # as for any document with references
        done = subprocess.run(
            [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"],
            cwd=path.parent,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert "Missing character" not in (path.parent / "report.log").read_text(errors="replace")
    text = "".join(
        " ".join(sheet.extract_text() for sheet in PdfReader(path.parent / "report.pdf").pages).split()
    )
    for said in ("mix<script>&50%_a#{b}", "[U+6F22]", "^^5cinput{secret}$x$"):
        assert said in text
    assert "precious" not in text
    for view in page.every_table():
        assert "".join(view.caption.split())[:14] in text, view.name
    assert text.count("Figure") >= len(page.every_drawing())
