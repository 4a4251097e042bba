"""The folder in which runs share a teacher's answers: made for those that can, bounded, gone when it is of no use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from kdstats.teacher.network import Network
from runners import executors, recipes
from runners.executors.attempt import carry_out
from runners.executors.base import Attempts, Ending
from runners.run_spec import RunSpec
from runners.study import cost
from runners.study.command import main
from runners.study.grid import make_specs
from runners.study.sharing import needed, sharing
from runners.study.steps import Measured
from runners.study_file import read_study
from runners.training import shared_answers
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


def specs(*changes: dict[str, object]) -> list[RunSpec]:

    return [replace(SPEC, recipe=SPEC.recipe.with_epochs(EPOCHS), **each) for each in changes]


def test_what_is_needed():
    nine = specs(*({"scheme": str(i)} for i in range(9)))
    assert needed(nine, IMAGES, CLASSES) == EPOCHS * EPOCH
    assert needed(nine[:1], IMAGES, CLASSES) == 0, "nobody else asks"
    assert needed([*nine, *specs({"seed": 1})], IMAGES, CLASSES) == EPOCHS * EPOCH
    assert needed([*nine, *specs({"seed": 1}, {"seed": 1})], IMAGES, CLASSES) == 2 * EPOCHS * EPOCH
    longer = [*nine, *(spec for spec in specs({"student": "resnet8"}))]
    assert needed(longer, IMAGES, CLASSES) == EPOCHS * EPOCH
    moving = specs({"teaching": TEACHINGS["ema"]}, {"teaching": TEACHINGS["ema"], "scheme": "a"})
    assert needed(moving, IMAGES, CLASSES) == 0
    assert needed(nine, shared_answers.MOST // (4 * CLASSES) + 1, CLASSES) == 0


def test_the_folder_lives_as_long_as_it_is_of_use(tmp_path: Path):
    paths, runs = StudyPaths(tmp_path), specs({"scheme": "a"}, {"scheme": "b"}, {"seed": 1})
    group, lone = group_of(runs[0]), group_of(runs[2])
    with sharing(paths, runs, IMAGES, CLASSES, 1e9) as shared:
        assert [path.name for path in paths.answers.iterdir()] == [group]
        shared.ended(runs[2])
        shared.ended(runs[0])
        assert (paths.answers / str(group)).is_dir()
        shared.ended(runs[1])
        assert not (paths.answers / str(group)).exists()
        assert not (paths.answers / str(lone)).exists()
    assert not paths.answers.exists()


def _interrupted(paths: StudyPaths, runs: list[RunSpec], limit: float, within: Callable[[], object]) -> None:
    with sharing(paths, runs, IMAGES, CLASSES, limit):
        within()
        raise KeyboardInterrupt


def test_it_outlives_an_interruption_and_no_more_than_that(tmp_path: Path):
    paths, runs = StudyPaths(tmp_path), specs({"scheme": "a"}, {"scheme": "b"})
    kept = paths.answers / str(group_of(runs[0])) / "epoch=0000.pt"
    with pytest.raises(KeyboardInterrupt):
        _interrupted(paths, runs, 1e9, lambda: kept.write_bytes(b"answers"))
    for limit in (1e9, EPOCHS * EPOCH):
        with pytest.raises(KeyboardInterrupt):
            _interrupted(paths, runs, limit, kept.read_bytes)
    with sharing(paths, runs, IMAGES, CLASSES, EPOCHS * EPOCH - 1):
        assert not paths.answers.exists(), "more than it may take"


def test_it_leaves_room_for_the_runs(tmp_path: Path, monkeypatch):
    paths, runs = StudyPaths(tmp_path), specs({"scheme": "a"}, {"scheme": "b"})
    for free, shares in ((2 * EPOCHS * EPOCH, True), (2 * EPOCHS * EPOCH - 2, False)):
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda path, free=free: shutil._ntuple_diskusage(10**12, 10**12 - free, free),
        )
        with sharing(paths, runs, IMAGES, CLASSES, 1e9):
            assert paths.answers.exists() == shares


def test_a_link_is_not_followed(tmp_path: Path):
    paths, runs = StudyPaths(tmp_path / "study"), specs({"scheme": "a"}, {"scheme": "b"})
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    paths.root.mkdir()
    paths.answers.symlink_to(mine)
    with sharing(paths, runs, IMAGES, CLASSES, 1e9) as shared:
        shared.ended(runs[0])
    assert [path.name for path in mine.iterdir()] == ["precious"]


class Here:
    """An executor that carries out runs in this process and looks at the folder after each."""

    at_once = threads = 1

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


def test_a_study_shares_and_is_the_study_that_does_not(study, tmp_path):
    here = study("shared")
    seen = here.seen
    assert [sorted(files) for files in seen] == [["epoch=0000.pt", "epoch=0001.pt"]] * 6
    assert seen[0] == seen[1] == seen[2], "the second scheme reads what the first has kept"
    assert seen[3] == seen[4] == seen[5]
    assert here.groups == [2, 2, 2, 1, 1, 1], "those of a seed go with its last run"
    assert not (tmp_path / "shared" / ".answers").exists()
    assert study("apart", "--set", "executor.share_gb=0").seen == [{}] * 6
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
    ("workers", "share", "seconds"),
    [(1, 5.0, 60 - 2 * 2 * 2.5), (2, 5.0, (60 - 2 * 2.5) / 2), (3, 5.0, 20), (1, 0.0, 60)],
)
def test_the_plan_reckons_with_what_is_shared(tmp_path, monkeypatch, workers, share, seconds):
    monkeypatch.setattr(cost, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(cost, "measure_run", lambda *asked: Measured(1.0, 0.0, 1, 1, 0.25))
    file = tmp_path / "s.toml"
    file.write_text(STUDY)
    study = read_study(file, [f"executor.share_gb={share}"])
    images = study.study.selection.train()
    teacher = Network(None, "t", "resnet8", "0" * 64, "t.safetensors", False, "")
    runs = make_specs(study, images, {"resnet8": teacher})
    threads = torch.get_num_threads()
    # 6 runs of 2 epochs of 5 steps of a second, of which the teacher's answer to the originals takes a quarter.
    found = cost.cost(runs, 0, study, workers, threads, "cpu", {})
    torch.set_num_threads(threads)
    assert found.seconds == pytest.approx(seconds)


def test_the_plan_says_what_is_shared(study, tmp_path, capsys):
    file = tmp_path / "s.toml"
    assert main(["plan", str(file), "--out", str(tmp_path / "out")]) == 0
    assert "shared while it is trained: 1 MB of teachers' answers to originals" in capsys.readouterr().out
    assert main(["plan", str(file), "--out", str(tmp_path / "out"), "--set", "executor.share_gb=1e-6"]) == 0
    said = capsys.readouterr().out
    assert "not shared: 1 MB of teachers' answers to originals, which every run asks anew" in said
    assert "(executor.share_gb = 1e-06)" in said
