"""The page of the published study: its numbers are those of the analysis, and it stands in no way of others."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from analyses.published_wang2022.claims import claims
from kdstats.errors import UsageError
from kdstats.published import load_published
from reports import published
from reports.build import main

Made = tuple[published.Published, Path, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    result, page = published.write("wang2022", tmp_path_factory.mktemp("published") / "index.html", seed=0)
    return result, page, page.read_text(encoding="utf-8")


def test_every_statement_has_its_verdict_on_the_first_screen(made: Made) -> None:
    result, _, text = made
    lead = text.partition('<header class="lead">')[2].partition("</header>")[0]
    said = [
        html.unescape(re.sub(r"<[^>]+>", "", one)) for one in re.findall(r"<dt>(.*?)</dt>", lead, re.DOTALL)
    ]
    assert said == [claim.statement for claim in claims(result)]
    verdicts = re.findall(r"<dd><strong>(.*?)\.</strong>", lead)
    assert [verdict.lower() for verdict in verdicts] == [claim.verdict for claim in claims(result)]
    assert published.verdicts(result) == (
        "Of 6 statements of the paper 3 are shown by the published numbers, 2 are shown in part and 1 is not shown."
    )


def test_the_tables_hold_the_published_points_and_what_follows(made: Made) -> None:
    _, page, text = made
    (uri,) = re.findall(r'download="points.csv" href="([^"]+)"', text)
    rows = list(csv.DictReader(io.StringIO(unquote(uri.partition(",")[2]))))
    points = load_published("wang2022").points
    assert [float(row["t_stddev"]) for row in rows] == list(points["t_stddev"])
    table = text.partition('<table id="table-panels"')[2].partition("</table>")[0]
    assert table.count("<tr>") == 11
    assert "0.958 [0.808, 0.991]" in table  # Pearson, CIFAR-100 wrn_40_2/wrn_16_2, in the kept evidence too
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    kept = Path(__file__).parents[2] / "reports/evidence/wang2022/result.json"
    assert document["claims"] == json.loads(kept.read_text(encoding="utf-8"))["claims"]


def test_every_mark_says_what_it_is(made: Made) -> None:
    labels = re.findall(r'class="point" role="img" aria-label="([^"]+)"', made[2])
    assert len(labels) == 90
    assert sum(label.startswith("cutmix_pick_teacher") for label in labels) == 10


def test_the_page_is_one_file(made: Made) -> None:
    text = made[2]
    assert not re.search(r"<script|https?://|@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'<a [^>]*href="#([^"]+)"', text):
        assert target in ids


def test_the_door_is_reports_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="Did you mean 'wang2022'"):
        main(["published:wang202", "--out", str(tmp_path / "x.html")])
    with pytest.raises(UsageError, match=r"--out FILE\.html"):
        main(["published:wang2022"])
    (tmp_path / "mine.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="no page of kdstats"):
        main(["published:wang2022", "--out", str(tmp_path / "mine.html")])
    assert main(["published:wang2022", "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.startswith("Of 6 statements of the paper 3 are shown")
    assert main(["published:wang2022", "--out", str(tmp_path / "page.html"), "--seed", "0"]) == 0, (
        "it may be renewed"
    )
