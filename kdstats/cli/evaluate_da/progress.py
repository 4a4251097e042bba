"""Progress of a probe on stderr: a bar on a terminal, one parseable line a look elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdstats.teacher.protocols import Status

Report = Callable[["Status"], None]


@contextmanager
def progress(tol: float | None) -> Iterator[Report]:
    """What to give to ``evaluate_da(progress=…)``.

    Args:
        tol: The half-width aimed at, None where the number of batches alone decides.
    """
    if sys.stderr.isatty():
        with _bar(tol) as report:
            yield report
    else:
        with _lines(tol) as report:
            yield report


@contextmanager
def _lines(tol: float | None) -> Iterator[Report]:
    began = time.perf_counter()
    last: Status | None = None
    said = -1

    def say(status: Status, look: float | None) -> None:
        width = "" if look is None else f" half_width={look:.4f}"
        aim = "" if tol is None else f" tol={tol:g}"
        seconds = time.perf_counter() - began
        sys.stderr.write(
            f"progress batches={status.done}/{status.target}{width}{aim} seconds={seconds:.1f}\n"
        )
        sys.stderr.flush()

    def report(status: Status) -> None:
        nonlocal last, said
        last = status
        if status.target != said:  # a look was taken and a new target set
            said = status.target
            say(status, status.half_width)

    yield report
    if last is not None and last.done == last.target:
        say(last, None)  # the half-width at the end is in the result; that of the last look is older


@contextmanager
def _bar(tol: float | None) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches {task.fields[width]}"),
        TimeRemainingColumn(),
    )
    # rich itself leaves colours out when NO_COLOR is set; transient, so that only results stay on the screen.
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=None, width="")

        def report(status: Status) -> None:
            aim = "" if tol is None else f" until ±{100 * tol:.3g} %"
            width = aim.lstrip() if status.half_width is None else f"±{100 * status.half_width:.2g} %{aim}"
            display.update(task, completed=status.done, total=status.target, width=width)

        yield report
