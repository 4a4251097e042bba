"""A study's folder after its first run: which settings and images it takes, what is measured again, what stays."""

import json
import os
import shutil
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdstats import models
from kdstats.data import Selection
from kdstats.errors import UsageError
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.writer import is_complete
from kdstats.teacher.device import pick_device
from kdstats.teacher.evaluate import measure
from kdstats.teacher.load import load_network
from runners import executors
from runners.executors.attempt import carry_out
from runners.executors.base import Attempts
from runners.study import folder, measuring
from runners.study.command import main
from runners.study_file import read_study

STUDY = """
[study]
name = "kept"
dataset = "imagefolder"
data = "{data}"
val_split = 0.2
[grid]
pairs = ["lenet8/lenet8"]
schemes = ["identity", "cutmix_pick_student"]
seeds = [0]
[teacher.lenet8]
weights = "{weights}"
[train]
epochs = 1
[probe]
tol = 0.5
[report]
build = false
"""
CLASSES, TRAIN, TEST, SIDE = 4, 100, 5, 8  # images of each class


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class Here:
    """An executor that carries out runs in this process."""

    at_once = threads = 1
    one_folder = True

    def describe(self):
        return "this process"

    def execute(self, errand):
        for spec in errand.specs:
            ending = carry_out(spec, errand.study, "cpu", errand.stop.token)
            assert not errand.settle(spec, ending, Attempts(errand.study, 1))


@dataclass(frozen=True)
class World:
    """A complete study: its file, its folder, the folder of its images."""

    file: Path
    out: Path
    data: Path

    def call(self, verb, *extra):
        return main([verb, str(self.file), "--out", str(self.out), *extra])

    @property
    def runs(self):
        return sorted(path.parent for path in self.out.rglob("run.json"))

    def run(self, scheme):
        return next(path for path in self.runs if scheme in path.parts)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    for label in range(CLASSES):
        for split, count in (("train", TRAIN), ("val", TEST)):
            for i in range(count):
                _picture(
                    root / "images" / split / f"c{label}" / f"{i}.png",
                    1000 * label + i + 500 * (split == "val"),
                )
    torch.manual_seed(0)
    weights = root / "teacher.safetensors"
    models.save_weights(models.build("lenet8", CLASSES, SIDE, 3), weights, {"arch": "lenet8"})
    world = World(root / "s.toml", root / "out", root / "images")
    world.file.write_text(STUDY.format(data=world.data, weights=weights))
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "get", lambda *asked: Here())
        torch.set_num_threads(1)
        assert world.call("run") == 0
        yield world
    torch.set_num_threads(before)


@pytest.fixture
def kept(finished, tmp_path):
    """A copy of the finished study, to be damaged."""
    copy = replace(finished, out=tmp_path / "out")
    shutil.copytree(finished.out, copy.out)
    return copy


@pytest.fixture
def untrained(monkeypatch):
    """Nothing may be trained."""
    monkeypatch.setattr(Here, "execute", lambda *asked: pytest.fail("a run was started"))


@pytest.fixture
def measured(monkeypatch):
    """The schemes of every measurement that is made."""
    made = []

    def spy(wanted, *rest, **more):
        made.append(list(wanted))
        return measure(wanted, *rest, **more)

    monkeypatch.setattr(measuring, "measure", spy)
    return made


def _files(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# Settings


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["kd.temperature=2"], "kd.temperature"),
        (["train.epochs=2", "kd.gamma=0.5", "kd.alpha=0.5"], "train.epochs, kd.alpha, kd.gamma"),
        (["study.val_split=0.1", "teacher.lenet8.seed=1"], "study.val_split, teacher.lenet8"),
        (["grid.draws=sample", "executor.threads=2"], "grid.draws, executor.threads"),
        (["log.every=1", "log.dtype=float16"], "log.dtype"),
    ],
)
def test_other_settings_are_refused_and_named_key_by_key(kept, untrained, measured, changes, named):
    before = _files(kept.out)
    with pytest.raises(UsageError) as caught:
        kept.call("run", *(word for change in changes for word in ("--set", change)))
    assert f"holds a study with another {named} (see {kept.out / 'study.toml'}); choose another --out" in str(
        caught.value
    )
    assert (_files(kept.out), measured) == (before, [])


def test_a_grid_may_grow_and_what_is_only_measured_may_change(kept):
    study = read_study(
        kept.file, ["grid.seeds=[0, 1]", "probe.seed=1", "report.build=true", "executor.attempts=9"]
    )
    folder.keep_settings(study, StudyPaths(kept.out), study.study.selection.train())
    assert read_study(kept.out / "study.toml") == study


def test_a_folder_without_runs_takes_new_settings(kept):
    shutil.rmtree(kept.out / "runs")
    study = read_study(kept.file, ["kd.temperature=2", "train.epochs=3", "study.name=new"])
    images = study.study.selection.train()
    folder.keep_settings(study, StudyPaths(kept.out), images)
    assert read_study(kept.out / "study.toml") == study
    # A teacher alone, or a folder that a worker has made and not begun to fill, is no run.
    (kept.out / "runs" / "lenet8__lenet8" / "identity" / "seed=0" / "0123abcd").mkdir(parents=True)
    other = read_study(kept.file, ["kd.temperature=3"])
    folder.keep_settings(other, StudyPaths(kept.out), images)
    assert tomllib.loads((kept.out / "study.toml").read_text())["kd"]["temperature"] == 3.0


# Images


@pytest.mark.parametrize("verb", ["run", "retry"])
def test_images_that_changed_are_refused_until_they_are_back(kept, untrained, measured, verb):
    picture = kept.data / "train" / "c0" / "0.png"
    original, before = picture.read_bytes(), _files(kept.out)
    was = read_study(kept.file).study.selection.train().digest
    try:
        _picture(picture, 10_000)
        now = read_study(kept.file).study.selection.train().digest
        assert now != was
        with pytest.raises(UsageError) as caught:
            kept.call(verb)
    finally:
        picture.write_bytes(original)
    assert f"the images have changed since {kept.out} was begun" in str(caught.value)
    assert f"sha256 {now[:12]}, was {was[:12]}" in str(caught.value)
    assert _files(kept.out) == before
    assert kept.call(verb) == 0, "the images are back"
    assert measured == []


def test_a_data_folder_may_move_and_a_study_be_named_anew(kept, tmp_path, untrained, measured):
    moved = tmp_path / "moved images"
    shutil.copytree(kept.data, moved)
    assert kept.call("run", "--set", f"study.data={moved}", "--set", "study.name=renamed") == 0
    assert measured == [], "the images are the same"
    assert str(moved) in (kept.out / "study.toml").read_text()
    assert '"name": "renamed"' in (kept.out / "study.json").read_text()


@pytest.mark.parametrize("content", ["", '{"settings": ', "[]", '{"settings": null}', '{"settings": {}}'])
def test_a_damaged_card_says_nothing_of_the_images(kept, content):
    study = read_study(kept.file)
    for run in kept.runs:
        (run / "run.json").write_text(content)
    settings = kept.out / "study.toml"
    before = settings.read_bytes()
    settings.write_bytes(before + b"\n# touched\n")
    folder.keep_settings(study, StudyPaths(kept.out), study.study.selection.train())
    assert settings.read_bytes() == before, "they are written anew, so nothing was refused"


# Retry


def test_retry_has_nothing_to_do_where_nothing_failed(kept, untrained, measured, capsys):
    before = _files(kept.out)
    assert kept.call("retry") == 0
    assert capsys.readouterr().err == "no run has failed; 0 of 2 are queued\n"
    assert _files(kept.out) == before


def test_retry_leaves_what_is_queued_to_run(kept, untrained, capsys):
    (kept.run("identity") / "done.json").unlink()
    assert kept.call("retry") == 0
    assert capsys.readouterr().err == "no run has failed; 1 of 2 are queued; `run` carries them out\n"
    assert not (kept.run("identity") / "done.json").exists()


def test_retry_tries_no_run_that_came_to_its_end_after_all(kept, untrained, measured, capsys):
    (kept.run("identity") / "failed.json").write_text(
        '{"run": "identity", "error": "the note outlived its run"}'
    )
    assert kept.call("retry") == 0
    assert capsys.readouterr().err == "no run has failed; 0 of 2 are queued\n"


# The teacher-only measurement


def _torn(target):
    target.write_bytes(target.read_bytes()[:-40])


def _foreign(target):
    target.write_text('{"schema": "kdstats/evaluate-da/1"}')


def _binary(target):
    target.write_bytes(b"\xff\xfe\x00")


def _listed(target):
    target.write_text("[]")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((".json", damage) for damage in (_torn, _foreign, _binary, _listed, Path.unlink)),
        *((".asked", damage) for damage in (_torn, Path.unlink)),
    ],
)
def test_a_damaged_measurement_is_made_anew(kept, untrained, measured, suffix, damage):
    target = kept.out / "t_stddev" / "lenet8" / "teacher-only.json"
    whole = json.loads(target.read_text())
    question = target.with_suffix(".asked").read_bytes()
    damage(target.with_suffix(suffix))
    assert kept.call("run") == 0
    assert measured == [["identity"]], "the one that is damaged, not the one with a student"
    again = json.loads(target.read_text())
    assert [row["t_stddev"] for row in again["results"]] == [row["t_stddev"] for row in whole["results"]]
    assert target.with_suffix(".asked").read_bytes() == question


def test_a_whole_measurement_is_made_once_and_anew_when_another_is_asked_for(kept, untrained, measured):
    assert kept.call("run") == 0
    assert measured == []
    assert kept.call("run", "--set", "probe.seed=1") == 0
    assert measured == [["identity"], ["cutmix_pick_student"]]


def test_t_stddev_is_of_the_images_that_students_are_trained_on(finished):
    """The part that ``val_split`` leaves, and not a whole of which no student sees the rest."""
    whole = Selection("imagefolder", str(finished.data)).train()
    held = read_study(finished.file).study.selection.validation()
    out = set(held.sample_id.tolist())
    rest = whole.divide(0.2)[1]
    assert set(rest.sample_id.tolist()) == set(whole.sample_id.tolist()) - out
    assert (len(whole), len(rest), len(out)) == (
        CLASSES * TRAIN,
        CLASSES * TRAIN * 4 // 5,
        CLASSES * TRAIN // 5,
    )
    teacher = load_network(finished.file.with_name("teacher.safetensors"), "lenet8", rest, pick_device("cpu"))
    by_hand = measure(
        ["identity"], rest, Selection("imagefolder", str(finished.data)).test(), teacher, None, tol=0.5
    )
    documents = sorted((finished.out / "t_stddev" / "lenet8").glob("*.json"))
    assert [path.stem for path in documents] == ["teacher-only", "with-lenet8"]
    for path in documents:
        said = json.loads(path.read_text())
        assert (said["dataset"]["split"], said["dataset"]["n"]) == ("train", len(rest))
        assert said["dataset"]["sha256"] == rest.digest != whole.digest
        value = next(row["t_stddev"] for row in said["results"] if row["scheme"] == "identity")
        assert value == by_hand.results[0].t_stddev.value
    card = json.loads((finished.out / "study.json").read_text())
    assert (card["dataset"]["train"], card["dataset"]["sha256"]) == (len(rest), rest.digest)


# Claims


@pytest.mark.timeout(60)
def test_odd_claims_neither_hang_nor_break_a_run(kept, capsys):
    run = kept.run("identity")
    (run / "done.json").unlink()
    for place in (run, kept.out):
        os.mkfifo(place / ".claim-pipe")
        (place / ".claim-folder").mkdir()
    assert kept.call("run") == 0
    assert is_complete(RunPaths(run))
    assert {path.name for path in run.glob(".claim-*")} == {".claim-pipe", ".claim-folder"}
    assert kept.call("status") == 0
    assert "2 runs: 2 done" in capsys.readouterr().out
