"""The small study as a file, its calm course as a reference, and drivers that do not outlive their test."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
from study_under_fault import ROOT, SMALL, Driver, call, command, environment


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    """Starts a verb in the background; whatever is left at the end of the test is killed."""
    begun: list[Driver] = []

    def begin(*words: object) -> Driver:
        process = subprocess.Popen(
            command(*words),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            # A job in the background of a script ignores Ctrl-C, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        begun.append(Driver(process))
        return begun[-1]

    yield begin
    for driver in begun:
        if driver.process.poll() is None:
            driver.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The study's file, in a folder with blanks and letters beyond ASCII."""
    folder = tmp_path / "ein Ordner – ß 数"
    folder.mkdir()
    path = folder / "a study.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The study carried out without disturbance, once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    folder = base / "calm study"
    with filelock.FileLock(base / "calm.lock"):
        if not (folder / "out" / "study.json").exists():
            folder.mkdir(exist_ok=True)
            (folder / "s.toml").write_text(SMALL, encoding="utf-8")
            done = call("run", folder / "s.toml", "--out", folder / "out", "--workers", "2")
            assert done.returncode == 0, done.stderr
    return folder / "out"
