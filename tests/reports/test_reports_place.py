"""Pages are written where a page belongs: never out of a study through a link, never over what is somebody's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from settings_study import write_study

from kdstats.errors import UsageError
from kdstats.records.paths import StudyPaths
from reports import compare, index
from reports.build import build, main
from reports.place import check_page


def make(root: Path, step: float = 0.01) -> Path:
    return write_study(
        root,
        loss=lambda scheme, seed: 0.5 + step * seed + 0.003 * len(scheme),
        schemes=("identity", "cutmix", "mixup"),
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make(tmp_path / "study")


@pytest.fixture
def built(study: Path) -> Path:
    build(study)
    return study


@pytest.mark.parametrize("name", ["report", "report/figures", "report/tables"])
def test_a_link_out_of_the_study_is_not_followed(study: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    (other / "index.html").write_text("mine")
    (study / name).parent.mkdir(exist_ok=True)
    (study / name).symlink_to(other)
    with pytest.raises(UsageError, match="is a symbolic link to .*precious"):
        build(study)
    assert [path.name for path in other.iterdir()] == ["index.html"]
    assert (other / "index.html").read_text() == "mine"


def test_files_of_links_are_replaced_and_what_they_point_at_stays(built: Path, tmp_path: Path) -> None:
    for name in ("figures/ranking.png", "tables/ranking.csv", "index.html", "report.tex"):
        precious = tmp_path / Path(name).name
        precious.write_text("mine")
        link = StudyPaths(built).report / name
        link.unlink()
        link.symlink_to(precious)
    build(built)
    for name in ("ranking.png", "ranking.csv", "index.html", "report.tex"):
        assert (tmp_path / name).read_text() == "mine", name


@pytest.mark.parametrize("name", ["report.tex", "tables/ranking.csv", "page.html", "report.json"])
def test_a_paper_s_own_files_are_not_written_over(study: Path, tmp_path: Path, name: str) -> None:
    paper = tmp_path / "paper"
    (paper / name).parent.mkdir(parents=True)
    (paper / name).write_text("{}" if name.endswith("json") else "my thesis")
    with pytest.raises(UsageError, match="would be written over; name a(nother file| folder of its own)"):
        build(study, paper / "page.html")
    assert [path.relative_to(paper).as_posix() for path in paper.rglob("*") if path.is_file()] == [name]


def test_a_report_may_be_built_again_where_it_is(study: Path, tmp_path: Path) -> None:
    build(study, tmp_path / "pages" / "one.html")
    build(study, tmp_path / "pages" / "one.html")
    assert json.loads((tmp_path / "pages" / "report.json").read_text())["page"] == "one.html"


def test_a_build_that_was_interrupted_goes_on(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pages" / "one.html"
    with monkeypatch.context() as patch:
        patch.setattr("reports.written.markdown", lambda page: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(study, target)
    assert (target.parent / "figures").is_dir()
    build(study, target)
    assert not [path.name for path in target.parent.iterdir() if path.name.startswith(".")]


def test_another_s_page_in_a_report_s_folder_is_left_alone(built: Path) -> None:
    folder = built / "report"
    (folder / "thesis.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="no page of kdstats"):
        build(built, folder / "thesis.html")
    (folder / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="no page of kdstats"):
        build(built)


def test_the_command_on_a_page_builds_that_page(study: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "b c", 0.02)
    page, _ = build(study, ask=("best_and_last", "overhead"), others=(other,), seed=7, trusted=True)
    said = f"python -m reports.build {study} --ask best_and_last,overhead --with '{other}' --seed 7 --trust"
    assert said in (study / "report" / "report.md").read_text()
    assert said.replace("'", "&#39;") in (study / "report" / "index.html").read_text()
    assert page.others[0].paths.root == other


def test_what_a_killed_build_left_is_cleaned(built: Path) -> None:
    folder = StudyPaths(built).report
    host = next(iter(os.uname().nodename.split("\n")))
    gone = folder / "figures" / f".ranking.svg.{host}-999999999-0badcafe-1.tmp"
    gone.write_text("half")
    build(built)
    assert not gone.exists()


def test_a_comparison_does_not_destroy_a_study(built: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 0.02)
    card, report = (built / "study.json").read_text(), (built / "report" / "report.json").read_text()
    for target in (built / "study.html", built / "report" / "report.html"):
        with pytest.raises(UsageError, match=r"\.json' is not of such a page"):
            compare.write(other, built, target)
    with pytest.raises(UsageError, match="is the page of a study"):
        compare.write(other, built, built / "report" / "index.html")
    assert (built / "study.json").read_text() == card
    assert (built / "report" / "report.json").read_text() == report
    _, target = compare.write(other, built)
    assert compare.write(other, built)[1] == target, "its own page may be written again"


def test_a_folder_with_a_long_name_is_compared(built: Path, tmp_path: Path) -> None:
    _, target = compare.write(make(tmp_path / ("n" * 250), 0.02), built)
    assert len(target.name) < 110


def test_an_index_takes_no_study_s_page_and_no_stranger_s(built: Path) -> None:
    page = built / "report" / "index.html"
    before = page.read_bytes()
    with pytest.raises(UsageError, match="is the page of a study"):
        index.write(built, page)
    assert page.read_bytes() == before
    (built / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="no page of kdstats"):
        index.write(built)
    (built / "index.html").unlink()
    index.write(built)
    index.write(built)


@pytest.mark.parametrize("page", ["../../etc/passwd", "/etc/passwd", "x/../../y.html", "a\nb.html", "", 5])
def test_an_index_links_to_files_beside_the_report_only(built: Path, page: object) -> None:
    path = built / "report" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"page": page}))
    (entry,) = index.entries(built)
    assert entry.link == ""
    assert "which is no file beside it" in entry.note


def test_a_folder_whose_name_is_not_utf_8_costs_no_index(tmp_path: Path) -> None:
    make(tmp_path / "all" / "good")
    odd = os.fsencode(tmp_path / "all") + b"/\xff\xfe"
    make(tmp_path / "all" / "tmp").rename(os.fsdecode(odd))
    found, page = index.write(tmp_path / "all")
    assert len(found) == 2
    assert "\\udcff" in page.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UsageError, match="cannot be written to"):
        check_page(tmp_path / "new" / "index.html")


@pytest.mark.parametrize("words", [[], ["--trust"]])
def test_code_is_trusted_by_the_option_alone(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The study names its teacher as a function, which leaves a trace when it is called."""
    trace = tmp_path / "trace"
    (tmp_path / "their_code.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n\ndef make():\n    raise ValueError('no network')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    card = json.loads((study / "study.json").read_text())
    for teacher in card["teachers"].values():
        teacher["path"] = "their_code:make"
    (study / "study.json").write_text(json.dumps(card))
    (study / "study.toml").write_text('[study]\nname = "s"\n')
    assert main([str(study), "--quiet", "--ask", "convergence", *words]) == 0
    assert trace.exists() == bool(words)
