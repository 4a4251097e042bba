"""The fixed teachers of a study: given, or trained once before anything else. Teachers that follow a student are none."""

from __future__ import annotations

from pathlib import Path

import torch

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import MissingError
from kdstats.records.paths import StudyPaths
from kdstats.teacher.device import pick_device
from kdstats.teacher.load import load_network, shipped_path
from kdstats.teacher.network import Network
from runners import recipes
from runners.progress import say
from runners.recipes import Recipe
from runners.study_file import StudyFile
from runners.study_file.sections import SELF, TeacherSection
from runners.training.teacher_training import train


def teacher_names(study: StudyFile) -> list[str]:
    """The fixed teachers in the order of the pairs, each once."""
    names = dict.fromkeys(pair.partition("/")[0] for pair in study.over_arms("pairs"))
    return [name for name in names if name != SELF]


def weights_of(study: StudyFile, name: str, paths: StudyPaths) -> str | Path:
    """Where the study's file says the weights are, or where the study keeps those it trains."""
    section = study.teacher.get(name, TeacherSection())
    if section.weights is None:
        return paths.root / "teachers" / f"{name}.safetensors"
    return shipped_path() if section.weights == "shipped" else section.weights


def untrained(study: StudyFile, paths: StudyPaths) -> dict[str, Recipe]:
    """Teacher that the study has yet to train → its recipe."""
    found = {}
    for name in teacher_names(study):
        section = study.teacher.get(name, TeacherSection())
        if section.weights is None and not Path(weights_of(study, name, paths)).is_file():
            recipe = recipes.get(section.recipe or study.train.recipe)
            found[name] = recipe.with_epochs(section.epochs).on_this_machine()
    return found


def trained_teachers(
    study: StudyFile, train_set: LabelledImages, paths: StudyPaths, device: str = "cpu"
) -> dict[str, Network]:
    """The study's teachers, on the CPU; where the file names no weights they are trained first, on ``device``.

    Training takes the threads of this process, not those of a run: a teacher is made once, and its sha256 is part of
    every run's identity.

    Raises:
        MissingError: Weights that are named are not there, or do not fit.
    """
    for name, recipe in untrained(study, paths).items():
        where = pick_device(device)
        say(f"training the teacher {name}, once, on {where}")
        section = study.teacher.get(name, TeacherSection())
        weights = Path(weights_of(study, name, paths))
        test_set = study.study.selection.test().to(where)
        train(name, train_set.to(where), test_set, recipe, section.seed, weights, asked=study.study.selection)
    return {name: _load(study, name, train_set, paths) for name in teacher_names(study)}


def planned_teachers(
    study: StudyFile, train_set: LabelledImages, paths: StudyPaths, scratch: Path
) -> dict[str, Network]:
    """As :func:`trained_teachers`, but fresh weights below ``scratch`` stand in for those not trained yet."""
    missing = untrained(study, paths)
    found = {}
    for name in teacher_names(study):
        if name in missing:
            weights = scratch / f"{name}.safetensors"
            model = models.build(name, train_set.classes, train_set.img_size, train_set.channels)
            models.save_weights(model, weights, {"arch": name, "dataset": train_set.name})
            found[name] = load_network(weights, name, train_set, torch.device("cpu"))
        else:
            found[name] = _load(study, name, train_set, paths)
    return found


def _load(study: StudyFile, name: str, train_set: LabelledImages, paths: StudyPaths) -> Network:
    weights = weights_of(study, name, paths)
    try:
        return load_network(weights, name, train_set, torch.device("cpu"))
    except MissingError as error:
        raise MissingError(f"[teacher.{name}]: {error}") from None
