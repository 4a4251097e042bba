"""What a study has, as far as its files tell, and what questions ask of that.

A question states what it needs as ``NEEDS``: pairs of a test and the words for what is lacking where it fails. So a page
can offer the questions that fit a study without asking them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analyses.study.folders import used_folders
from analyses.study.loaded import Study
from analyses.study.settings import TrainedRun, trained_runs
from kdstats.errors import KdstatsError
from kdstats.records.paths import RunPaths, epoch_parts

MOST_READ = 2000  # runs whose settings are read for this; reading more would not be cheap


class NotRead(Exception):
    """The settings of a study's runs are not known."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a study has, as far as files tell.

    Attributes:
        schemes: Used.
        settings: Name of a setting → the different values of used runs, as text; None where they are not on record.
        samples: Whether a used run kept samples of its steps.
        logs: Whether one kept its log of epochs.
        weights: Whether one kept the student's weights.
        distances: Whether one logged distances to its teachers.
        pools: Whether one kept mean probabilities of its pools.
        teachers: Whether the card says where a teacher's weights are.
        measured: Whether a teacher-only measurement is there.
        seeds: Most seeds of a scheme.
        students: Most students of one teacher.
    """

    schemes: tuple[str, ...]
    settings: dict[str, frozenset[str]] | None
    samples: bool
    logs: bool
    weights: bool
    distances: bool
    pools: bool
    teachers: bool
    measured: bool
    seeds: int
    students: int

    @property
    def values(self) -> dict[str, frozenset[str]]:
        """The settings; raises :class:`NotRead` where they are not known, which is not the same as none."""
        if self.settings is None:
            raise NotRead
        return self.settings

    def several(self, *names: str) -> bool:
        """Whether one of the settings has two values or more."""
        return any(len(self.values.get(name, ())) > 1 for name in names)

    def has(self, name: str, value: str) -> bool:
        """Whether some run has this value of a setting."""
        return value in self.values.get(name, ())

    def of(self, *bases: str) -> list[str]:
        """The schemes whose names begin with one of ``bases``."""
        return [s for s in self.schemes if s.partition("(")[0].partition("@")[0] in bases]


def traits(study: Study) -> Traits:
    """Looks at the folders of the used runs, and at their settings where these are not too many."""
    folders = [folder for *_, folder in used_folders(study)]
    settings = None
    if len(study.used) <= MOST_READ:
        try:
            settings = _values(trained_runs(study))
        except KdstatsError:
            settings = None  # a study without the cards of its runs
    return Traits(
        tuple(map(str, dict.fromkeys(study.used["scheme"]))),
        settings,
        any(epoch_parts(RunPaths(folder).samples) for folder in folders),
        _any(folders, "metrics.jsonl"),
        _any(folders, "last.safetensors"),
        _any(folders, "distances.jsonl"),
        any(RunPaths(f).pools.exists() or RunPaths(f).pool_parts.exists() for f in folders),
        any(said.get("path") for said in study.card.teachers.values()),
        any(study.documents.values()),
        int(study.used.groupby(["pair", "scheme"]).size().max()),
        int(study.used.groupby("teacher")["student"].nunique().max()),
    )


def _any(folders: list[Path], name: str) -> bool:
    return any((folder / name).is_file() for folder in folders)


def _values(runs: tuple[TrainedRun, ...]) -> dict[str, frozenset[str]]:
    out: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            out.setdefault(key, set()).add(str(value))
    return {key: frozenset(values) for key, values in out.items()}


def picks(has: Traits) -> bool:
    """Whether a scheme picks its views."""
    return any("pick" in scheme for scheme in has.schemes)


def _two(has: Traits) -> bool:
    return len(has.schemes) > 1


Need = tuple[Callable[[Traits], bool], str]
SAMPLES: Need = (lambda has: has.samples, "no run kept samples of its training steps")
WEIGHTS: Need = (lambda has: has.weights, "no run kept its student's weights")
LOGS: Need = (lambda has: has.logs, "no run kept its log of epochs")
SEVERAL: Need = (_two, "only one scheme was run")
FOLLOWING: Need = (
    lambda has: has.has("teaching", "following"),
    "no run has teachers that follow the student",
)
TEACHERS: Need = (lambda has: has.teachers, "the card does not say where the teacher's weights are")
MEASURED: Need = (lambda has: has.measured, "no teacher-only measurement is in the study")
SEEDS: Need = (lambda has: has.seeds > 1, "one seed a scheme gives no spread")
PICKING: Need = (picks, "no scheme picks its views")
