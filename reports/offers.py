"""Which analyses on request fit a study, told from its tables, folders and settings without running them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import analyses
from analyses.study import Study, used_folders
from analyses.study.settings import TrainedRun, trained_runs
from analyses.words import count
from kdstats.errors import KdstatsError
from kdstats.records.paths import RunPaths, epoch_parts

MOST_READ = 2000  # runs whose settings are read for this; reading more would not be cheap
MIXUPS = ("mixup", "full_mixup", "partial_mixup")


@dataclass(frozen=True, slots=True)
class Offer:
    """One question that could be asked.

    Attributes:
        name: Of the analysis.
        question: In words.
        fits: Whether the study has what it needs; None where that is not known without running it.
        why_not: What is lacking; empty where it fits.
    """

    name: str
    question: str
    fits: bool | None
    why_not: str


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

    def several(self, *names: str) -> bool:
        """Whether one of the settings has two values or more."""
        return any(len((self.settings or {}).get(name, ())) > 1 for name in names)

    def has(self, name: str, value: str) -> bool:
        """Whether some run has this value of a setting."""
        return value in (self.settings or {}).get(name, ())

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
            settings = None  # a study without the cards of its runs: what needs them does not fit
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


def _picking(has: Traits) -> bool:
    return any("pick" in scheme for scheme in has.schemes)


def _two(has: Traits) -> bool:
    return len(has.schemes) > 1


# What an analysis needs, and how that is said where it is lacking.
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
PICKING: Need = (_picking, "no scheme picks its views")
MIXING = (*MIXUPS, "cutmix", "patchmix", "recursive_mix")
NEEDS: dict[str, tuple[Need, ...]] = {
    "picked_views": (PICKING, TEACHERS),
    "label_disagreement": (
        (lambda has: bool(has.of(*MIXING)) or _picking(has), "no scheme mixes images"),
        TEACHERS,
    ),
    "convergence": (TEACHERS,),
    "data_maps": (SAMPLES,),
    "current_teacher": (FOLLOWING, (lambda has: has.pools, "no run kept mean probabilities of its pools")),
    "rival_predictors": (SEVERAL, MEASURED),
    "softness": (SEVERAL, MEASURED),
    "student_invariance": (SEVERAL, (lambda has: has.students > 1, "no teacher has two students")),
    "which_scheme": (SEVERAL, SEEDS, MEASURED),
    "seeds_needed": (SEVERAL, SEEDS),
    "draw_granularity": ((lambda has: has.several("draws"), "all runs draw at one granularity"),),
    "epoch_sweep": ((lambda has: has.several("recipe.epochs"), "all runs have one number of epochs"),),
    "view_targets": ((lambda has: has.several("targets"), "all runs have one target of the views"),),
    "picking": (PICKING,),
    "pick_ratio": (PICKING, SAMPLES),
    "mixup_placement": (
        (
            lambda has: bool(has.of(*MIXUPS)) and ("identity" in has.schemes or has.several("temperature")),
            "it needs mixup, and beside it identity or several temperatures",
        ),
    ),
    "partial_mixup": (
        (lambda has: len(has.of(*MIXUPS)) > 1, "it needs two settings of mixup or partial_mixup"),
    ),
    "std_logits": (
        (
            lambda has: (
                has.has("objective", "std_logits")
                and any(len(v) > 1 for k, v in (has.settings or {}).items() if k.startswith("objective."))
            ),
            "no two versions of the objective std_logits were trained",
        ),
    ),
    "smoothness": (WEIGHTS,),
    "calibration": (WEIGHTS,),
    "robustness": (WEIGHTS,),
    "feature_projection": (WEIGHTS,),
    "recursive_sweeps": (
        (
            lambda has: (
                len(has.of("recursive_mix")) > 1
                or (bool(has.of("recursive_mix")) and has.several("beta", "objective.head"))
            ),
            "no two settings of recursive_mix were trained",
        ),
    ),
    "mixing_depth": (SAMPLES,),
    "step_dependence": (SAMPLES,),
    "overhead": (SEVERAL, LOGS),
    "best_and_last": (),
    "temporary_teachers": (
        (
            lambda has: has.several("teaching", "teaching.teachers", "teaching.restart"),
            "all runs are taught in one way",
        ),
    ),
    "teacher_distance": ((lambda has: has.distances, "no run logged distances to its teachers"),),
    "switching_period": (
        FOLLOWING,
        (
            lambda has: has.several("teaching.period", "teaching.teachers"),
            "all runs have one period and one number of teachers",
        ),
    ),
    "shift_schemes": (
        FOLLOWING,
        (lambda has: has.several("teaching.then"), "no shift has a scheme of its own beside others"),
    ),
}


def offers(study: Study, asked: tuple[str, ...] = ()) -> tuple[Offer, ...]:
    """Every analysis on request that was not asked, those that fit first.

    Args:
        study: The study.
        asked: Names of those that are on the page already.
    """
    rest = [name for name in analyses.ON_REQUEST if name not in asked]
    if not rest:
        return ()
    if study.used.empty:
        found = [Offer(name, _question(name), False, "no run is in the numbers") for name in rest]
    else:
        has = traits(study)
        found = [_offer(name, has) for name in rest]
    return tuple(sorted(found, key=lambda offer: {True: 0, None: 1, False: 2}[offer.fits]))


def _offer(name: str, has: Traits) -> Offer:
    if name not in NEEDS:
        return Offer(name, _question(name), None, "")
    lacking = next((words for test, words in NEEDS[name] if not test(has)), "")
    return Offer(name, _question(name), not lacking, lacking)


def _question(name: str) -> str:
    module: Any = analyses.get(name)
    return " ".join(module.QUESTION.split())


def command(root: Path, names: tuple[str, ...]) -> str:
    """The command that asks them."""
    return f"python -m reports.build {shlex.quote(str(root))} --ask {','.join(names)}"


def summary(found: tuple[Offer, ...]) -> str:
    """How many fit, in a sentence."""
    fit = sum(offer.fits is True for offer in found)
    if not fit:
        return "No further question fits what this study kept."
    return f"{count(fit, 'further question')} {'fits' if fit == 1 else 'fit'} what this study kept."


def fitting(found: tuple[Offer, ...]) -> Iterator[str]:
    """Names of those that fit."""
    return (offer.name for offer in found if offer.fits)
