"""How far a run is, read from its folder alone."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.records.lines import whole_lines
from kdstats.records.writer import is_complete, read_done, verify_done
from runners.claim import running
from runners.executors.attempt import failure_of
from runners.run_spec import RunSpec

State = Literal["done", "running", "failed", "paused", "queued"]
_LATEST = 3  # epochs that tell the pace


@dataclass(frozen=True)
class Standing:
    """A run at a moment.

    Attributes:
        spec: The run.
        state: ``paused`` has whole epochs on disk and nobody at work; ``failed`` has ended with an error since.
        epochs: Whole epochs on disk.
        per_epoch: Median seconds of the latest epochs, since machines are shared by others at times; None before the
            first and for complete runs.
        accuracy: Test accuracy after the last epoch, of complete runs.
        error: The last line of its log, where it failed.
    """

    spec: RunSpec
    state: State
    epochs: int
    per_epoch: float | None = None
    accuracy: float | None = None
    error: str | None = None

    @property
    def left(self) -> int:
        """Epochs still to be trained."""
        return self.spec.recipe.epochs - self.epochs


def standing(spec: RunSpec, study: Path) -> Standing:
    """Looks at the folder of ``spec``."""
    paths = spec.paths(study)
    with contextlib.suppress(MissingError, KeyError):
        done = read_done(paths)
        if not verify_done(paths, quick=True, done=done):
            outcome = done["extra"]["outcome"]
            return Standing(spec, "done", spec.recipe.epochs, accuracy=float(outcome["acc_last"]))
    if not paths.root.is_dir():
        return Standing(spec, "queued", 0)
    seconds = _seconds(paths.metrics)
    epochs = min(len(seconds), spec.recipe.epochs)
    per_epoch = statistics.median(seconds[-_LATEST:]) if seconds else None
    if running(paths.root):
        return Standing(spec, "running", epochs, per_epoch)
    note = failure_of(paths)
    if note.exists():
        return Standing(spec, "failed", epochs, per_epoch, error=_error(note))
    return Standing(spec, "paused" if epochs else "queued", epochs, per_epoch)


def failed_before(specs: Iterable[RunSpec], study: Path) -> list[tuple[RunSpec, str]]:
    """Runs that ended with an error and are not complete, with the last line of their log."""
    places = ((spec, spec.paths(study)) for spec in specs)
    notes = ((spec, failure_of(paths)) for spec, paths in places if not is_complete(paths))
    return [(spec, _error(note)) for spec, note in notes if note.exists()]


def _seconds(metrics: Path) -> list[float]:
    """Seconds of each whole epoch."""
    found = []
    for row in whole_lines(metrics):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found.append(float(row["seconds"]))
    return found


def _error(note: Path) -> str:
    try:
        return str(parse_json(note.read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "see its log"
