"""What all executors share: endings, bounds on attempts, the stop sign, what is shipped, and what is refused."""

import errno
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdstats.console import Terminated
from kdstats.errors import CheckError, UsageError
from kdstats.records.atomic import write_error
from runners import executors, recipes
from runners.claim import Claim
from runners.executors import attempt, shipping
from runners.executors.base import Attempts, Ending, Errand, StopSign
from runners.run_spec import RunSpec
from runners.study_file.sections import ExecutorSection

SETTINGS = ExecutorSection()


@pytest.fixture
def spec():
    return RunSpec(
        "digits", None, "0" * 64, "resnet8", "teacher.safetensors", "resnet8", "0" * 64, "lenet8", "flip", 0,
        recipes.get("digits"),
    )  # fmt: skip


@pytest.fixture
def carry(spec, tmp_path, monkeypatch):
    """One attempt, with ``run_spec`` replaced by what the test gives."""

    def carry(body):
        monkeypatch.setattr("runners.training.one_run.run_spec", body)
        return attempt.carry_out(spec, tmp_path, "cpu", "token")

    return carry


def test_executors_have_names_and_unknown_ones_are_answered():
    assert executors.names() == ["local", "ray", "slurm"]
    with pytest.raises(UsageError, match="'slurm'"):
        executors.get("slrum", 1, "cpu", SETTINGS)
    with pytest.raises(UsageError, match="at least 1 worker"):
        executors.get("local", 0, "cpu", SETTINGS)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_answered_with_the_command(name, package, monkeypatch):
    for module in [
        m for m in sys.modules if m.split(".")[0] == package or m.startswith("runners.executors.")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    with pytest.raises(UsageError, match=rf"pip install -e '\.\[{name}\]'") as caught:
        executors.get(name, None, "cpu", SETTINGS)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "device", "settings", "said"),
    [
        ("ray", "cuda:1", {}, "Ray chooses the GPU"),
        ("ray", "cuda", {}, "executor.gpus=0.25"),
        ("slurm", "cuda:1", {}, "Slurm chooses the GPU"),
        ("slurm", "auto", {"gpus": 0.5}, "whole GPUs"),
        ("slurm", "cuda", {"cluster": "local"}, "executor.gpus=1"),
        ("slurm", "cpu", {}, "no sbatch"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_starts(name, device, settings, said):
    with pytest.raises(UsageError, match=said):
        executors.get(name, None, device, ExecutorSection.model_validate(settings))


def test_an_unknown_slurm_parameter_is_named(tmp_path):
    settings = ExecutorSection.model_validate({"slurm": {"partitoin": "x"}, "cluster": "local"})
    made = executors.get("slurm", 1, "cpu", settings)
    with pytest.raises(UsageError, match=r"\[executor.slurm\].*partitoin"):
        made._executor(tmp_path)


def test_endings_say_whether_another_attempt_may_help(carry, spec, tmp_path):
    paths = spec.paths(tmp_path)

    def raising(error):
        def body(*_, **__):
            raise error

        return body

    assert carry(raising(RuntimeError("out of memory"))) == Ending(
        "failed", "RuntimeError: out of memory", again=True
    )
    assert "Traceback" in paths.log.read_text()
    assert attempt.failure_of(paths).exists()
    assert not carry(raising(CheckError("loss is NaN"))).again
    full = write_error(Path("state.pt"), OSError(errno.ENOSPC, "No space left on device"))
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert carry(raising(full)).kind == "full"
    assert carry(lambda *_, **__: None) == Ending("done")
    assert not attempt.failure_of(paths).exists(), "a success takes the note of the failure away"
    assert not list(paths.root.glob(".claim-*"))


def test_orphans_are_removed_and_a_stop_comes_after_the_epoch(carry, spec, tmp_path):
    paths = spec.paths(tmp_path)
    paths.samples.mkdir(parents=True)
    (paths.samples / ".x.elsewhere-1-0badcafe-0.tmp").touch()
    reached = []

    def body(spec, paths, device, on_epoch, **_):
        assert not list(paths.samples.iterdir())
        for epoch in range(1, 4):
            reached.append(epoch)
            on_epoch(epoch, 3, {})
            StopSign(tmp_path, "token").raise_()

    assert carry(body).kind == "stopped"
    assert reached == [1, 2]
    assert not paths.log.exists(), "to be stopped is no failure"


def test_a_run_that_was_taken_over_stops(carry, spec, tmp_path):
    def body(spec, paths, device, on_epoch, **_):
        next(paths.root.glob(".claim-*")).unlink()
        on_epoch(1, 2, {})

    ending = carry(body)
    assert ending.kind == "failed"
    assert "taken over" in ending.error


def test_a_held_run_is_waited_for_until_the_driver_stops(carry, spec, tmp_path):
    paths = spec.paths(tmp_path)
    paths.root.mkdir(parents=True)
    StopSign(tmp_path, "token").raise_()
    with Claim(paths.root) as holder:
        assert holder.attempt() is None
        assert carry(lambda *_, **__: pytest.fail("two at one run")).kind == "stopped"


def test_only_attempts_without_progress_count(spec, tmp_path):
    paths = spec.paths(tmp_path)
    paths.root.mkdir(parents=True)
    bound = Attempts(tmp_path, 3)
    assert [bound.another(spec) for _ in range(3)] == [True, True, False]
    bound = Attempts(tmp_path, 2)
    for epochs in (1, 2, 3):
        paths.metrics.write_text("{}\n" * epochs)
        assert bound.another(spec), "it got further"
    assert not bound.another(spec)


def test_a_stop_sign_is_the_drivers_own(tmp_path):
    old, new = StopSign(tmp_path, "old"), StopSign.of_driver(tmp_path)
    assert not new
    old.raise_()
    assert old
    assert not new, "another driver's sign is no reason to stop"
    assert not StopSign.of_driver(tmp_path)
    assert not old.path.exists()


def test_settling_reports_each_run_once(spec, tmp_path):
    done, again = [], []
    errand = Errand(
        [spec], tmp_path, StopSign(tmp_path, "t"), done.append, lambda s, e: again.append(e), lambda: None
    )
    bound = Attempts(tmp_path, 2)
    assert errand.settle(spec, Ending("failed", "a", again=True), bound)
    assert not errand.settle(spec, Ending("failed", "b", again=True), bound)
    assert again == ["a"]
    assert [outcome.error for outcome in done] == ["b"]


def test_a_signal_from_elsewhere_is_another_attempt_and_the_drivers_own_is_not(spec, tmp_path):
    again = []
    stop = StopSign(tmp_path, "t")
    errand = Errand([spec], tmp_path, stop, pytest.fail, lambda s, e: again.append(e), lambda: None)
    bound = Attempts(tmp_path, 2)
    assert errand.settle(spec, Ending("stopped", "a signal ended it"), bound)
    stop.raise_()
    assert not errand.settle(spec, Ending("stopped", "a signal ended it"), bound)
    assert again == ["a signal ended it"]


def test_a_stop_within_an_epoch_asks_the_loop_by_signal(carry, tmp_path, monkeypatch):
    monkeypatch.setattr(attempt, "_LOOK", 0.0)
    heard = []

    def body(spec, paths, device, on_epoch, on_step, answers):
        on_step(1, 1, float)
        assert not heard
        StopSign(tmp_path, "token").raise_()
        on_step(1, 2, float)
        raise Terminated

    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    try:
        assert carry(body).kind == "stopped"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["SIGTERM"]


def test_code_and_weights_travel_once(spec, tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"w")
    study = tmp_path / "study"
    given = [replace(spec, teacher_weights=str(weights), data="some/folder", seed=s) for s in range(2)]
    shipped = shipping.ship_specs(given, study)
    assert [s.digest for s in shipped] == [s.digest for s in given], "where things lie decides no number"
    assert {Path(s.teacher_weights).read_bytes() for s in shipped} == {b"w"}
    assert all(Path(s.teacher_weights).is_relative_to(study) for s in shipped)
    assert all(Path(s.data).is_absolute() for s in shipped)
    code = shipping.ship_code(study)
    assert shipping.ship_code(study) == code
    assert (code / "runners" / "student.py").is_file()
    assert not list(code.rglob("*.pyc"))


def test_gpus_are_taken_in_turn(monkeypatch):
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [attempt.pick("auto", slot) for slot in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert attempt.pick("cuda:1", 0) == "cuda:1"
    assert attempt.pick("cpu", 0) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert attempt.pick("auto", 1) == "cpu"


def test_code_that_lies_in_the_folder_is_not_believed(tmp_path):
    code = shipping.ship_code(tmp_path)
    altered, added = code / "runners" / "run_spec.py", code / "sitecustomize.py"
    original = altered.read_bytes()
    altered.write_bytes(b"raise SystemExit('mine')")
    added.write_text("raise SystemExit('mine')")
    outside = tmp_path / "outside.py"
    outside.write_bytes((code / "runners" / "claim.py").read_bytes())
    (code / "runners" / "claim.py").unlink()
    (code / "runners" / "claim.py").symlink_to(outside)
    (code / "runners" / "__pycache__").mkdir(exist_ok=True)
    (code / "runners" / "__pycache__" / "run_spec.cpython-311.pyc").write_bytes(b"code")
    assert shipping.ship_code(tmp_path) == code
    assert altered.read_bytes() == original
    assert not added.exists()
    assert not (code / "runners" / "claim.py").is_symlink()
    assert not (code / "runners" / "__pycache__").exists()


def test_a_colon_in_the_folder_is_refused_where_the_code_is_found_by_path(tmp_path):
    with pytest.raises(UsageError, match="colon"):
        shipping.ship_code(tmp_path / "a:b")


@pytest.mark.parametrize("name", ["log.txt", "samples"])
def test_a_run_does_not_write_through_a_link(carry, spec, tmp_path, name):
    """A study's folder from somebody else may point at what is not its own."""
    run, other = spec.paths(tmp_path).root, tmp_path / "another's"
    run.mkdir(parents=True)
    if name == "samples":
        other.mkdir()
    else:
        other.write_text("precious")
    (run / name).symlink_to(other)
    trained = []
    ending = carry(lambda *args, **kwargs: trained.append(1))
    assert ending.kind == "failed"
    assert not ending.again
    assert f"{name} is a symbolic link" in ending.error
    assert not trained
    assert attempt.failure_of(spec.paths(tmp_path)).is_file(), "status and retry must know of it"
    assert list(other.iterdir()) == [] if name == "samples" else other.read_text() == "precious"
