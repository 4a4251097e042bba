"""What people see of one run: a bar on a terminal, one parseable line per epoch elsewhere, facts first."""

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runners import recipes
from runners.training.epoch_progress import EpochProgress, epoch_line, first_lines

ROOT = Path(__file__).parents[2]
LINE = {
    "epoch": 1,
    "lr": 0.1,
    "train_loss": 2.345678901,
    "test_loss": 1.5,
    "test_acc": 0.5432,
    "seconds": 1.25,
}
FACTS = {
    "title": "resnet20/resnet8 cutmix seed 0",
    "teacher": "resnet20",
    "teacher_sha256": "3f9c" * 16,
    "teacher_accuracy": 0.6091,
    "teacher_loss": 1.374,
    "recipe": recipes.get("crd240"),
    "digest": "60bf7e20" * 8,
    "device": "cpu",
}


def test_the_first_lines_state_what_must_be_known():
    shown = "\n".join(first_lines(**FACTS))
    for fact in (
        FACTS["title"],
        "60.91% test accuracy, loss 1.3740",
        "sha256 3f9c3f9c3f9c",
        "effective 64 images a step, peak lr 0.05",
        "precision  float32, on cpu",
        "crd240 over 240 epochs",
        FACTS["digest"],
    ):
        assert fact in shown
    assert "processes" not in shown


def test_the_first_lines_say_what_is_out_of_the_ordinary():
    recipe = replace(recipes.get("crd240").with_epochs(24), precision="bf16")
    changed = FACTS | {"teacher_accuracy": None, "recipe": recipe, "processes": 2, "mode": "training mode"}
    shown = "\n".join(first_lines(**changed))
    assert "test accuracy not measured" in shown
    assert "training mode" in shown
    assert "64 images a step over 2 processes" in shown
    assert "bf16, losses in float32" in shown
    assert "milestones 150, 180, 210 became 15, 18, 21" in shown


def test_a_line_can_be_taken_apart_again():
    words = dict(word.split("=") for word in epoch_line(1, 8, LINE | {"note": "two words"}, 61.4).split(" "))
    assert words["epoch"] == "1"
    assert words["epochs"] == "8"
    assert words["left_s"] == "61"
    assert words["note"] == "two_words"
    for key in ("lr", "train_loss", "test_loss", "test_acc", "seconds"):
        assert float(words[key]) == pytest.approx(LINE[key], rel=1e-5)


def test_without_a_terminal_there_is_one_line_per_epoch_and_no_loss_is_asked_for():
    stream = io.StringIO()

    def loss():
        raise AssertionError("asked for the loss of a step that nobody sees")

    with EpochProgress("title", epochs=4, steps=3, done=2, stream=stream) as progress:
        progress.say("resuming")
        for epoch in (3, 4):
            for step in (1, 2, 3):
                progress.step(epoch, step, loss)
            progress.end_epoch(epoch, LINE | {"epoch": epoch})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "resuming"
    assert [line.split()[:2] for line in lines[1:]] == [["epoch=3", "epochs=4"], ["epoch=4", "epochs=4"]]
    assert lines[2].endswith("left_s=0")
    assert "\x1b" not in stream.getvalue()


def test_what_is_left_counts_the_epochs_of_this_process_only(monkeypatch):
    clock = iter([0.0, 100.0, 110.0, 120.0])
    monkeypatch.setattr("runners.training.epoch_progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with EpochProgress("title", epochs=8, steps=1, done=5, stream=stream) as progress:
        progress.end_epoch(6, LINE)  # 10 s for one epoch, two to go
        progress.end_epoch(7, LINE)
    assert re.findall(r"left_s=(\d+)", stream.getvalue()) == ["20", "10"]


_ON_A_TERMINAL = f"""
import time
from runners.training.epoch_progress import EpochProgress
with EpochProgress("resnet20/resnet8 [cutmix]", epochs=2, steps=4) as progress:
    progress.say("resnet20 [60.91% test accuracy]")
    for epoch in (1, 2):
        for step in (1, 2, 3, 4):
            time.sleep(0.2)
            progress.step(epoch, step, lambda: 7.125)
        progress.end_epoch(epoch, {LINE!r})
"""


@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_there_is_a_live_bar(no_color):
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    environment |= {"TERM": "xterm", "COLUMNS": "140", "OMP_NUM_THREADS": "1"}
    environment |= {"NO_COLOR": "1"} if no_color else {}
    program = [sys.executable, "-c", _ON_A_TERMINAL]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=theirs, env=environment, cwd=ROOT
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not chunk:
                break
            shown += chunk
        assert process.stdout.read() == b""
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "resnet20/resnet8 [cutmix]" in plain  # no markup in names
    assert "resnet20 [60.91% test accuracy]" in plain
    assert re.search(r"epoch 1/2 step [1-4]/4", plain)
    assert "loss 7.125" in plain  # of a step, while it runs
    assert "epoch 2/2 loss 2.346 accuracy 54.32%" in plain  # of the epoch, at its end
    assert re.search(r"0:00:0\d left", plain)
    assert "epoch=1" not in plain
    coloured = bool(re.search(r"\x1b\[[0-9;]*3\d[;m]", text))
    assert coloured is not no_color
