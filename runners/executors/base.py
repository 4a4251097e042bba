"""What every executor is: it takes specs, carries each out somewhere, and reports how each ended."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kdstats.errors import KdstatsError
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.lines import whole_epochs
from runners.run_spec import RunSpec

# A stopping driver waits this long for the states of the runs under way; what lies behind the last one is lost.
GRACE = 20.0


class Passing(KdstatsError):
    """What another attempt may not meet."""


@dataclass(frozen=True)
class Ending:
    """How one attempt at a run ended, as told by the worker.

    Attributes:
        kind: ``done``; ``failed``; ``full`` (no space on the disk: no other run could go on either); ``stopped``
            (the driver asked for it, after a checkpoint).
        error: One line; None for ``done``.
        again: Whether another attempt may end otherwise.
    """

    kind: Literal["done", "failed", "full", "stopped"]
    error: str | None = None
    again: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one run ended: ``error`` is None when it is complete."""

    spec: RunSpec
    error: str | None
    log: Path
    full: bool = False


class StopSign:
    """How a driver asks workers on any machine to stop: a file in the study's folder with the driver's token."""

    def __init__(self, study: Path, token: str) -> None:
        self.path, self.token = study / ".stop", token

    @classmethod
    def of_driver(cls, study: Path) -> StopSign:
        """A sign of this driver's own, not raised; whatever an earlier driver left is removed."""
        sign = cls(study, secrets.token_hex(8))
        sign.lower()
        return sign

    def raise_(self) -> None:
        """Asks; raises ``KdstatsError`` if the folder cannot be written to."""
        write_bytes_atomic(self.path, self.token.encode())

    def lower(self) -> None:
        """No longer asks."""
        self.path.unlink(missing_ok=True)

    def __bool__(self) -> bool:
        try:
            return self.path.read_text(encoding="ascii") == self.token
        except (OSError, UnicodeDecodeError):
            return False


class Attempts:
    """Bounds how often a run is tried; an attempt that got further than the one before does not count."""

    def __init__(self, study: Path, most: int) -> None:
        self.study, self.most = study, most
        self._failed: dict[str, tuple[int, int]] = {}

    def another(self, spec: RunSpec) -> bool:
        """Notes a failed attempt; whether there is to be another."""
        reached = whole_epochs(spec.paths(self.study).metrics)
        count, before = self._failed.get(spec.digest, (0, -1))
        count = 1 if reached > max(before, 0) else count + 1
        self._failed[spec.digest] = count, reached
        return count < self.most


@dataclass(frozen=True)
class Errand:
    """What an executor is to do, and whom it tells.

    Attributes:
        specs: What to run, in this order.
        study: The study's folder, the same for all workers.
        stop: The driver's stop sign.
        on_done: Called in the driver once per run, when it has ended for good.
        on_again: Called in the driver when a run failed and is tried once more, with the line of error.
        on_tick: Called in the driver about once a second.
    """

    specs: Sequence[RunSpec]
    study: Path
    stop: StopSign
    on_done: Callable[[Outcome], None]
    on_again: Callable[[RunSpec, str], None]
    on_tick: Callable[[], None]

    def settle(self, spec: RunSpec, ending: Ending, attempts: Attempts) -> bool:
        """Reports an ended attempt; True if the run is to be tried again."""
        if ending.kind == "stopped" and self.stop:
            return False
        # Stopped without being asked: somebody else's signal; the run goes on from its state.
        again = ending.again or ending.kind == "stopped"
        if again and attempts.another(spec):
            self.on_again(spec, ending.error or "?")
            return True
        self.on_done(Outcome(spec, ending.error, spec.paths(self.study).log, ending.kind == "full"))
        return False


class Executor(Protocol):
    """Carries out runs. Ends when all have ended; on ``KeyboardInterrupt`` or ``Terminated`` it lets the runs
    under way keep their states, within :data:`GRACE` seconds, and leaves no worker behind."""

    @property
    def at_once(self) -> int:
        """Runs at the same time, as far as it is known before they start."""
        ...

    @property
    def one_folder(self) -> bool:
        """Whether the workers write into the study's folder itself."""
        ...

    @property
    def threads(self) -> int:
        """Threads of each run: those of the study, wherever it runs."""
        ...

    def describe(self) -> str:
        """For the line before the first run."""
        ...

    def execute(self, errand: Errand) -> None:
        """Carries out ``errand``."""
        ...


def default_workers(threads: int = 1) -> int:
    """As many runs as there are cores for: a small network does not fill several threads, many fill the machine."""
    return max(1, (os.cpu_count() or 1) // threads)
