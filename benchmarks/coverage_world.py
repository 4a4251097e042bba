"""A finite training set with known outputs, drawn in epochs without replacement, and its true T. stddev."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage_case import Array
from kdstats.estimators.layout import PoolLayout


@dataclass(frozen=True)
class World:
    """N images with outputs ``a`` and views ``b``; noise per image (standard augmentation) and per batch (scheme)."""

    a: Array
    b: Array
    base: float = 0.03
    shared: float = 0.02
    batch: int = 64

    @staticmethod
    def of(kind: str, images: int, classes: int) -> World:
        rng = np.random.default_rng(5)
        z = rng.normal(size=(images, classes))
        z[np.arange(images), rng.integers(0, classes, images)] += 5
        if kind == "identity":
            return World(softmax(z), softmax(z), shared=0.0)
        own = 1.5 * rng.normal(size=z.shape) if kind == "loose" else 0.0
        return World(softmax(z), softmax((0.6 if kind == "loose" else 0.4) * z + own))

    @property
    def layout(self) -> PoolLayout:
        return PoolLayout.of(len(self.a), self.batch, 5, 10)

    @property
    def truth(self) -> float:
        """The root of the protocol's expected variance, from the layout's identity and the true moments."""
        images, classes = self.a.shape
        between = (0.5 * (self.a + self.b)).var(0, ddof=1)
        within = self.base**2 * (1 - 1 / classes) * (1.0 if self.shared == 0 else 0.25)
        unit = (between + within) / self.batch + self.shared**2 * (1 - 1 / classes) / 4
        return float(np.sqrt(self.layout.per_batch * unit - self.layout.finite * between / images).mean())

    def epochs(self, rng: np.random.Generator, count: int) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        """The first ``count`` batches of consecutive epochs: means of originals and views, sizes, epochs."""
        images, classes = self.a.shape
        starts = np.arange(0, images, self.batch)
        sizes = np.diff([*starts, images])[:, None].astype(float)
        both = np.hstack([self.a, self.b])
        means, noises, own = [], [], []
        epochs = -(-count // len(starts))
        for _ in range(epochs):
            means.append(np.add.reduceat(both[rng.permutation(images)], starts, axis=0) / sizes)
            noises.append(self.base * balanced(rng, len(starts), classes) / np.sqrt(sizes))
            own.append(noises[-1] if self.shared == 0 else self.shared * balanced(rng, len(starts), classes))
        o, v = np.split(np.concatenate(means), 2, axis=1)
        epoch = np.repeat(np.arange(epochs), len(starts))
        n = np.tile(sizes[:, 0], epochs)
        return (
            (o + np.concatenate(noises))[:count],
            (v + np.concatenate(own))[:count],
            n[:count],
            epoch[:count],
        )


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def balanced(rng: np.random.Generator, *shape: int) -> Array:
    """Normal noise whose rows sum to zero, so that probabilities keep summing to one."""
    x = rng.normal(size=shape)
    return np.asarray(x - x.mean(-1, keepdims=True))
