"""Runs to read: made by the Recorder itself, small and seeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdstats.records.recorder import Recorder

CLASSES = 5


def batch(rng: np.random.Generator, n: int = 8, classes: int = CLASSES) -> dict[str, Any]:
    return {
        "sample_id": rng.integers(0, 1000, n),
        "labels": rng.integers(0, classes, n),
        "teacher_logits": rng.normal(size=(n, classes)).astype(np.float32) * 4,
        "student_logits": rng.normal(size=(n, classes)).astype(np.float32) * 2,
    }


def record(run_dir: Path, *, seed: int = 0, epochs: int = 2, steps: int = 3, **options: Any) -> Path:
    """A run of originals and views, 8 images a batch."""
    rng = np.random.default_rng(seed)
    with Recorder(run_dir, classes=CLASSES, **options) as rec:
        for epoch in range(epochs):
            rec.start_epoch(epoch)
            for step in range(steps):
                rec.add(step=step, **batch(rng))
                partner = rng.integers(0, 1000, 8)
                rec.add(step=step, view="augmented", partner_id=partner, lam=0.25, **batch(rng))
            rec.end_epoch()
    return run_dir


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A maker of recorded runs; names tell runs apart."""

    def make(name: str = "run", **options: Any) -> Path:
        return record(tmp_path / name, **options)

    return make
