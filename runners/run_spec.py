"""What one student run is: everything that decides its numbers, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from kdstats.data import Selection
from kdstats.records.paths import RunPaths
from runners.recipes import Recipe
from runners.training.teaching import Teaching

ORIGINALS = {
    "kept": "originals and views are both trained on (Wang et al. 2022)",
    "replaced": "views take the place of the originals (MIX-KD, RecursiveMix)",
}
PASSES = {
    "two": "originals and views go through the student apart, two batches for BatchNorm, as published",
    "joint": "originals and views go through the student together, one batch for BatchNorm",
}


@dataclass(frozen=True)
class RunSpec:
    """One student under one scheme with one seed.

    Attributes:
        dataset: Data set name.
        data: Folder with its files; does not enter the digest, the data's own sha256 does.
        dataset_sha256: Of the training images' source.
        teacher: Name of the teacher, for people and folders.
        teacher_weights: Weights file; its sha256 enters the digest, its place does not.
        teacher_arch: Architecture.
        teacher_sha256: Of the weights.
        student: Architecture of the student.
        scheme: Augmentation scheme of the views.
        seed: Of initialisation, order, standard augmentation and draws.
        recipe: Optimisation.
        draws: ``batch`` or ``sample``.
        temperature: T of the distillation loss.
        gamma: Weight γ of the cross-entropy with the labels.
        alpha: Weight α of the distillation term of the originals, and of that of the views (but see alpha_views).
        targets: What the views are taught, see :data:`kdstats.schemes.TARGETS`.
        log_every: Record the samples of every k-th epoch.
        log_dtype: ``float32`` or ``float16`` on disk.
        img_size: Height and width that images are brought to; None leaves them.
        classes: Only these, see :class:`kdstats.data.Selection`; None for all.
        per_class: So many training images of each class; None for all.
        val_split: Share of the training images that is held out to choose the best epoch; None chooses it by test
            images.
        objective: The loss L beside CE and KL, see :mod:`runners.objectives`; ``kd`` is KL alone.
        objective_params: Its own parameters, pairs of name and value.
        beta: Weight β of L.
        student_temperature: T of the student where it is not the teacher's.
        alpha_views: Weight of the views' distillation where it is not α.
        originals: See :data:`ORIGINALS`.
        passes: See :data:`PASSES`.
        teaching: Teachers that follow the student; None for the fixed one.
        determinism: See :data:`runners.training.switches.DETERMINISM`.
        channels_last: Memory layout of images and student.
        compile: See :data:`runners.training.switches.COMPILE`.
        fold_teacher: Whether the teacher's BatchNorm is folded into its convolutions.
    """

    dataset: str
    data: str | None
    dataset_sha256: str
    teacher: str
    teacher_weights: str
    teacher_arch: str
    teacher_sha256: str
    student: str
    scheme: str
    seed: int
    recipe: Recipe
    draws: str = "batch"
    temperature: float = 4.0
    gamma: float = 0.1
    alpha: float = 0.9
    targets: str = "teacher"
    log_every: int = 1
    log_dtype: str = "float32"
    img_size: int | None = None
    classes: str | None = None
    per_class: int | None = None
    val_split: float | None = None
    objective: str = "kd"
    objective_params: tuple[tuple[str, Any], ...] = ()
    beta: float = 0.0
    student_temperature: float | None = None
    alpha_views: float | None = None
    originals: str = "kept"
    passes: str = "two"
    teaching: Teaching | None = None
    determinism: str = "seeded"
    channels_last: bool = True
    compile: str = "off"
    fold_teacher: bool = False

    @property
    def selection(self) -> Selection:
        """The images."""
        return Selection(self.dataset, self.data, self.img_size, self.classes, self.per_class, self.val_split)

    def resolved(self) -> dict[str, Any]:
        """The fields that decide the numbers, as plain JSON.

        A field that came after the first runs is left out while it has its default, so that their digests stay.
        """
        # Not dataclasses.asdict, which copies every value of every run of a study: recipe and teaching are flat.
        found = {
            name: value for name in _SHOWN if (value := getattr(self, name)) != _LATER.get(name, _ALWAYS)
        }
        for name, names in _NESTED.items():
            if found.get(name) is not None:
                found[name] = {field: getattr(found[name], field) for field in names}
        if "objective_params" in found:
            found["objective_params"] = copy.deepcopy(found["objective_params"])
        return found

    @cached_property
    def digest(self) -> str:
        """sha256 of :meth:`resolved`; its first eight digits name the run's folder."""
        return _digest(self.resolved())

    @property
    def recipe_digest(self) -> str:
        """sha256 of everything but scheme and seed: runs may be compared when these agree."""
        return _digest({k: v for k, v in self.resolved().items() if k not in ("scheme", "seed")})

    @property
    def title(self) -> str:
        """For progress lines and errors."""
        return f"{self.teacher}/{self.student} {self.scheme} seed {self.seed}"

    def paths(self, study: Path) -> RunPaths:
        """Where the run lives under a study."""
        return RunPaths.of(
            study,
            teacher=self.teacher,
            student=self.student,
            scheme=self.scheme,
            seed=self.seed,
            digest=self.digest[:8],
        )


# Fields that the first runs did not have, with their defaults.
_FIRST = ("draws", "temperature", "gamma", "alpha", "log_every", "log_dtype")
_LATER = {f.name: f.default for f in fields(RunSpec) if f.default is not MISSING and f.name not in _FIRST}
_ALWAYS = object()  # equals no value of a field
_SHOWN = tuple(f.name for f in fields(RunSpec) if f.name not in ("data", "teacher_weights"))
_NESTED = {
    "recipe": tuple(f.name for f in fields(Recipe)),
    "teaching": tuple(f.name for f in fields(Teaching)),
}


def _digest(resolved: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()
