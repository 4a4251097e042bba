"""Runs on this machine: a pool of spawned processes, threads divided among them, failures isolated."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import filelock

from kdstats.errors import KdstatsError, UsageError
from kdstats.records.paths import RunPaths
from runners.run_spec import RunSpec

# A worker that dies (kill −9, out of memory) breaks the whole pool; its run is tried again this often.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Outcome:
    """How one run ended: ``error`` is None when it is complete."""

    spec: RunSpec
    error: str | None
    log: Path


def execute(
    specs: Sequence[RunSpec],
    study: Path,
    workers: int,
    on_done: Callable[[Outcome], None],
    on_tick: Callable[[], None],
) -> None:
    """Carries out ``specs`` with ``workers`` processes; returns when all have ended, well or badly.

    Args:
        specs: What to run, in this order.
        study: The study's folder.
        workers: Processes; the cores are divided among them.
        on_done: Called in this process once per run.
        on_tick: Called about once a second.
    """
    if workers < 1:
        raise UsageError(f"at least 1 worker is needed, not {workers}")
    threads = max(1, (os.cpu_count() or 1) // workers)
    left = {spec.digest: spec for spec in specs}
    attempts = dict.fromkeys(left, 0)
    barren = 0
    while left:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare, (threads,))
        try:
            _drain(pool, left, study, on_done, on_tick)
        except BrokenProcessPool:
            begun = _unfinished(left, study)
            barren = 0 if begun else barren + 1
            if barren >= _ATTEMPTS:
                raise KdstatsError(
                    f"worker processes died {barren} times before they began a run: is there enough memory for "
                    f"{workers}? Try --workers 1."
                ) from None
            for digest in begun:
                attempts[digest] += 1
                if attempts[digest] >= _ATTEMPTS:
                    spec = left.pop(digest)
                    on_done(Outcome(spec, f"its process died {_ATTEMPTS} times", spec.paths(study).log))
        finally:
            _stop(pool)


def _drain(
    pool: ProcessPoolExecutor,
    left: dict[str, RunSpec],
    study: Path,
    on_done: Callable[[Outcome], None],
    on_tick: Callable[[], None],
) -> None:
    futures: dict[Future[str | None], str] = {pool.submit(_run, s, str(study)): d for d, s in left.items()}
    while futures:
        done, _ = wait(futures, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            digest = futures.pop(future)
            error = future.result()
            spec = left.pop(digest)
            on_done(Outcome(spec, error, spec.paths(study).log))
        on_tick()


def _unfinished(left: dict[str, RunSpec], study: Path) -> list[str]:
    """Runs that were under way when the pool broke; only these can have broken it. Their marks are removed."""
    begun = []
    for digest, spec in left.items():
        mark = _mark(spec.paths(study))
        if mark.exists():
            begun.append(digest)
            mark.unlink(missing_ok=True)
    return begun


def _mark(paths: RunPaths) -> Path:
    """A file that exists while a worker is at the run."""
    return paths.root / ".running"


def _stop(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    # Every state is on disk as of the last epoch, so a worker may be ended at any moment.
    for child in multiprocessing.active_children():
        child.terminate()
    for child in multiprocessing.active_children():
        child.join(timeout=10)


def _prepare(threads: int) -> None:
    """Once per worker: its share of the cores, Ctrl-C left to the driver, and an end with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A driver that is killed cannot stop its workers; one that outlived it would write beside the next driver's.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    import torch

    from kdstats.allocator import keep_pages

    keep_pages()
    torch.set_num_threads(threads)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _run(spec: RunSpec, study: str) -> str | None:
    """One run in a worker; None if it is complete, otherwise its last line of error."""
    from runners.student import run_spec

    paths = spec.paths(Path(study))
    paths.root.mkdir(parents=True, exist_ok=True)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    mark = _mark(paths)
    mark.touch()
    try:
        with filelock.FileLock(paths.root / ".lock", timeout=0):
            run_spec(spec, paths)
    except filelock.Timeout:
        return "another process is at this run"
    except Exception as error:
        # The traceback goes to the run's log; the driver shows one line and goes on with the other runs.
        with paths.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{began} {spec.title}\n{traceback.format_exc()}\n")
        return f"{type(error).__name__}: {error}"
    finally:
        mark.unlink(missing_ok=True)
    return None
