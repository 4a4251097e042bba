"""From a study file to its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdstats.data import LabelledImages
from kdstats.errors import UsageError
from kdstats.estimators.layout import BATCHES_PER_POOL
from kdstats.teacher.network import Network
from runners import recipes
from runners.recipes import Recipe
from runners.run_spec import RunSpec
from runners.study_file import StudyFile
from runners.training.ranks import ALONE
from runners.training.setup import parts_of


def make_runs(
    study: StudyFile, train_set: LabelledImages, teachers: Mapping[str, Network]
) -> list[tuple[str, RunSpec]]:
    """All runs of the grid, with their variants; seeds outermost, so that an interrupted study has whole columns.

    Raises:
        UsageError: Two variants make the same run.
    """
    arms = study.arms
    rows = {name: _rows(arm, train_set, teachers) for name, arm in arms.items()}
    runs: list[tuple[str, RunSpec]] = []
    owners: dict[str, str] = {}
    for seed in study.over_arms("seeds"):
        for name, arm in arms.items():
            if seed not in arm.grid.seeds:
                continue
            for row in rows[name]:
                spec = RunSpec(**row, seed=seed)
                twin = owners.setdefault(spec.digest, name) if len(arms) > 1 else name
                if twin != name:
                    raise UsageError(
                        f"variants {twin!r} and {name!r} both make the run {spec.title}; leave it to one of them"
                    )
                runs.append((name, spec))
    return runs


def check_runs(study: StudyFile, train_set: LabelledImages) -> None:
    """Makes the schemes and losses of all runs once, before any teacher is trained.

    Raises:
        UsageError: What every run of a variant, pair and scheme would refuse; the first of them is named.
    """
    size = study.train.resolve().batch_size
    if (
        any(arm.teaching.kind == "fixed" for arm in study.arms.values())
        and len(train_set) < size * BATCHES_PER_POOL
    ):
        raise UsageError(
            f"T. stddev is measured over pools of {BATCHES_PER_POOL} batches of {size}, so a study needs "
            f"{size * BATCHES_PER_POOL} training images or more, and {train_set.name} has {len(train_set)} as chosen: "
            "take more of them (study.per_class, study.classes, study.val_split) or a recipe with smaller batches"
        )
    seen = set()
    for name, spec in make_runs(study, train_set, {}):
        if (name, spec.teacher, spec.student, spec.scheme) in seen:
            continue
        seen.add((name, spec.teacher, spec.student, spec.scheme))
        try:
            parts_of(spec, train_set, ALONE)
        except UsageError as error:
            raise UsageError(f"{spec.title}{f' [{name}]' if name else ''}: {error}") from None


def make_specs(study: StudyFile, train_set: LabelledImages, teachers: Mapping[str, Network]) -> list[RunSpec]:
    """As :func:`make_runs`, without the names of the variants."""
    return [spec for _, spec in make_runs(study, train_set, teachers)]


def _rows(arm: StudyFile, train_set: LabelledImages, teachers: Mapping[str, Network]) -> list[dict[str, Any]]:
    """The fields of a study without variants, one entry for each pair and scheme; they hold for every seed."""
    images = arm.study
    shared: dict[str, Any] = {
        "dataset": images.dataset,
        "data": images.data,
        "img_size": images.img_size,
        "classes": images.classes,
        "per_class": images.per_class,
        "val_split": images.val_split,
        "teaching": arm.teaching.resolve(),
        **arm.kd.fields(),
        **arm.train.fields(),
        "dataset_sha256": train_set.digest,
        "draws": arm.grid.draws,
        "log_every": arm.log.every,
        "log_dtype": arm.log.dtype,
    }
    rows = []
    for teacher, _, student in (pair.partition("/") for pair in arm.grid.pairs):
        network = teachers.get(teacher)  # none where the teachers are averages of the student
        sides: dict[str, Any] = {
            "teacher": teacher,
            "teacher_weights": "" if network is None else network.source,
            "teacher_arch": student if network is None else network.arch,
            "teacher_sha256": "" if network is None else network.sha256,
            "student": student,
            "recipe": recipe_of(arm, student),
        }
        rows += [{**shared, **sides, "scheme": scheme} for scheme in arm.grid.schemes]
    return rows


def recipe_of(study: StudyFile, student: str) -> Recipe:
    """The recipe of a student on this machine: some published ones give light networks another rate."""
    recipe = recipes.for_student(study.train.recipe, student)
    return recipe.with_epochs(study.train.epochs).on_this_machine()
