"""Runs on this machine: one spawned process per slot, as many as the cores hold, failures isolated."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from kdstats.errors import KdstatsError
from runners import claim
from runners.executors.attempt import carry_out, note_failure, pick, slots, use_threads
from runners.executors.base import GRACE, Attempts, Ending, Errand
from runners.run_spec import RunSpec

if TYPE_CHECKING:
    from runners.study_file.sections import ExecutorSection

_DIED = "its process died (killed, or out of memory)"


class _Slot:
    """A pool of one process, so that its death takes no other run with it."""

    def __init__(self, number: int, threads: int, device: str) -> None:
        self.device, self.threads = pick(device, number), threads
        self.spec: RunSpec | None = None
        self.future: Future[Ending] | None = None
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare, (self.threads,))

    def give(self, spec: RunSpec, study: Path, token: str) -> None:
        self.spec = spec
        try:
            self.future = self._pool.submit(carry_out, spec, study, self.device, token)
        except BrokenProcessPool:  # its process died between two runs
            self._pool = self._start()
            self.future = self._pool.submit(carry_out, spec, study, self.device, token)

    def take(self) -> tuple[RunSpec, Ending | None]:
        """The ended run and how it ended; None: with the process."""
        assert self.spec is not None
        assert self.future is not None
        spec, future, self.spec, self.future = self.spec, self.future, None, None
        try:
            return spec, future.result()
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._start()
            return spec, None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class LocalExecutor:
    """``workers`` processes; by default as many as there are cores for their threads, or one per GPU."""

    one_folder = True

    def __init__(self, workers: int | None, device: str, settings: ExecutorSection) -> None:
        self.at_once, self.device = workers or slots(device, settings.threads), device
        self.threads, self.attempts = settings.threads, settings.attempts

    def describe(self) -> str:
        """For the line before the first run."""
        plural = "es" * (self.at_once > 1)
        return f"{self.at_once} process{plural} on this machine, {self.threads} thread{'s' * (self.threads > 1)} each"

    def execute(self, errand: Errand) -> None:
        """Carries out ``errand``; see :class:`runners.executors.base.Executor`.

        Raises:
            KdstatsError: Processes die before they begin.
        """
        queue = deque(errand.specs)
        slots = [_Slot(i, self.threads, self.device) for i in range(min(self.at_once, len(queue)))]
        attempts = Attempts(errand.study, self.attempts)
        barren = 0
        try:
            while queue or any(slot.future for slot in slots):
                for slot in slots:
                    if slot.future is None and queue:
                        slot.give(queue.popleft(), errand.study, errand.stop.token)
                wait([s.future for s in slots if s.future], timeout=1.0, return_when=FIRST_COMPLETED)
                for slot in slots:
                    if slot.future is None or not slot.future.done():
                        continue
                    spec, ending = slot.take()
                    if ending is None:
                        paths = spec.paths(errand.study)
                        barren = 0 if claim.touched(paths.root) else barren + 1
                        if barren >= 3:
                            raise KdstatsError(
                                f"worker processes died {barren} times before they began a run: is there enough "
                                f"memory for {self.at_once}? Try --workers 1."
                            )
                        ending = Ending("failed", _DIED, again=True)
                        note_failure(spec, paths, _DIED)
                    if errand.settle(spec, ending, attempts):
                        queue.append(spec)
                errand.on_tick()
        except BaseException:
            _let_end(errand, [s.future for s in slots if s.future])
            raise
        finally:
            for slot in slots:
                slot.close()
            _end_children()


def _let_end(errand: Errand, futures: list[Future[Ending]]) -> None:
    """Asks the workers to keep their states and stop, and gives them some time; a second signal cuts it short."""
    try:
        errand.stop.raise_()
    except KdstatsError:
        return
    until = time.monotonic() + GRACE
    while futures and time.monotonic() < until:
        _, waiting = wait(futures, timeout=0.5)
        futures = list(waiting)


def _end_children() -> None:
    # Every state is on disk as of the last epoch, so a worker may be ended at any moment.
    for child in multiprocessing.active_children():
        child.kill()
    for child in multiprocessing.active_children():
        child.join(timeout=10)


def _prepare(threads: int) -> None:
    """Once per worker: its threads, signals left to the driver, and an end with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A driver that is killed cannot stop its workers; one that outlived it would write beside the next driver's.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    use_threads(threads)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
