"""What one student run is: everything that decides its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdstats.data import Selection
from kdstats.records.paths import RunPaths
from runners.recipes import Recipe

# Fields that came after the first runs, with their defaults.
_LATER: dict[str, Any] = {
    "targets": "teacher",
    "img_size": None,
    "classes": None,
    "per_class": None,
    "val_split": None,
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
        draws: ``batch`` or ``sample``.
        seed: Of initialisation, order, standard augmentation and draws.
        recipe: Optimisation.
        temperature: T of the distillation loss.
        gamma: Weight of the cross-entropy with the labels of the originals.
        alpha: Weight of each of the two distillation terms, originals and views.
        targets: What the views are taught, see :data:`kdstats.schemes.TARGETS`.
        log_every: Record the samples of every k-th epoch.
        log_dtype: ``float32`` or ``float16`` on disk.
        img_size: Height and width that images are brought to; None leaves them.
        classes: Only these, see :class:`kdstats.data.Selection`; None for all.
        per_class: So many training images of each class; None for all.
        val_split: Share of the training images that is held out to choose the best epoch; None chooses it by test
            images.
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

    @property
    def selection(self) -> Selection:
        """The images."""
        return Selection(self.dataset, self.data, self.img_size, self.classes, self.per_class, self.val_split)

    def resolved(self) -> dict[str, Any]:
        """The fields that decide the numbers, as plain JSON.

        A field that came after the first runs is left out while it has its default, so that their digests stay.
        """
        fields = asdict(self)
        for place in ("data", "teacher_weights"):
            del fields[place]
        return {k: v for k, v in fields.items() if k not in _LATER or v != _LATER[k]}

    @property
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


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
