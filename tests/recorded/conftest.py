"""Runs to estimate from: made by the Recorder itself, with what it was given kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdstats.records.recorder import Recorder

IMAGES, BATCH, CLASSES = 46, 8, 5


def logits(rng: np.random.Generator, hard: np.ndarray, spread: float) -> np.ndarray:
    """Logits that carry something of the image."""
    return (2 * hard + spread * rng.normal(size=(len(hard), CLASSES))).astype(np.float32)


def cross_entropy(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """``−Σ_c p_t log p_s`` in float64."""
    t, s = (
        x.astype(np.float64) - np.log(np.exp(x.astype(np.float64)).sum(1, keepdims=True))
        for x in (teacher, student)
    )
    return -(np.exp(t) * s).sum(1)


def record(
    folder: Path,
    *,
    seed: int = 0,
    epochs: int = 6,
    views: bool = True,
    drop: int = 0,
    pick: bool = False,
    **meta: Any,
) -> dict[tuple[int, int, int, int], tuple[int, float]]:
    """Records a run; returns ``(epoch, step, view, slot)`` → image and cross-entropy.

    ``drop`` leaves so many images out of every epoch, other ones each time; ``pick`` gives random images as views.
    """
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(99).normal(size=(IMAGES, CLASSES))
    told: dict[tuple[int, int, int, int], tuple[int, float]] = {}
    with Recorder(folder, classes=CLASSES, meta={"scheme": "cutmix", "seed": seed, **meta}) as recorder:
        for epoch in range(1, epochs + 1):
            recorder.start_epoch(epoch)
            order = rng.permutation(IMAGES)[: IMAGES - drop]
            for step, start in enumerate(range(0, len(order), BATCH)):
                ids = order[start : start + BATCH]
                for view in range(1 + views):
                    shown = rng.choice(ids, len(ids)) if view and pick else ids
                    teacher, student = (logits(rng, hard[shown], spread) for spread in (0.5, 1.0))
                    recorder.add(
                        step=step,
                        sample_id=shown,
                        labels=shown % CLASSES,
                        teacher_logits=teacher,
                        student_logits=student,
                        view=("original", "augmented")[view],
                    )
                    for slot, value in enumerate(cross_entropy(teacher, student)):
                        told[epoch, step, view, slot] = int(shown[slot]), float(value)
            recorder.end_epoch()
    return told


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Path, dict[tuple[int, int, int, int], tuple[int, float]]]]:
    """A maker of runs under one folder."""

    def one(
        name: str = "run", **options: Any
    ) -> tuple[Path, dict[tuple[int, int, int, int], tuple[int, float]]]:
        return tmp_path / name, record(tmp_path / name, **options)

    return one
