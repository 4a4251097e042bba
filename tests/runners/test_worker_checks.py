"""What a worker refuses: other images or another teacher than those that its run was planned with."""

import shutil
from dataclasses import replace

import pytest
import torch

from kdstats import data, models
from kdstats.errors import MissingError
from kdstats.teacher.load import load_network, shipped_path
from runners import recipes
from runners.executors.attempt import carry_out, failure_of
from runners.run_spec import RunSpec
from runners.training import teaching
from runners.training.one_run import run_spec


@pytest.fixture
def spec(tmp_path):
    """A run with a teacher's file of its own, to be replaced."""
    train = data.load("digits", "train")
    weights = tmp_path / "teacher.safetensors"
    shutil.copy(shipped_path(), weights)
    teacher = load_network(weights, "resnet8", train, torch.device("cpu"))
    return RunSpec(
        "digits", None, train.digest, "resnet8", str(weights), "resnet8", teacher.sha256, "lenet8", "flip", 0,
        recipes.get("digits").with_epochs(1),
    )  # fmt: skip


@pytest.fixture
def trained(monkeypatch):
    """Stands in for the training; the runs that would have begun."""
    begun = []
    monkeypatch.setattr(
        "runners.training.one_run.train_student", lambda spec, *parts, **more: begun.append(spec) or {}
    )
    return begun


def test_what_was_planned_is_trained(spec, tmp_path, trained):
    run_spec(spec, spec.paths(tmp_path), "cpu")
    assert trained == [spec]


def test_other_images_are_refused(spec, tmp_path, trained):
    planned = replace(spec, dataset_sha256="ab" * 32)
    with pytest.raises(
        MissingError, match="the training images: not what the run was planned with"
    ) as caught:
        run_spec(planned, planned.paths(tmp_path), "cpu")
    assert str(caught.value).endswith(f"sha256 {spec.dataset_sha256[:12]}, not abababababab")
    # The part counts, and not only the set that it is taken from.
    part = replace(spec, val_split=0.25)
    with pytest.raises(MissingError, match=f"not {spec.dataset_sha256[:12]}"):
        run_spec(part, part.paths(tmp_path), "cpu")
    assert trained == []


def test_another_teacher_under_the_same_name_is_refused(spec, tmp_path, trained):
    torch.manual_seed(0)
    models.save_weights(models.build("resnet8", 10, 8, 1), spec.teacher_weights, {"arch": "resnet8"})
    with pytest.raises(MissingError, match=f"the teacher {spec.teacher_weights}") as caught:
        run_spec(spec, spec.paths(tmp_path), "cpu")
    assert f"not {spec.teacher_sha256[:12]}" in str(caught.value)
    assert trained == []
    # Teachers that follow the student come from no file.
    own = replace(spec, teacher="self", teacher_weights="", teacher_sha256="", teaching=teaching.get("dual"))
    run_spec(own, own.paths(tmp_path), "cpu")
    assert trained == [own]


def test_a_refused_run_is_noted_and_not_tried_again(spec, tmp_path, trained):
    planned = replace(spec, dataset_sha256="0" * 64)
    ending = carry_out(planned, tmp_path / "study", "cpu", "token")
    assert (ending.kind, ending.again) == ("failed", False)
    assert "planned with" in ending.error
    paths = planned.paths(tmp_path / "study")
    assert failure_of(paths).is_file()
    assert not paths.done.exists()
    assert trained == []
