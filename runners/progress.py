"""Progress of a study: a live bar on a terminal, one parseable line per event elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self


class StudyProgress:
    """Counts epochs over all runs; ``say`` prints a line that stays."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first, self.began = max(total, 1), done, time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._done = done

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} epochs"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.total, completed=self.first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int) -> None:
        """``done`` epochs of all runs are on disk."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """One line, with the time that is left when there is no bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
            return
        gained = self._done - self.first
        left = ""
        if gained > 0 and self._done < self.total:
            seconds = (time.monotonic() - self.began) / gained * (self.total - self._done)
            left = f"  epochs {self._done}/{self.total}, about {duration(seconds)} left"
        say(text + left)


def say(text: str) -> None:
    """One line on stderr, at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
