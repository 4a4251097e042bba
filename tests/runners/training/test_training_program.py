"""The program as people and schedulers use it: killed at random moments, it ends as the run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from small_run import same_run

from kdstats.records.paths import RunPaths
from kdstats.records.writer import is_complete, verify_done

ROOT = Path(__file__).resolve().parents[3]
ASKED = (
    *("--scheme", "recursive_mix", "--per-class", "30", "--epochs", "6", "--seed", "1", "--device", "cpu"),
    *("--keep-every", "0"),
)


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runners.student", *ASKED, *more, "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(out: Path) -> RunPaths:
    process = start(out)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-2000:]
    return RunPaths(Path(stdout.strip().splitlines()[-1]))


def until_some_step(out: Path, beyond: str) -> str:
    """Waits for a state other than ``beyond``; returns what tells it apart."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for state in out.glob("runs/*/*/*/*/state.pt"):
            seen = str(state.stat().st_mtime_ns)
            if seen != beyond:
                return seen
        time.sleep(0.005)
    raise AssertionError("no state appeared")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("undisturbed"))


def test_killed_at_random_moments(undisturbed, tmp_path):
    """Steps, row pieces, states and epoch ends follow each other within milliseconds: kills fall into all of them."""
    random.seed(0)
    seen, kills = "", 0
    for _ in range(3):
        process = start(tmp_path)
        seen = until_some_step(tmp_path, seen)
        time.sleep(random.uniform(0, 0.4))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    paths = finished(tmp_path)
    assert kills >= 2
    assert is_complete(paths)
    assert verify_done(paths) == []
    same_run(undisturbed, paths)
    left = [file for file in paths.root.rglob("*") if file.name.startswith(".") or file.suffix == ".tmp"]
    assert left == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_code_and_a_state(undisturbed, tmp_path, number, code):
    process = start(tmp_path)
    until_some_step(tmp_path, "")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr[-500:]
    assert "the same command goes on from the last state" in stderr.splitlines()[-1]
    assert list(tmp_path.glob("runs/*/*/*/*/state.pt"))
    if number == signal.SIGTERM:
        same_run(undisturbed, finished(tmp_path))


def test_a_second_program_at_the_same_run_is_refused(undisturbed, tmp_path):
    first = start(tmp_path)
    until_some_step(tmp_path, "")
    first.send_signal(signal.SIGSTOP)  # alive, and certainly not done before the second one looks
    try:
        second = start(tmp_path)
        _, stderr = second.communicate(timeout=300)
    finally:
        first.send_signal(signal.SIGCONT)
    first.communicate(timeout=300)
    assert second.returncode == 2
    assert "is being trained by process" in stderr
    assert first.returncode == 0
    same_run(undisturbed, finished(tmp_path))


def test_lines_for_programs(undisturbed, tmp_path):
    process = start(tmp_path, "--recipe", "digits")
    _, stderr = process.communicate(timeout=300)
    lines = stderr.splitlines()
    assert lines[0].startswith("run        resnet8/lenet8 recursive_mix seed 1")
    assert any(line.startswith("teacher    digits-resnet8 · 98.65% test accuracy") for line in lines)
    assert any(line.startswith("batch      effective 64 images a step") for line in lines)
    assert any(line.startswith("digest     ") for line in lines)
    epochs = [dict(word.split("=") for word in line.split()) for line in lines if line.startswith("epoch=")]
    assert [int(words["epoch"]) for words in epochs] == [1, 2, 3, 4, 5, 6]
    assert {"train_loss", "test_loss", "test_acc", "left_s"} <= set(epochs[0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--objective", "crdd"), "no objective named 'crdd'"),
        (("--objective", "dkd"), "would not be learned from: the objective dkd has α = 0"),
        (("--param", "x"), "--param takes KEY=VALUE"),
        (("--teaching", "ema", "--teacher", "t.safetensors"), "leave out --teacher"),
        (("--epochs", "0"), "epochs"),
        (("--keep-every", "-1"), "--keep-every is a number of seconds from 0"),
        (("--log-every", "0"), "every"),
        (("--val-split", "1.5"), "more than 0 and less than 1"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path, more, said, capsys):
    from kdstats.console import run_program
    from runners import student

    code = run_program("runners.student", lambda: student.main([*ASKED, *more, "--out", str(tmp_path)]))
    err = capsys.readouterr().err
    assert code == 2, err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        (("--temperature", "2"), {"temperature": 2.0}),
        (("--student-temperature", "2"), {"student_temperature": 2.0}),
        (("--gamma", "0.5"), {"gamma": 0.5}),
        (("--alpha", "0.5"), {"alpha": 0.5}),
        (("--alpha-views", "0.5"), {"alpha_views": 0.5}),
        (
            ("--objective", "crd", "--beta", "0.5", "--param", "nce_k=7", "--alpha", "1"),
            {
                "objective": "crd",
                "beta": 0.5,
                "objective_params": (("nce_k", 7),),
                "alpha": 1.0,
                "gamma": 1.0,
            },
        ),
        (("--targets", "interpolated"), {"targets": "interpolated"}),
        (("--originals", "replaced"), {"originals": "replaced"}),
        (("--passes", "joint"), {"passes": "joint"}),
        (("--determinism", "strict"), {"determinism": "strict"}),
        (("--compile", "default"), {"compile": "default"}),
        (("--fold-teacher",), {"fold_teacher": True}),
        (("--draws", "sample"), {"draws": "sample"}),
        (("--log-every", "2"), {"log_every": 2}),
        (("--log-dtype", "float16"), {"log_dtype": "float16"}),
        (("--seed", "5"), {"seed": 5}),
        (("--per-class", "20"), {"per_class": 20}),
        (("--val-split", "0.2"), {"val_split": 0.2}),
        (("--student", "resnet8"), {"student": "resnet8"}),
    ],
)
def test_a_flag_changes_its_setting_and_no_other(more, changed):
    from runners import student

    def settings(*flags: str) -> dict[str, object]:
        spec = student._spec(student._parser().parse_args([*ASKED, *flags, "--out", "unused"]))
        return {**asdict(spec), "recipe": spec.recipe.epochs, "dataset_sha256": None}

    before, after = settings(), settings(*more)
    assert {k: v for k, v in after.items() if v != before[k]} == changed
