"""Layouts with planted variance components."""

from __future__ import annotations

import numpy as np

from kdstats.estimators.crossed import Crossed

PLANTED = {"image": 1.0, "view": 0.3, "image_epoch": 0.2, "batch": 0.1, "batch_view": 0.15, "residual": 0.6}


def layout(seed: int, n: int, epochs: int, views: int, size: int, *, known: bool = True) -> Crossed:
    rng = np.random.default_rng(seed)
    batch = np.stack([rng.permutation(np.arange(n) // size) for _ in range(epochs)], axis=1)
    steps, sd = -(-n // size), {k: v**0.5 for k, v in PLANTED.items()}
    y = sd["image"] * rng.normal(size=(n, 1, 1)) + sd["view"] * rng.normal(size=(n, 1, views))
    y = (
        y
        + sd["image_epoch"] * rng.normal(size=(n, epochs, 1))
        + sd["residual"] * rng.normal(size=(n, epochs, views))
    )
    shared = sd["batch"] * rng.normal(size=(epochs, steps, 1)) + sd["batch_view"] * rng.normal(
        size=(epochs, steps, views)
    )
    y = y + shared[np.arange(epochs)[None, :], batch] + rng.normal(size=(1, epochs, views))
    return Crossed(y, batch if known else None)
