"""Runs on machines that share no folder with the driver: they train in a scratch folder and keep it in a store.

The worker takes up the newest snapshot of the run, and leaves another after each epoch and at the end. The driver
brings home what has ended, and on the way the metrics, by which it counts epochs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kdstats.records.lines import whole_epochs
from kdstats.records.writer import is_complete
from kdstats.teacher.sources import is_file_source
from runners.executors.attempt import carry_out, note_failure
from runners.executors.base import Ending, StopSign
from runners.executors.store import Store
from runners.run_spec import RunSpec

_HERE = Path()  # a run's folder below it is its name in the store
_STOPS = "stops"  # a sign per driver: two drivers on one store must not take each other's away
_PEEK = 10.0  # seconds between two looks of the driver at the metrics of a run under way


class Away:
    """The driver's side.

    Args:
        url: Of the store.
        study: The study's folder on the driver's machine.
    """

    def __init__(self, url: str, study: Path) -> None:
        self.store, self.study = Store(url), study
        self._looked = time.monotonic()

    def ship(self, specs: Iterable[RunSpec]) -> list[RunSpec]:
        """The specs as workers need them; weights and what the driver knows of a run go to the store."""
        shipped = []
        for spec in specs:
            name, home = _name(spec), spec.paths(self.study)
            if whole_epochs(home.metrics) > self._epochs_in_store(name, home.metrics.name):
                self.store.push(home.root, name)
            shipped.append(replace(spec, teacher_weights=_kept_weights(spec, self.store)))
        return shipped

    def _epochs_in_store(self, name: str, metrics: str) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self.store.pull(name, Path(folder), only=metrics)
            return whole_epochs(Path(folder) / metrics)

    def fetch(self, spec: RunSpec, ending: Ending) -> Ending:
        """Brings home what there is of a run that ended so; done is what is complete at home."""
        home = spec.paths(self.study)
        self.store.pull(_name(spec), home.root)
        if ending.kind == "done" and not is_complete(home):
            line = f"the run is done, and {self.store.url} does not hold all of it"
            note_failure(spec, home, line)
            return Ending("failed", line, again=True)
        return ending

    def look(self, specs: Iterable[RunSpec]) -> None:
        """Brings home the metrics of runs under way, now and then."""
        if time.monotonic() - self._looked >= _PEEK:
            for spec in specs:
                home = spec.paths(self.study)
                self.store.pull(_name(spec), home.root, only=home.metrics.name)
            self._looked = time.monotonic()

    def ask_to_stop(self, sign: StopSign) -> None:
        """Raises the driver's sign in the store."""
        self.store.write(f"{_STOPS}/{sign.token}", b"stop")


def carry_out_away(spec: RunSpec, url: str, device: str, token: str) -> Ending:
    """As :func:`runners.executors.attempt.carry_out`, for a run whose folder is a snapshot in the store at ``url``.

    ``spec`` comes from :meth:`Away.ship`.
    """
    store, name = Store(url), _name(spec)
    with tempfile.TemporaryDirectory(prefix="kdstats-") as folder:
        scratch = Path(folder)
        paths = spec.paths(scratch)
        store.pull(name, paths.root)
        own = replace(spec, teacher_weights=_own_weights(spec.teacher_weights, store, scratch))
        ending = carry_out(
            own,
            scratch,
            device,
            token,
            stop=lambda: store.read(f"{_STOPS}/{token}") is not None,
            keep=lambda: store.push(paths.root, name),
        )
        store.push(paths.root, name)
        return ending


def _name(spec: RunSpec) -> str:
    return spec.paths(_HERE).root.as_posix()


def _kept_weights(spec: RunSpec, store: Store) -> str:
    """Puts the teacher's weights and card into the store; where they are there."""
    if not is_file_source(spec.teacher_weights):
        return spec.teacher_weights
    weights = Path(spec.teacher_weights)
    name = f"teachers/{spec.teacher_sha256[:12]}{weights.suffix}"
    for source in (weights, weights.with_suffix(".json")):
        if source.is_file():
            kept, content = str(Path(name).with_suffix(source.suffix)), source.read_bytes()
            if store.read(kept) != content:
                store.write(kept, content)
    return f"{store.url}#{name}"


def _own_weights(weights: str, store: Store, scratch: Path) -> str:
    """Where this worker has the weights that :func:`_kept_weights` put into the store."""
    prefix = f"{store.url}#"
    if not weights.startswith(prefix):
        return weights
    name = weights.removeprefix(prefix)
    target = scratch / name
    target.parent.mkdir(parents=True, exist_ok=True)
    card = store.read(str(Path(name).with_suffix(".json")))
    if card is not None:
        target.with_suffix(".json").write_bytes(card)
    content = store.read(name)
    if content is None:
        raise FileNotFoundError(f"{store.url}/{name}")
    target.write_bytes(content)
    return str(target)
