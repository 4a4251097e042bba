"""The page of a study: what it says, what it must not do, and what lies beside it."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from jinja2 import UndefinedError
from synthetic_study import NINE, make_study

from analyses.words import number
from kdstats.errors import UsageError
from reports import TEMPLATES, captions, tables
from reports.build import build, main
from reports.page import Page

Built = Callable[..., tuple[Page, Path]]
Whole = tuple[Page, Path]

HOSTILE = "<script>alert(1)</script> & 50 % a_b $x$ ü→漢"
LATEX_NAME = "mix&50%_a#{b}"


class Text(HTMLParser):
    """The visible words of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in ("style", "svg")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)


def read(path: Path) -> Text:
    parser = Text()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def text_of(path: Path) -> str:
    return " ".join(" ".join(read(path).words).replace("\u00a0", " ").split())


def test_the_first_screen_answers(whole: Whole) -> None:
    page, path = whole
    text = text_of(path)
    assert "Which augmentation should resnet8 → lenet8 distil with on digits?" in text
    lead = text[: text.index("Evidence")]
    for line in page.answer()[0][1]:
        assert line in lead
    for method in ("pearson", "spearman", "kendall"):
        row = page.results["prediction"].coefficient("resnet8/lenet8", method)
        assert f"{number(row['estimate'], 2)} [{number(row['low'], 2)}, {number(row['high'], 2)}]" in lead
    assert "n = 9" in lead
    assert "would have chosen" in lead
    assert "regret" in lead


def test_every_finding_is_on_the_page(whole: Whole) -> None:
    page, path = whole
    text = text_of(path)
    for result in page.results.values():
        for finding in result.findings:
            bare = finding.removeprefix("resnet8/lenet8: ").removeprefix("resnet8: ")
            assert bare[1:] in text


def test_the_page_reaches_nothing_outside_itself(whole: Whole) -> None:
    html = whole[1].read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    for tag, attributes in read(whole[1]).tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html


def test_ids_are_unique_and_links_lead_somewhere(whole: Whole) -> None:
    tags = read(whole[1]).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags:
        target = attributes.get("href") or ""
        if tag == "a" and target.startswith("#"):
            assert target[1:] in ids


def test_an_undefined_name_in_a_template_is_an_error(whole: Whole, tmp_path: Path) -> None:
    from kdstats.pages.environment import make_environment

    page = whole[0]
    fields = page._fields()
    del fields["meaning"]
    environment = make_environment([TEMPLATES])
    with pytest.raises(UndefinedError, match="meaning"):
        environment.get_template("study.html.j2").render(**fields)


def test_files_lie_beside_the_page(whole: Whole) -> None:
    page, path = whole
    for name in ("correlation", "dependence", "ranking", "covariance", "training"):
        assert name in page.drawings
        for suffix in (".png", ".pdf", ".svg"):
            assert (path.parent / "figures" / f"{name}{suffix}").stat().st_size > 1000
    for name in ("ranking", "correlation", "dependence", "covariance"):
        for suffix in (".csv", ".md", ".tex"):
            assert (path.parent / "tables" / f"{name}{suffix}").stat().st_size > 100
    assert b"/Type3" not in (path.parent / "figures" / "ranking.pdf").read_bytes()


def test_csv_keeps_full_precision(whole: Whole) -> None:
    page, path = whole
    rows = list(
        csv.DictReader(io.StringIO((path.parent / "tables" / "ranking.csv").read_text(encoding="utf-8")))
    )
    raw = page.results["ranking"].table
    assert [float(row["test_loss"]) for row in rows] == list(raw["test_loss"])
    assert list(rows[0]) == list(raw.columns)


def test_downloads_hold_the_tables(whole: Whole) -> None:
    page, path = whole
    links = {a["download"]: a["href"] for t, a in read(path).tags if t == "a" and "download" in a}
    assert {"study.csv", "runs.csv"} <= set(links)
    body = unquote(links["runs.csv"].split(",", 1)[1])
    rows = list(csv.DictReader(io.StringIO(body)))
    assert len(rows) == 27
    assert float(rows[0]["test_loss_last"]) == page.study.runs["test_loss_last"].iloc[0]
    assert rows[0]["reason"] == ""


GOLDEN_ROW = ["cutmix_pick_teacher", "best", "0.5014 ± 0.0007 (3)", "[0.4907, 0.5122]"]


def test_the_printed_ranking(whole: Whole) -> None:
    view = whole[0].tables["ranking"]
    printed = view.printed()
    assert printed[0][:4] == GOLDEN_ROW
    assert [row[0] for row in printed] == list(whole[0].results["ranking"].table["scheme"])
    assert printed[-1][0] == "identity"
    assert printed[-1][4] == ""


def test_one_changed_number_changes_the_printed_ranking(tmp_path: Path) -> None:
    """The mutation beside the golden."""
    page, _ = build(make_study(tmp_path / "s", curves=False, noise=0.0101))
    assert page.tables["ranking"].printed()[0][:4] != GOLDEN_ROW


def test_captions_agree_with_what_is_plotted(whole: Whole) -> None:
    page = whole[0]
    drawn = page.drawings["correlation"]
    points = drawn.figure.axes[0]
    plotted = {
        (float(x), float(y))
        for line in points.lines[1:]
        for x, y in line.get_xydata()
        if line.get_marker() not in ("None", "|", "_", None)
    }
    expected = {(r["t_stddev"], r["test_loss"]) for r in page.results["prediction"].points.to_dict("records")}
    assert expected <= plotted
    assert f"n = {len(expected)}" in drawn.caption
    ranking = page.drawings["ranking"]
    axes = ranking.figure.axes[0]
    means = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert means == pytest.approx(list(page.results["ranking"].table["test_loss"]))
    seeds = [line for line in axes.lines if line.get_marker() == "."]
    assert {len(line.get_xdata()) for line in seeds} == {3}
    assert "n = 3 seeds a scheme" in ranking.caption
    assert f"{len(means)} schemes" in ranking.caption


def test_the_caption_follows_the_data(built: Built) -> None:
    page, _ = built(schemes=NINE[:6], seeds=(0,))
    assert "6 schemes" in page.drawings["ranking"].caption
    assert "one seed a scheme gives no spread" in page.drawings["ranking"].caption
    assert "n = 6" in page.drawings["correlation"].caption
    lines = [line for line in page.drawings["ranking"].figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert lines == []  # no interval is drawn where the caption says there is none


def test_bars_add_up_to_the_tick(whole: Whole) -> None:
    axes = whole[0].drawings["dependence"].figure.axes[0]
    rows = whole[0].results["dependence"].table
    base = float(rows[rows["scheme"] == "identity"]["total"].iloc[0])
    for y, total in enumerate(rows["total"]):
        widths = [p.get_width() for p in axes.patches if abs(p.get_y() + p.get_height() / 2 - y) < 1e-9]
        assert len(widths) == 4
        assert sum(widths) == pytest.approx(100 * total / base)


def test_hostile_labels_are_text(built: Built) -> None:
    page, path = built(name="s", schemes=(*NINE[:5], LATEX_NAME), excluded=(("flip", 1),))
    page.study.card.provenance["command"] = HOSTILE  # type: ignore[index]
    path.write_text(page.html(), encoding="utf-8")
    assert not [tag for tag, _ in read(path).tags if tag == "script"]
    text = text_of(path)
    assert HOSTILE in text
    assert "diverged <script>alert(1)</script>" in text  # the reason of an excluded run
    assert LATEX_NAME in text
    tex = page.tables["ranking"].write("latex")
    assert r"mix\&50\%\_a\#\{b\}" in tex
    body = "\n".join(line for line in tex.splitlines() if not line.startswith("%"))
    assert LATEX_NAME not in body
    assert not re.search(r"(?<!\\)%", body)


def test_a_hostile_name_of_a_study(tmp_path: Path) -> None:
    data = {"name": "a\n\\input{/etc/passwd}", "sha256": "cd" * 32, "train": 1437, "test": 360, "classes": 10}
    _, path = build(make_study(tmp_path / "s", curves=False, name=HOSTILE, dataset=data))
    assert HOSTILE in text_of(path)
    assert not [tag for tag, _ in read(path).tags if tag == "script"]
    own = [line for line in (path.parent / "report.tex").read_text().splitlines() if "passwd" in line]
    assert own, "the name is said"
    assert not any("\\input{/etc" in line for line in own)


def test_a_caption_cannot_leave_its_comment() -> None:
    view = tables.TableView("t", "one\n\\input{x}", pd.DataFrame({"a": [1]}), (tables.Column("a", str),))
    assert view.write("latex").startswith("% one \\input{x}\n\\begin")


def test_an_incomplete_study_says_so_first(built: Built) -> None:
    page, path = built(failed=(("mixup", 2),), missing=(("flip", 0), ("flip", 1)))
    text = text_of(path)
    said = captions.incomplete(page.study)
    assert "This study is incomplete: 24 of 27 runs are in the numbers (1 failed, 2 missing)" in said
    assert text.index(said) < text.index("has the lowest test loss")
    assert "FloatingPointError: loss is NaN at epoch 3" in text
    assert "flip lacks seeds 0, 1" in text
    assert len(page.tables["left-out"].printed()) == 3


def test_an_excluded_run_is_told_first(built: Built) -> None:
    page, path = built(excluded=(("flip", 0),))
    said = "Every run finished, but not all are used: 26 of 27 runs are in the numbers (1 excluded)"
    assert said in text_of(path)
    assert captions.incomplete(page.study).startswith(said)


def test_a_study_without_any_run_in_the_numbers(built: Built) -> None:
    page, path = built(
        schemes=("identity", "flip"), excluded=tuple((s, k) for s in ("identity", "flip") for k in (0, 1, 2))
    )
    assert "No run of this study is in the numbers yet." in text_of(path)
    assert page.sentence() == "No run of this study is in the numbers yet."


@pytest.mark.parametrize("options", [{"schemes": ("identity",)}, {"documents": False}, {"covariance": False}])
def test_odd_studies_have_honest_pages(built: Built, options: dict[str, object]) -> None:
    page, path = built(**options)
    assert path.is_file()
    if options.get("schemes"):
        assert "nothing to compare it with" in text_of(path)
    if "documents" in options:
        assert "no teacher-only measurement is in the study" in text_of(path)
        assert "dependence" not in page.drawings


def test_several_pairs_stand_side_by_side(built: Built) -> None:
    page, path = built(pairs=("resnet8/lenet8", "resnet8/wrn_16_1"))
    text = text_of(path)
    assert "should these 2 pairs distil" in text
    assert len(page.answer()) == 2
    assert {"covariance-1", "covariance-2"} <= set(page.drawings)
    assert "p (Holm)" in text


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)
    first = build(root)[1].read_bytes()
    assert build(root)[1].read_bytes() == first


def test_nothing_outside_the_report_is_touched(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    build(root)
    after = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "report" not in p.parts}
    assert after == before


def test_the_out_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_study(tmp_path / "s", curves=False)
    target = tmp_path / "elsewhere" / "page.html"
    assert main([str(root), "--out", str(target), "-q"]) == 0
    last = capsys.readouterr().out.splitlines()
    assert last[-1] == str(target)
    assert "has the lowest test loss" in last[-2]
    assert not (root / "report").exists()
    with pytest.raises(UsageError, match=r"ends in \.html"):
        main([str(root), "--out", str(tmp_path / "page.pdf"), "-q"])


def test_the_program_ends_with_4_for_no_study(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "reports.build", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "study.json, runs.parquet, study.parquet missing" in done.stderr
    assert "Traceback" not in done.stderr
