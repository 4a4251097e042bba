"""Exporters to experiment trackers: after the fact, from the files of a run, without a network.

A run's own record is ``metrics.jsonl``; a tracker is a place to look at it. So nothing here runs during training,
exporting again changes nothing that is there already, and a run that is not finished is exported as far as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdstats.errors import UsageError, unknown
from runners.trackers.history import History

Export = Callable[[Sequence[History], str], str]


@dataclass(frozen=True)
class Tracker:
    """A tracker that can be exported to.

    Attributes:
        module: Module of :mod:`runners.trackers` with ``export(histories, out) -> where it can be seen``.
        needs: Package that must be importable; its extra has the tracker's name.
        out: What ``--out`` names.
    """

    module: str
    needs: tuple[str, ...]
    out: str


TRACKERS = {
    "tensorboard": Tracker("to_tensorboard", ("tensorboard",), "a folder for event files"),
    "mlflow": Tracker("to_mlflow", ("mlflow", "sqlalchemy"), "a database file, or sqlite:///FILE"),
    "trackio": Tracker("to_trackio", ("trackio",), "a folder for its databases"),
}


def get(name: str) -> Export:
    """The exporter to ``name``.

    Raises:
        UsageError: No such tracker, or its package is not installed; the command that installs it is named.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    tracker = TRACKERS[name]
    missing = [package for package in tracker.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"exporting to {name} needs the package {missing[0]}: pip install 'kdstats[{name}]'")
    export: Export = importlib.import_module(f"runners.trackers.{tracker.module}").export
    return export
