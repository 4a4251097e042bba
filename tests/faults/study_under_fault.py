"""A small study on 400 digits: how to start, watch, disturb and compare it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from kdstats.records.scanner import read_runs, read_study

ROOT = Path(__file__).parents[2]
# Seconds to wait for what comes within a minute or two on a machine with nothing else to do.
PATIENCE = 900
EPOCHS = 20  # long enough that a run can be met in the middle of it, on a fast machine too
SMALL = f"""
[study]
name = "small"
per_class = 40
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutmix"]
seeds = [0, 1]
[teacher.resnet8]
weights = "shipped"
[train]
epochs = {EPOCHS}
[probe]
tol = 0.5
[report]
build = false
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "runners.study", *map(str, words)]


def environment() -> dict[str, str]:
    # Nothing but the study may say how many threads a run has, or results would not be equal bit for bit.
    silent = ("KDSTATS_TRACEBACK", "RAY_ADDRESS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {k: v for k, v in os.environ.items() if k not in silent} | {"PYTHONPATH": str(ROOT)}


def call(*words: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Runs a verb to its end."""
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        **kwargs,
    )


@dataclass
class Driver:
    """A study under way in a process of its own."""

    process: subprocess.Popen[str]

    def workers(self) -> list[psutil.Process]:
        """Processes that carry out runs."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """kill −9, then waits until its workers are gone too."""
        family = self.workers()
        self.process.kill()
        self.process.communicate()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, "a worker outlived its driver and would write beside the next one's"

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal; the exit code and what was said."""
        self.process.send_signal(signum)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def at_work(out: Path) -> list[int]:
    """Processes that hold a run which has a state and has not ended."""
    found = []
    for state in out.glob("runs/*/*/*/*/state.pt"):
        for claim in state.parent.glob(".claim-*"):
            with contextlib.suppress(OSError, ValueError):
                found.append(int(json.loads(claim.read_text())["pid"]))
    return found


def fingerprint(out: Path) -> dict[str, str]:
    """Name → sha256 of every network a study trained."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "runs").rglob("*.safetensors"))
    }


def same(out: Path, calm: Path) -> None:
    """Every run once, bit for bit as in the calm study, nothing left over."""
    runs, expected = read_runs(out), read_runs(calm)
    assert len(runs) == 4
    assert not runs.duplicated(["teacher", "student", "scheme", "seed"]).any()
    timing = ["seconds"]
    pd.testing.assert_frame_equal(runs.drop(columns=timing), expected.drop(columns=timing), check_exact=True)
    pd.testing.assert_frame_equal(
        read_study(out).drop(columns=timing), read_study(calm).drop(columns=timing), check_exact=True
    )
    assert fingerprint(out) == fingerprint(calm)
    assert len(list(out.rglob("done.json"))) == 4
    for run in (out / "runs").rglob("metrics.jsonl"):
        assert len(run.read_text().splitlines()) == EPOCHS, "an epoch is there twice or missing"
    left = [p for pattern in ("*.tmp", ".claim-*", ".stop", "state.pt") for p in out.rglob(pattern)]
    assert not left, left
