"""The index over many studies: quick, tolerant, and true to what lies there."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from synthetic_study import make_study

import reports.page
from kdstats.errors import MissingError
from reports.index import entries, main, write
from reports.page import Page

Whole = tuple[Page, Path]


@pytest.fixture(scope="module")
def many(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good study with a page at a name to be quoted, one without a page, damaged ones, and folders of others."""
    root = tmp_path_factory.mktemp("many")
    shutil.copytree(whole[1].parent.parent, root / "a b" / "100 % & <x>#1")
    make_study(root / "bare", curves=False, schemes=("identity", "flip"), name="Bare", missing=(("flip", 1),))
    for name, text in (("cut", '{"schema": "kdstats/study-card/1", "na'), ("other", '{"schema": "x"}')):
        (root / name).mkdir()
        (root / name / "study.json").write_text(text, encoding="utf-8")
    shutil.copytree(whole[1].parent.parent, root / "torn")
    (root / "torn" / "report" / "report.json").write_text('{"schema": "kdstats/report/1"}', encoding="utf-8")
    (root / "notes").mkdir()
    return root


def test_every_study_is_listed_once(many: Path, whole: Whole) -> None:
    by = {entry.folder: entry for entry in entries(many)}
    assert set(by) == {"a b/100 % & <x>#1", "bare", "cut", "other", "torn"}
    good = by["a b/100 % & <x>#1"]
    assert good.state == "complete"
    assert good.answer == whole[0].sentence()
    assert good.title.startswith("Which augmentation should resnet8")
    assert (many / unquote(good.link)).is_file()
    assert good.size == "9 schemes × 3 seeds"
    assert (good.date, good.version) == ("2025-01-01T00:00:00Z", "0.1.0")
    assert by["bare"].state == "incomplete"
    assert by["bare"].note == "5 of 6 runs finished; no page yet; this makes it:"
    assert by["bare"].command.startswith("python -m reports.build ")
    assert by["cut"].state == by["other"].state == "damaged"
    assert "not a readable study card" in by["cut"].note
    assert "expected 'kdstats/study-card/1'" in by["other"].note
    assert by["torn"].state == "complete"
    assert "its page: lacks 'page'" in by["torn"].note
    assert by["torn"].link == ""


def test_no_analysis_is_run(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("an index reads what lies there")

    monkeypatch.setattr(reports.page, "make_page", never)
    monkeypatch.setattr("analyses.study.load_study", never)
    monkeypatch.setattr("pandas.read_parquet", never)
    assert len(entries(many)) == 5


def test_the_page_links_and_hides_nothing(many: Path) -> None:
    found, target = write(many)
    assert target == many / "index.html"
    text = target.read_text(encoding="utf-8")
    assert "5 studies: 2 complete, 1 incomplete and 2 damaged." in text
    assert "100 % &amp; &lt;x&gt;#1" in text
    assert "<x>" not in text
    links: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(v for k, v in attrs if tag == "a" and k == "href" and v and not v.startswith("#"))

    Links().feed(text)
    assert len(links) == 1
    assert (target.parent / unquote(links[0])).is_file()
    assert [entry.state for entry in found][-2:] == ["damaged", "damaged"]
    assert write(many)[1].read_text(encoding="utf-8") == text


def test_links_hold_from_another_place(many: Path) -> None:
    _, target = write(many, many / "notes" / "all.html")
    (link,) = re.findall(r'<h3><a href="([^"]+)"', target.read_text(encoding="utf-8"))
    assert (target.parent / unquote(link)).resolve().is_file()


def test_a_page_older_than_its_study_is_told(many: Path) -> None:
    folder = many / "a b" / "100 % & <x>#1"
    report = folder / "report" / "report.json"
    stamp = report.stat().st_mtime
    os.utime(folder / "runs.parquet", (stamp + 60, stamp + 60))
    try:
        entry = next(e for e in entries(many) if e.folder.startswith("a b"))
    finally:
        os.utime(folder / "runs.parquet", (stamp - 60, stamp - 60))
    assert entry.note == "the study is newer than its page"
    assert entry.link
    assert entry.command


def test_an_empty_folder_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "No study lies here."
    assert "python -m runners.study run" in (tmp_path / "index.html").read_text(encoding="utf-8")
    with pytest.raises(MissingError, match="no folder"):
        main([str(tmp_path / "absent")])


def test_the_report_beside_a_page_is_small_and_whole(whole: Whole) -> None:
    path = whole[1].parent / "report.json"
    assert path.stat().st_size < 200_000
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said["schema"] == "kdstats/report/1"
    assert said["page"] == whole[1].name
    assert said["answer"] == whole[0].sentence()
