"""The folder in which runs share a teacher's answers: made for those that can, bounded, gone when it is of no use."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdstats import data
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from kdstats.teacher.network import Network
from runners import executors, recipes
from runners.executors.attempt import carry_out
from runners.executors.base import Attempts, Ending
from runners.run_spec import RunSpec
from runners.study import cost
from runners.study import sharing as sharing_room
from runners.study.command import main
from runners.study.grid import make_specs
from runners.study.sharing import Room, room_for, sharing
from runners.study.steps import Measured
from runners.study_file import read_study
from runners.study_file.sections import ExecutorSection
from runners.training.shared_answers import group_of
from runners.training.teaching import TEACHINGS

STUDY = """
[study]
name = "shared"
per_class = 32
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutout", "cutmix"]
seeds = [0, 1]
[train]
epochs = 2
[report]
build = false
"""
IMAGES, CLASSES, EPOCHS = 80, 10, 2
EPOCH = 4 * IMAGES * CLASSES

SPEC = RunSpec(
    "digits", None, "0" * 64, "resnet8", "t", "resnet8", "1" * 64, "lenet8", "cutmix", 0, recipes.get("digits")
)  # fmt: skip


def waiting(*changes: dict[str, object]) -> list[RunSpec]:
    return [replace(SPEC, recipe=SPEC.recipe.with_epochs(EPOCHS), **each) for each in changes]


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "study")


def room(paths: StudyPaths, runs: list[RunSpec], gb: float = 5.0, executor: object = None) -> Room:
    images = data.load("digits", "train").head(IMAGES)
    return room_for(paths, runs, images, ExecutorSection(share_gb=gb), executor or Here())


NINE = [{"scheme": str(i)} for i in range(9)]


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        (NINE, EPOCHS),
        (NINE[:1], 0),
        ([*NINE, {"seed": 1}], EPOCHS),
        ([*NINE, {"seed": 1}, {"seed": 1, "scheme": "1"}], 2 * EPOCHS),
        ([*NINE, {"student": "resnet8"}], EPOCHS),
        ([*NINE, {"recipe": SPEC.recipe.with_epochs(7)}], 7),
        ([{"teaching": TEACHINGS["ema"]}, {"teaching": TEACHINGS["ema"], "scheme": "1"}], 0),
        ([{"objective": "fitnet", "beta": 1.0}, {"objective": "fitnet", "beta": 1.0, "scheme": "1"}], 0),
    ],
    ids=["nine", "one", "one more", "two seeds", "students", "longer", "moving", "maps"],
)
def test_what_is_shared(paths: StudyPaths, changes, epochs):
    changes = [{"recipe": SPEC.recipe.with_epochs(EPOCHS)} | each for each in changes]
    found = room(paths, [replace(SPEC, **each) for each in changes])
    assert found.size == epochs * EPOCH
    assert found.against == ("" if epochs else "no two runs ask the same")


def test_why_nothing_is_shared(paths: StudyPaths, monkeypatch):
    runs, size = waiting({"scheme": "a"}, {"scheme": "b"}), EPOCHS * EPOCH
    assert room(paths, runs, size / 1e9) == Room(size)
    assert "executor.share_gb = " in room(paths, runs, (size - 1) / 1e9).against
    away = Here()
    away.one_folder = False
    assert room(paths, runs, executor=away) == Room(size, "the workers share no folder")
    with monkeypatch.context() as patch:
        patch.setattr(sharing_room, "MOST", EPOCH - 1)
        found = room(paths, runs)
        assert (found.size, "which is too much to hold in memory" in found.against) == (size, True)
        patch.setattr(sharing_room, "MOST", EPOCH)
        assert room(paths, runs).against == ""

    def free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=count))

    free(10 * size)
    assert room(paths, runs).against == ""
    free(10 * size - 1)
    assert "GB free on the disk" in room(paths, runs).against
    # What lies there already is not asked for again.
    kept = paths.answers / str(group_of(runs[0])) / "machine" / "epoch=0000.pt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"1")
    assert room(paths, runs).against == ""

    def nobody_tells(path: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(shutil, "disk_usage", nobody_tells)
    assert "GB free on the disk" in room(paths, runs).against


@pytest.mark.parametrize(("store", "one"), [(None, True), ("file:///tmp/store", False)])
def test_workers_behind_a_store_share_no_folder(store, one):
    assert executors.get("ray", 1, "cpu", ExecutorSection(store=store)).one_folder is one
    assert executors.get("local", 1, "cpu", ExecutorSection(store=store)).one_folder


def test_the_folder_lives_as_long_as_it_is_of_use(paths: StudyPaths):
    runs = waiting({"scheme": "a"}, {"scheme": "b"}, {"seed": 1})
    group, lone = str(group_of(runs[0])), str(group_of(runs[2]))
    with sharing(paths.answers, room(paths, runs)) as shared:
        assert [path.name for path in paths.answers.iterdir()] == [group]
        shared.ended(runs[2])
        shared.ended(runs[0])
        assert (paths.answers / group).is_dir()
        shared.ended(runs[1])
        assert not (paths.answers / group).exists()
        assert not (paths.answers / lone).exists()
    assert not paths.answers.exists()


def _interrupted(paths: StudyPaths, runs: list[RunSpec]) -> None:
    with sharing(paths.answers, room(paths, runs)):
        raise KeyboardInterrupt


def test_it_outlives_an_interruption(paths: StudyPaths):
    runs = waiting({"scheme": "a"}, {"scheme": "b"}, {"seed": 1}, {"seed": 1, "scheme": "b"})
    one, other = (paths.answers / str(group_of(run)) for run in runs[1:3])
    with pytest.raises(KeyboardInterrupt):
        _interrupted(paths, runs)
    for group in (one, other):
        (group / "machine").mkdir()
        (group / "machine" / "epoch=0000.pt").write_bytes(b"answers")
    orphan = one / "machine" / ".epoch=0001.pt.host-1-0123abcd-0.tmp"
    orphan.write_bytes(b"killed")
    # One run is left of the first group, none of the second.
    with pytest.raises(KeyboardInterrupt):
        _interrupted(paths, runs[1:2])
    assert (one / "machine" / "epoch=0000.pt").exists()
    assert not orphan.exists()
    assert not other.exists()
    # Some are tried again, the others wait for `run`.
    with sharing(paths.answers, room(paths, runs[:2])) as shared:
        shared.ended(runs[0])
    assert (one / "machine" / "epoch=0000.pt").exists()
    with sharing(paths.answers, room(paths, [])):
        pass
    assert not paths.answers.exists(), "jobs of a cluster may have ended without their driver"


def test_a_link_is_not_followed(paths: StudyPaths, tmp_path: Path):
    runs = waiting({"scheme": "a"}, {"scheme": "b"})
    mine = tmp_path / "mine" / str(group_of(runs[0]))
    mine.mkdir(parents=True)
    (mine / "precious").write_text("x")
    paths.root.mkdir()
    paths.answers.symlink_to(mine.parent)
    found = room(paths, runs)
    assert found.against == f"{paths.answers} is a link"
    for known in (found, replace(found, against="")):
        with sharing(paths.answers, known) as shared:
            shared.ended(runs[0])
            shared.ended(runs[1])
        assert [path.name for path in mine.iterdir()] == ["precious"]


class Here:
    """An executor that carries out runs in this process and looks at the folder after each."""

    at_once = threads = 1
    one_folder = True

    def __init__(self, breaks_after: int | None = None) -> None:
        self.seen: list[dict[str, int]] = []
        self.groups: list[int] = []
        self.breaks_after = breaks_after

    def describe(self) -> str:
        return "this process"

    def execute(self, errand) -> None:
        answers = StudyPaths(errand.study).answers
        for k, spec in enumerate(errand.specs):
            if k == self.breaks_after:
                raise KeyboardInterrupt
            ending = carry_out(spec, errand.study, "cpu", errand.stop.token)
            assert ending == Ending("done")
            self.seen.append({file.name: file.stat().st_mtime_ns for file in answers.rglob("*.pt")})
            self.groups.append(sum(1 for _ in answers.glob("*")))
            errand.settle(spec, ending, Attempts(errand.study, 1))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Carries out the study in ``out`` and returns the executor."""
    file = tmp_path / "s.toml"
    file.write_text(STUDY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(out: str, *extra: str, breaks_after: int | None = None) -> Here:
        here = Here(breaks_after)
        with monkeypatch.context() as patch:
            patch.setattr(executors, "get", lambda *asked: here)
            patch.setattr("runners.study.carrying.probe", lambda *asked, **more: None)
            patch.setattr("runners.study.carrying.gather", lambda *asked, **more: [])
            if breaks_after is None:
                assert main(["run", str(file), "--out", str(tmp_path / out), *extra]) == 0
            else:
                with pytest.raises(KeyboardInterrupt):
                    main(["run", str(file), "--out", str(tmp_path / out), *extra])
        return here

    yield run
    torch.set_num_threads(threads)


def _weights(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("last.safetensors")}


def test_a_study_shares_and_is_the_study_that_does_not(study, tmp_path, capsys):
    here = study("shared")
    seen = here.seen
    assert [sorted(files) for files in seen] == [["epoch=0000.pt", "epoch=0001.pt"]] * 6
    assert seen[0] == seen[1] == seen[2], "the second scheme reads what the first has kept"
    assert seen[3] == seen[4] == seen[5]
    assert here.groups == [2, 2, 2, 1, 1, 1], "those of a seed go with its last run"
    assert not (tmp_path / "shared" / ".answers").exists()
    said = "each run asks the teacher about the originals anew"
    assert said not in capsys.readouterr().err
    assert study("apart", "--set", "executor.share_gb=0").seen == [{}] * 6
    assert f"{said}: executor.share_gb = 0\n" in capsys.readouterr().err
    one, other = (_weights(tmp_path / name) for name in ("shared", "apart"))
    assert len(one) == 6
    assert one == other


def test_an_interrupted_study_goes_on_with_the_answers_it_has(study, tmp_path):
    out = tmp_path / "out"
    before = study("out", breaks_after=2).seen[-1]
    assert len(before) == EPOCHS
    after = study("out").seen
    assert len(after) == 4
    assert after[0] == before
    assert not (out / ".answers").exists()
    assert all(is_complete(paths) for paths in StudyPaths(out).iter_runs())


class Inline:
    """A pool that works in this process."""

    def __init__(self, *how: object) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *how: object) -> None:
        pass

    def submit(self, function, *args):
        return SimpleNamespace(result=lambda: function(*args))


@pytest.mark.parametrize(
    ("workers", "against", "seconds"),
    [(1, "", 60 - 2 * 2 * 2.5), (2, "", (60 - 2 * 2.5) / 2), (3, "", 20), (1, "no room", 60)],
)
def test_the_plan_reckons_with_what_is_shared(tmp_path, monkeypatch, workers, against, seconds):
    monkeypatch.setattr(cost, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(cost, "measure_run", lambda *asked: Measured(1.0, 0.0, 1, 1, 0.25))
    file = tmp_path / "s.toml"
    file.write_text(STUDY)
    study = read_study(file)
    teacher = Network(None, "t", "resnet8", "0" * 64, "t.safetensors", False, "")
    runs = make_specs(study, study.study.selection.train(), {"resnet8": teacher})
    threads = torch.get_num_threads()
    # 6 runs of 2 epochs of 5 steps of a second, of which the teacher's answer to the originals takes a quarter.
    found = cost.cost(runs, 0, study, workers, threads, "cpu", {}, Room(1, against))
    torch.set_num_threads(threads)
    assert found.seconds == pytest.approx(seconds)


def test_the_plan_says_what_is_shared(study, tmp_path, capsys):
    file = tmp_path / "s.toml"
    assert main(["plan", str(file), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert (
        "kept for the other runs of a seed while the study is trained: 1 MB of teachers' answers to originals"
        in said
    )
    assert main(["plan", str(file), "--out", str(tmp_path / "out"), "--set", "executor.share_gb=1e-6"]) == 0
    said = capsys.readouterr().out
    assert (
        "not kept for other runs: 1 MB of teachers' answers to originals (executor.share_gb = 1e-06)" in said
    )
