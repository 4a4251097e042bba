"""The runs of a stranger's study: logs and cards are named where they cannot be, and nothing in them runs code."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from settings_study import write_study
from strangers import Change, copy_of, mutate, outcome, put, rewrite

from analyses import best_and_last, overhead, training
from analyses.study import Study, load_study
from analyses.study.logs import log_rows
from analyses.study.networks import images_tested, load_student, load_teacher, selected
from analyses.study.settings import trained_runs
from kdstats import data
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.provenance import sha256_file
from kdstats.records.paths import RunPaths
from kdstats.teacher.load import shipped_path

# Logs


def logged(tmp_path: Path, text: str) -> Study:
    def after(run: RunPaths, scheme: str, seed: int) -> None:
        run.metrics.write_text(text)

    return load_study(
        write_study(
            tmp_path / "s",
            loss=lambda s, k: 0.5,
            schemes=("identity", "flip"),
            after=after,
        ),
        seed=0,
    )


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"epoch": 2, "test_loss": 1e308}', r"test_loss 1e\+308"),
        ('{"epoch": 2, "test_loss": "1"}', "test_loss '1'"),
        ('{"epoch": 2}', "'test_loss' is missing"),
        ('{"epoch": Infinity, "test_loss": 1}', "epoch inf"),
        ('{"epoch": 1e300, "test_loss": 1}', r"epoch 1e\+300"),
        ('{"epoch": -5, "test_loss": 1}', "epoch -5"),
        ('{"epoch": 1.5, "test_loss": 1}', "epoch 1.5"),
        (f'{{"epoch": 2, "test_loss": 1{"0" * 400}}}', "too large"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "no object"),
    ],
)
def test_a_log_with_a_number_that_cannot_be_is_named_with_its_line(
    tmp_path: Path, line: str, match: str
) -> None:
    study = logged(tmp_path, f'{{"epoch": 1, "test_loss": 1}}\n{line}\n')
    with pytest.raises(MissingError, match=rf"metrics\.jsonl, line 2, .*{match}"):
        training.run(study)


def test_one_reading_of_a_log_serves_both_questions(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"epoch": 2, "test_loss": 3, "seconds": 5}\n{"epoch": 1, "test_loss": 1}\n'
        '{"epoch": 2, "test_loss": 2, "seconds": 4}\n{"note": 1}\n'
    )
    assert log_rows(path, optional=("test_loss", "seconds")) == {
        1: {"test_loss": 1.0},
        2: {"test_loss": 2.0, "seconds": 4.0},
    }
    assert log_rows(path, optional=("seconds",)) == {2: {"seconds": 4.0}}
    with pytest.raises(MissingError, match="line 4"):
        log_rows(path, ("test_loss",))


@pytest.mark.parametrize("question", [training, overhead])
def test_a_log_that_is_a_pipe_is_named(tmp_path: Path, question: Any) -> None:
    study = logged(tmp_path, '{"epoch": 1, "test_loss": 1, "seconds": 1}\n')
    path = next(study.paths.run_root.rglob("metrics.jsonl"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MissingError, match="no regular file"):
        question.run(study)


def test_a_damaged_end_of_a_run_is_named_and_an_absent_one_unknown(tmp_path: Path) -> None:
    study = logged(tmp_path, "")
    assert best_and_last.run(study).chosen_by == ("unknown",)
    path = next(study.paths.run_root.rglob("run.json")).with_name("done.json")
    path.write_text('{"extra": {"outcome": {"best_chosen_by": "test images"}}}')
    assert best_and_last.run(study).chosen_by == ("test images", "unknown")
    path.write_text('{"extra": 3}')
    assert best_and_last.run(study).chosen_by == ("unknown",)
    path.write_text('{"extra"')
    with pytest.raises(MissingError, match=r"done\.json is not a readable"):
        best_and_last.run(study)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MissingError, match=r"done\.json is not a readable"):
        best_and_last.run(study)


# Settings of runs


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (put("run", "objective_params", value=3), r"run\.objective_params"),
        (put("run", "objective_params", value=["ab"]), r"run\.objective_params"),
        (put("run", "recipe", "epochs", value="x"), r"run\.recipe\.epochs"),
        (put("run", "recipe", "epochs", value=0), r"run\.recipe\.epochs"),
        (put("run", "recipe", "milestones", value=["x"]), r"run\.recipe\.milestones\.0"),
        (put("run", "recipe.epochs", value="x"), r"run\.recipe\.epochs"),
        (put("run", "temperature", value="x"), r"run\.temperature"),
        (put("run", "scheme", value="(" * 5000), "scheme"),
        (put("run", "scheme", value="mixup(alpha='x')"), r"scheme\.alpha"),
        (put("run", "img_size", value=200_000), r"run\.img_size"),
        (put("run", "deep", value=[[[[1]]]]), r"run\.deep"),
        (lambda c: c["run"].pop("dataset"), r"run\.dataset"),
        (put("run", value=3), "no settings under 'run'"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, change: Change, match: str) -> None:
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,))
    rewrite(next(root.rglob("run.json")), change)
    with pytest.raises((MissingError, CheckError), match=rf"run\.json.*{match}"):
        trained_runs(load_study(root, seed=0))


def test_what_early_and_odd_studies_of_our_own_hold_is_taken(plain: Path, tmp_path: Path) -> None:
    """A run without a weight of its own for L, and a seed that was asked for and failed for its size."""
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"beta": None})
    assert len(trained_runs(load_study(root, seed=0))) == 1
    rewrite(next(root.rglob("run.json")), put("run", "objective", value="other"))
    with pytest.raises(MissingError, match=r"run\.json: beta is None and no number"):
        trained_runs(load_study(root, seed=0))
    again = copy_of(plain, tmp_path / "again")
    rewrite(again / "study.json", lambda c: c["seeds"].append(10**20))
    assert set(load_study(again, seed=0).missing["seed"]) == {10**20}


# Code and addresses


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder that leaves a mark when it is imported."""
    (tmp_path / "bait_module.py").write_text("import sys\nsys.bait_was_taken = True\ndef make(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "bait_was_taken", False, raising=False)
    monkeypatch.delitem(sys.modules, "bait_module", raising=False)
    return "bait_module:make"


def named(root: Path, pair: str = "resnet8/lenet8", **teacher: Any) -> Study:
    weights = shipped_path()
    said = {"path": str(weights), "sha256": sha256_file(weights), "arch": "resnet8"} | teacher
    name = pair.split("/")[0]
    write_study(root, loss=lambda s, k: 0.5, seeds=(0,), pair=pair, teachers={name: said})
    return load_study(root, seed=0)


@pytest.mark.parametrize("key", ["path", "arch"])
def test_a_teacher_named_as_code_is_not_imported(tmp_path: Path, bait: str, key: str) -> None:
    study, images = named(tmp_path / "s", **{key: bait}), data.load("digits", "test")
    with pytest.raises(MissingError, match=r"study\.json names .*bait_module:make.*--trust"):
        load_teacher(study, "resnet8", images)
    assert not sys.bait_was_taken  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="bait_module"):  # it returns no network, which only a call tells
        load_teacher(load_study(study.paths.root, seed=0, trusted=True), "resnet8", images)
    assert sys.bait_was_taken  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["torchvision:resnet18", "timm:resnet18", "hf-hub:some/net"])
def test_a_teacher_named_by_an_address_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("kdstats.teacher.pretrained.fetch", lambda *a: pytest.fail("it was fetched"))
    monkeypatch.setattr("kdstats.teacher.pretrained.check", lambda *a: pytest.fail("it was looked up"))
    with pytest.raises(MissingError, match=rf"by code or address, {path}"):
        load_teacher(named(tmp_path / "s", path=path), "resnet8", data.load("digits", "test"))


@pytest.mark.parametrize("path", ["/dev/zero", "pkg/module.py:make", "torchvison:resnet18"])
def test_a_teacher_that_is_no_file_is_missing(tmp_path: Path, path: str) -> None:
    with pytest.raises(MissingError):
        load_teacher(named(tmp_path / "s", path=path), "resnet8", data.load("digits", "test"))


def test_the_study_s_own_weights_are_loaded(tmp_path: Path) -> None:
    images = data.load("digits", "test")
    assert load_teacher(named(tmp_path / "s"), "resnet8", images).arch == "resnet8"


def test_a_student_named_as_code_is_not_imported(tmp_path: Path, bait: str) -> None:
    study = named(tmp_path / "s", pair=f"resnet8/{bait}")
    (run,) = trained_runs(study)
    (run.folder / "last.safetensors").write_bytes(shipped_path().read_bytes())
    with pytest.raises(MissingError, match=r"names code, bait_module:make.*--trust"):
        load_student(run, data.load("digits", "test"))
    assert not sys.bait_was_taken  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["secret.txt", "{root}/secret.txt"])
def test_a_file_of_classes_is_read_only_for_a_trusted_study(tmp_path: Path, place: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2\n")
    classes = f"@{place.format(root=tmp_path)}"
    root = write_study(tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"classes": classes})
    study = load_study(root, seed=0)
    (run,) = trained_runs(study)
    with pytest.raises(MissingError, match=r"run\.json takes its classes from a file") as caught:
        images_tested(study, run)
    assert "hunter2" not in str(caught.value)
    trusting = load_study(root, seed=0, trusted=True)
    assert selected(trusting, trained_runs(trusting)[0]).classes == classes


@pytest.mark.parametrize(
    "text",
    ["study = 3", "[study]\ndata = 3", "a = " + "[" * 100_000, "[study"],
    ids=["no table", "3", "deep", "torn"],
)
def test_a_study_file_that_cannot_be_is_named(tmp_path: Path, text: str) -> None:
    settings = tmp_path / "study.toml"
    settings.write_text(text)
    run: Any = SimpleNamespace(settings={"dataset": "digits"}, folder=tmp_path)
    study: Any = SimpleNamespace(trusted=False, paths=SimpleNamespace(study_toml=settings))
    with pytest.raises(MissingError, match=r"study\.toml"):
        selected(study, run)


# Anything else


def test_any_change_of_a_run_s_card_gives_settings_or_a_refusal(tmp_path: Path) -> None:
    root = write_study(
        tmp_path / "s", loss=lambda s, k: 0.5, seeds=(0,), changes={"objective_params": [["version", "x"]]}
    )
    study, path, draw, refused = load_study(root, seed=0), next(root.rglob("run.json")), random.Random(8), 0
    whole = json.loads(path.read_text())
    for _ in range(200):
        document = copy.deepcopy(whole)
        mutate(document["run"], draw)
        path.write_text(json.dumps(document))
        refused += outcome(lambda: trained_runs(study))
    assert 40 < refused < 200
