"""From a study file to its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdstats.data import LabelledImages
from kdstats.teacher.network import Network
from runners import recipes
from runners.config import StudyFile
from runners.recipes import Recipe
from runners.run_spec import RunSpec


def make_specs(study: StudyFile, train_set: LabelledImages, teachers: Mapping[str, Network]) -> list[RunSpec]:
    """All runs of the grid, seeds outermost, so that an interrupted study has whole columns."""
    images = study.study
    shared: dict[str, Any] = {
        "dataset": images.dataset,
        "data": images.data,
        "img_size": images.img_size,
        "classes": images.classes,
        "per_class": images.per_class,
        "val_split": images.val_split,
        "teaching": study.teaching.resolve(),
        **study.kd.fields(),
        **study.train.fields(),
    }
    return [
        RunSpec(
            **shared,
            dataset_sha256=train_set.digest,
            teacher=teacher,
            teacher_weights=teachers[teacher].source,
            teacher_arch=teachers[teacher].arch,
            teacher_sha256=teachers[teacher].sha256,
            student=student,
            scheme=scheme,
            seed=seed,
            recipe=recipe_of(study, student),
            draws=study.grid.draws,
            log_every=study.log.every,
            log_dtype=study.log.dtype,
        )
        for seed in study.grid.seeds
        for teacher, _, student in (pair.partition("/") for pair in study.grid.pairs)
        for scheme in study.grid.schemes
    ]


def recipe_of(study: StudyFile, student: str) -> Recipe:
    """The recipe of a student on this machine: some published ones give light networks another rate."""
    recipe = recipes.for_student(study.train.recipe, student)
    return recipe.with_epochs(study.train.epochs).on_this_machine()


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def default_workers() -> int:
    """One process per core: a small network does not fill several threads, many of them fill the machine."""
    return os.cpu_count() or 1


def whole_epochs(metrics: Path) -> int:
    """Whole epochs of a run so far: the lines of its metrics, 0 where there are none yet."""
    try:
        with metrics.open("rb") as stream:
            return sum(1 for _ in stream)
    except OSError:
        return 0
