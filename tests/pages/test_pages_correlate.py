"""The page of ``kdstats correlate --out``: the look of the others, and the numbers of the command."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from kdstats.cli.main import app
from kdstats.console import run_program

HOSTILE = "<script>alert(1)</script> & 50 % a|b_c"


def main(words: list[str]) -> int:
    return run_program("kdstats", lambda: int(app(words, standalone_mode=False) or 0))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("correlate")
    table = pd.DataFrame(
        {
            "scheme": ["a", "b", "c", "d", "e", HOSTILE],
            "t": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "loss": [1.1, 1.9, 3.2, 3.9, 5.3, 5.8],
        }
    )
    table.to_csv(root / "table.csv", index=False)
    words = ["correlate", str(root / "table.csv"), "--x", "t", "--y", "loss", "--label", "scheme"]
    assert main([*words, "--out", str(root / "out")]) == 0
    return root / "out"


def test_the_page_answers_with_the_numbers_of_the_document(written: Path) -> None:
    document = json.loads((written / "result.json").read_text(encoding="utf-8"))
    page = (written / "index.html").read_text(encoding="utf-8")
    lead = page[page.index('<header class="lead">') : page.index("</header>")]
    pearson = next(row for row in document["results"] if row["method"] == "pearson")
    assert f"r {pearson['estimate']:.2f}" in lead.replace("\u00a0", " ")
    assert "Does loss go with t?" in lead
    for text in ("<h2>Evidence</h2>", "<h2>Notes</h2>", "<h2>Definition</h2>", 'class="skip"'):
        assert text in page
    assert document["leave_one_out"]  # a page has everything, though the terminal shows less


def test_every_point_has_its_label(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    labels = [
        label.split(";")[0] for label in re.findall(r'class="point" role="img" aria-label="([^"]+)"', page)
    ]
    assert labels[:5] == ["a", "b", "c", "d", "e"]
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 50 % a|b_c" in page


def test_the_points_can_be_taken(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    (uri,) = re.findall(r'download="points.csv" href="([^"]+)"', page)
    rows = list(csv.DictReader(io.StringIO(unquote(uri.partition(",")[2]))))
    assert [float(row["loss"]) for row in rows] == [1.1, 1.9, 3.2, 3.9, 5.3, 5.8]
    assert rows[-1]["scheme"] == HOSTILE
    assert (written / "points.csv").read_text(encoding="utf-8") == unquote(uri.partition(",")[2])


def test_ids_are_unique_and_links_stay_inside(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'<a [^>]*href="#([^"]+)"', page):
        assert target in ids
    assert not re.search(r"https?://|@import|url\((?!#)", page)


def test_cells_are_shown_as_they_are(tmp_path: Path) -> None:
    panels = [HOSTILE, "x\\|*y*", "[1](2) &amp;"]
    rows = [
        {"panel": panel, "x": float(i), "y": float(i * i + shift)}
        for shift, panel in enumerate(panels)
        for i in range(6)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    words = ["correlate", str(tmp_path / "t.csv"), "--x", "x", "--y", "y", "--group", "panel"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    heads = [html.unescape(cell).strip() for cell in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]
    assert list(dict.fromkeys(heads)) == panels


def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n2,1\n3,5\n4,4\n5,9\n", encoding="utf-8")
    words = ["correlate", str(tmp_path / "t.csv"), "--x", "x", "--y", "y", "--out", str(tmp_path / "t.csv")]
    assert main(words) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
