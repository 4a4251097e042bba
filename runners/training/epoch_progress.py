"""What people see while one network trains: a live bar on a terminal, one parseable line per epoch elsewhere.

Presentation alone: nothing here decides a number. Everything goes to stderr, results belong to stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from runners.recipes import Recipe, scaling

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Loss = float | Callable[[], float]
# Reading a loss from a GPU waits for it; a bar that is drawn twice a second need not ask more often.
_EVERY = 0.5


def first_lines(
    *,
    title: str,
    teacher: str,
    teacher_sha256: str,
    teacher_accuracy: float | None,
    teacher_loss: float | None,
    recipe: Recipe,
    digest: str,
    device: str,
    processes: int = 1,
    mode: str = "evaluation mode",
) -> list[str]:
    """What a run states before its first step, one fact a line.

    Args:
        title: Teacher, student, scheme and seed of the run.
        teacher: The teacher's name.
        teacher_sha256: Of its weights.
        teacher_accuracy: On the test images, as a fraction; None if it was not measured, which is then said.
        teacher_loss: On the test images, in nats.
        recipe: As resolved for this machine.
        digest: Of the resolved configuration.
        device: What trains.
        processes: How many share each step's batch.
        mode: How the teacher is asked.
    """
    if teacher_accuracy is None or teacher_loss is None:
        quality = "test accuracy not measured"
    else:
        quality = f"{teacher_accuracy:.2%} test accuracy, loss {teacher_loss:.4f}"
    batch = f"{recipe.batch_size} images a step"
    if processes > 1:
        batch += f" over {processes} processes"
    losses = "" if recipe.precision == "float32" else ", losses in float32"
    shape = scaling(recipe) or f"{recipe.name} over {recipe.epochs} epochs"
    return [
        f"run        {title}",
        f"teacher    {teacher} · {quality} · {mode} · sha256 {teacher_sha256[:12]}",
        f"batch      effective {batch}, peak lr {recipe.lr:g}",
        f"precision  {recipe.precision}{losses}, on {device}",
        f"recipe     {shape}",
        f"digest     {digest}",
    ]


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, Any], left: float | None = None) -> str:
    """``epoch=3 epochs=8 train_loss=… left_s=…``: an epoch as words ``key=value`` without spaces.

    Args:
        epoch: From 1.
        epochs: Of the whole run.
        metrics: Its numbers; floats are shown with six digits, their full values are in ``metrics.jsonl``.
        left: Seconds until the end of the run.
    """
    words = {"epoch": epoch, "epochs": epochs} | {k: v for k, v in metrics.items() if k != "epoch"}
    if left is not None:
        words["left_s"] = round(left)
    return " ".join(f"{key}={_shown(value)}" for key, value in words.items())


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace(" ", "_")


class EpochProgress:
    """Follows one run: :meth:`step` as often as one likes, :meth:`end_epoch` once an epoch.

    Args:
        title: Of the run, shown before the bar.
        epochs: Of the whole run.
        steps: Of one epoch.
        done: Epochs that were on disk when this process began.
        stream: Where to write; stderr by default.
    """

    def __init__(
        self, title: str, epochs: int, steps: int, done: int = 0, stream: TextIO | None = None
    ) -> None:
        self.title, self.epochs, self.steps, self.first = title, epochs, steps, done
        self.stream = sys.stderr if stream is None else stream
        self._began = self._read = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._accuracy = ""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[at]}{task.fields[loss]}{task.fields[accuracy]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            # A speed from the last ten minutes: the step, not the epoch, is the unit, so that it is known early.
            self._bar = Progress(*columns, console=Console(file=self.stream), speed_estimate_period=600)
            self._bar.start()
            self._task = self._bar.add_task(
                self.title,
                total=self.epochs * self.steps,
                completed=self.first * self.steps,
                at=f"epoch {min(self.first + 1, self.epochs)}/{self.epochs}",
                loss="",
                accuracy="",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, step: int, loss: Loss | None = None) -> None:
        """``step`` (from 1) of ``epoch`` (from 1) is done.

        Args:
            epoch: Its number.
            step: Its number in the epoch.
            loss: Of the step, or what to call for it; it is asked at most twice a second, and only for a bar.
        """
        if self._bar is None or self._task is None:
            return
        fields: dict[str, Any] = {"at": f"epoch {epoch}/{self.epochs} step {step}/{self.steps}"}
        now = time.monotonic()
        if loss is not None and now - self._read >= _EVERY:
            self._read = now
            fields["loss"] = f" loss {float(loss() if callable(loss) else loss):.3f}"
        self._bar.update(self._task, completed=(epoch - 1) * self.steps + step, **fields)

    def end_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """``epoch`` (from 1) is on disk with these ``metrics``."""
        if self._bar is None or self._task is None:
            left = self._left(epoch)
            self.say(epoch_line(epoch, self.epochs, metrics, left))
            return
        fields: dict[str, Any] = {"at": f"epoch {epoch}/{self.epochs}"}
        if "train_loss" in metrics:
            fields["loss"] = f" loss {metrics['train_loss']:.3f}"
        if "test_acc" in metrics:
            fields["accuracy"] = f" accuracy {metrics['test_acc']:.2%}"
        self._bar.update(self._task, completed=epoch * self.steps, **fields)

    def say(self, text: str) -> None:
        """A line that stays, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        self.stream.write(text + "\n")
        self.stream.flush()

    def _left(self, epoch: int) -> float | None:
        """Seconds to the end at this process's pace so far."""
        gained = epoch - self.first
        if gained < 1:
            return None
        return (time.monotonic() - self._began) / gained * (self.epochs - epoch)
