"""``report`` of a study that has not ended, and verbs on a folder where none was begun."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from kdstats.errors import MissingError
from kdstats.records.scanner import read_runs
from runners.claim import Claim
from runners.study.collect import collect
from runners.study.command import main
from runners.study.page import up_to_date

STUDY = """
[study]
name = "small"
per_class = 40
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutmix"]
seeds = [0, 1]
[teacher.resnet8]
weights = "shipped"
[train]
epochs = 1
[probe]
tol = 0.5
[report]
build = false
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    (folder / "s.toml").write_text(STUDY, encoding="utf-8")
    assert main(["run", str(folder / "s.toml"), "--out", str(folder / "out"), "--workers", "1"]) == 0
    return str(folder / "s.toml"), folder / "out"


def _interrupted(out: Path, copy: Path) -> Path:
    """The study as a driver leaves it that was stopped before the last run's end: no tables, no card."""
    shutil.copytree(out, copy)
    for name in ("study.json", "runs.parquet", "study.parquet"):
        (copy / name).unlink()
    next(copy.glob("runs/*/cutmix/seed=1/*/done.json")).unlink()
    return copy


def test_a_page_of_what_is_complete(ended, tmp_path, capfd, monkeypatch):
    out = _interrupted(ended[1], tmp_path / "out")
    assert main(["report", ended[0], "--out", str(out)]) == 0
    assert "3 of 4 runs are complete" in capfd.readouterr().err
    assert sorted(zip(read_runs(out)["scheme"], read_runs(out)["seed"], strict=True)) == [
        ("cutmix", 0),
        ("identity", 0),
        ("identity", 1),
    ]
    assert json.loads((out / "study.json").read_text())["runs"] == {"planned": 4, "done": 3, "failed": []}
    said = json.loads((out / "report" / "report.json").read_text())
    assert not said["complete"]
    assert "3 of 4 runs" in said["incomplete"]

    # What failed before is told as `run` tells it.
    monkeypatch.setattr("runners.study.reporting.build", lambda out: None)
    run = next(out.glob("runs/*/cutmix/seed=1/*"))
    (run / "failed.json").write_text('{"run": "x", "error": "OSError: gone"}')
    (out / "study.json").unlink()
    assert main(["report", ended[0], "--out", str(out)]) == 0
    (failed,) = json.loads((out / "study.json").read_text())["runs"]["failed"]
    assert (failed["scheme"], failed["seed"], failed["error"]) == ("cutmix", 1, "OSError: gone")


def test_the_card_keeps_how_the_study_was_made(ended, tmp_path, monkeypatch):
    monkeypatch.setattr("runners.study.reporting.build", lambda out: None)
    out = tmp_path / "out"
    shutil.copytree(ended[1], out)
    before = json.loads((out / "study.json").read_text())
    before["provenance"]["command"] = "python -m runners.study run mine.toml --out mine"
    (out / "study.json").write_text(json.dumps(before))
    next(out.glob("runs/*/cutmix/seed=1/*/done.json")).unlink()
    assert main(["report", ended[0], "--out", str(out)]) == 0
    after = json.loads((out / "study.json").read_text())
    assert (before["runs"]["done"], after["runs"]["done"]) == (4, 3)
    for key in ("started", "command", "executor", "seconds"):
        assert after["provenance"][key] == before["provenance"][key], key
    assert not list((out / "runs").glob(".*")), "a claim was left"
    # Without a card the command is that of the study, not of the page.
    (out / "study.json").unlink()
    assert main(["report", ended[0], "--out", str(out)]) == 0
    command = json.loads((out / "study.json").read_text())["provenance"]["command"]
    assert command.startswith("python -m runners.study run ")


def test_runs_of_a_larger_grid_before_do_not_make_a_study_stale(ended, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("runners.study.reporting.build", lambda out: None)
    monkeypatch.setattr("runners.study.command.build", built.append)
    out = tmp_path / "out"
    shutil.copytree(ended[1], out)
    fewer = Path(ended[0]).with_name("fewer.toml")
    fewer.write_text(STUDY.replace("seeds = [0, 1]", "seeds = [0]"), encoding="utf-8")
    (out / "study.json").unlink()
    assert main(["report", str(fewer), "--out", str(out)]) == 0
    assert json.loads((out / "study.json").read_text())["runs"]["done"] == 2
    assert main(["report", str(fewer), "--out", str(out)]) == 0
    assert built == [out]


def test_a_teacher_that_is_gone_is_not_made_up(ended, tmp_path):
    file = Path(ended[0]).with_name("own.toml")
    file.write_text(STUDY.replace('weights = "shipped"', "epochs = 1"), encoding="utf-8")
    out = _interrupted(ended[1], tmp_path / "out")
    with pytest.raises(MissingError, match="the teacher resnet8 is not at .*teachers/resnet8.safetensors"):
        main(["report", str(file), "--out", str(out)])


def test_tables_that_are_up_to_date_are_left_alone(ended, monkeypatch):
    built = []
    monkeypatch.setattr("runners.study.command.build", built.append)
    before = {name: (ended[1] / name).stat().st_mtime_ns for name in ("runs.parquet", "study.json")}
    assert main(["report", ended[0], "--out", str(ended[1])]) == 0
    assert built == [ended[1]]
    assert {name: (ended[1] / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize("verb", ["status", "retry", "report"])
def test_a_wrong_folder_is_no_fresh_study(ended, tmp_path, verb):
    with pytest.raises(MissingError, match=r"no study was begun in .*wrong; `python -m runners.study run"):
        main([verb, ended[0], "--out", str(tmp_path / "wrong")])
    assert not (tmp_path / "wrong").exists()


def test_nothing_complete_is_nothing_to_show(ended, tmp_path):
    out = _interrupted(ended[1], tmp_path / "out")
    for mark in out.glob("runs/*/*/*/*/done.json"):
        mark.unlink()
    with pytest.raises(MissingError, match="none of the 4 runs"):
        main(["report", ended[0], "--out", str(out)])


def test_a_run_that_ends_while_tables_are_written_makes_them_old(ended, tmp_path, monkeypatch):
    monkeypatch.setattr("runners.study.reporting.build", lambda out: None)
    out = _interrupted(ended[1], tmp_path / "out")
    late = next(out.glob("runs/*/cutmix/seed=1/*"))
    mark = next(ended[1].glob("runs/*/cutmix/seed=1/*/done.json")).read_bytes()

    def slowly(*args, **more):
        found = collect(*args, **more)
        (late / "done.json").write_bytes(mark)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("runners.study.folder.collect", slowly)
        assert main(["report", ended[0], "--out", str(out)]) == 0
    assert len(read_runs(out)) == 3
    assert not up_to_date(out)
    assert main(["report", ended[0], "--out", str(out)]) == 0
    assert len(read_runs(out)) == 4
    assert up_to_date(out)


def test_tables_wait_for_whoever_writes_them(ended, tmp_path, monkeypatch):
    monkeypatch.setattr("runners.study.reporting.build", lambda out: None)
    out = _interrupted(ended[1], tmp_path / "out")
    with Claim(out / "runs") as other:
        assert other.attempt() is None
        begun = threading.Thread(target=main, args=(["report", ended[0], "--out", str(out)],))
        begun.start()
        begun.join(3)
        assert begun.is_alive()
        assert not (out / "study.json").exists()
    begun.join(60)
    assert len(read_runs(out)) == 3
