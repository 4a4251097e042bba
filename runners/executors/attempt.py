"""One attempt at one run, in whatever process it happens: claimed, isolated, stopped after a checkpoint."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdstats.console import Terminated
from kdstats.errors import CheckError, KdstatsError
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.writer import is_complete, write_json_atomic
from runners.claim import Claim
from runners.executors.base import Ending, Passing, StopSign, default_workers
from runners.progress import say
from runners.run_spec import RunSpec

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the last from a limit on files

# Seconds between two looks at the driver's stop sign.
_LOOK = 1.0


class _Stopped(Exception):
    """The driver asked for it."""


def use_threads(threads: int) -> None:
    """Once per worker process: as many threads as the study says, and memory that is not given back page by page."""
    import torch

    from kdstats.allocator import keep_pages

    keep_pages()
    torch.set_num_threads(threads)


def carry_out(
    spec: RunSpec,
    study: Path,
    device: str,
    token: str,
    *,
    stop: Callable[[], bool] | None = None,
    keep: Callable[[], None] = lambda: None,
) -> Ending:
    """Carries out ``spec`` unless it is complete; whatever goes wrong goes to its log and into the answer.

    Another process at the same run (left behind by a driver on another machine, say) is waited for.

    Args:
        spec: The run.
        study: The study's folder.
        device: Where to compute.
        token: The driver's, for its stop sign.
        stop: Whether the driver asks to stop; by default its sign in the study's folder is looked at.
        keep: Called after each epoch, when its state is on disk.
    """
    from runners.training.one_run import run_spec
    from runners.training.shared_answers import SharedAnswers

    paths, asked = spec.paths(study), stop or StopSign(study, token).__bool__
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        with Claim(paths.root) as claim:
            while claim.attempt() is not None:
                if asked():
                    return Ending("stopped")
                claim.pause()
            if is_complete(paths):
                return Ending("done")
            _refuse_links(paths.root)

            looked = time.monotonic()

            def on_epoch(epoch: int, epochs: int, line: dict[str, Any]) -> None:
                claim.check()
                keep()
                if asked():
                    raise _Stopped

            def on_step(epoch: int, step: int, loss: Callable[[], float]) -> None:
                nonlocal looked
                if time.monotonic() - looked < _LOOK:
                    return
                looked = time.monotonic()
                if asked() and threading.current_thread() is threading.main_thread():
                    signal.raise_signal(signal.SIGTERM)  # the loop keeps its state at the end of the step

            # The claim says that nobody else writes here, so every temporary file is an orphan.
            for orphan in paths.root.rglob(".*.tmp"):
                orphan.unlink(missing_ok=True)
            answers = SharedAnswers(StudyPaths(study).answers, spec, say)
            run_spec(spec, paths, device, on_epoch, on_step=on_step, answers=answers)
            failure_of(paths).unlink(missing_ok=True)
    except (_Stopped, KeyboardInterrupt, Terminated):
        return Ending("stopped", "a signal ended it")
    except Exception as error:
        line = f"{type(error).__name__}: {error}"
        note_failure(spec, paths, line, f"{began} {spec.title}\n{traceback.format_exc()}\n")
        if _number(error) in _FULL:
            return Ending("full", line)
        # What kdstats refuses on purpose (a NaN, a damaged file) would be refused again.
        return Ending("failed", line, again=isinstance(error, Passing) or not isinstance(error, KdstatsError))
    return Ending("done")


def failure_of(paths: RunPaths) -> Path:
    """The note of a run's last failure; gone once it is complete."""
    return paths.root / "failed.json"


def note_failure(spec: RunSpec, paths: RunPaths, error: str, log: str = "") -> None:
    """Keeps ``error`` beside the run, and adds to its log. A disk that takes neither is no further failure."""
    with contextlib.suppress(OSError, KdstatsError):
        write_json_atomic(failure_of(paths), {"run": spec.title, "error": error})
    if log:
        with contextlib.suppress(OSError), open(paths.log, "a", encoding="utf-8", opener=_no_link) as stream:
            stream.write(log)


def _refuse_links(run: Path) -> None:
    """A study's folder may come from somebody else: a run must not write through a link to what is not its own.

    Raises:
        CheckError: There is a symbolic link.
    """
    for path in run.rglob("*"):
        if path.is_symlink():
            raise CheckError(
                f"{path} is a symbolic link, and a run writes into its own folder only; put what it "
                "points at in its place"
            )


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _number(error: BaseException | None) -> int | None:
    """The operating system's number behind an error, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def pick(device: str, slot: int) -> str:
    """The device of a worker: GPUs in turn when they are there and wanted, ``device`` itself otherwise."""
    if device not in ("auto", "cuda") or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu" if device == "auto" else device
    import torch

    count = torch.cuda.device_count()
    if not count:
        return "cpu" if device == "auto" else device
    return f"cuda:{slot % count}"


def slots(device: str, threads: int) -> int:
    """Runs at a time that nobody gave a number for: one per GPU where they compute there, else what the cores hold."""
    first = pick(device, 0)
    if first == "cpu":
        return default_workers(threads)
    import torch

    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") else 1
