"""Images whose views mix two of them under a teacher that is not linear, and the true T. stddev of that."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage_case import Array
from benchmarks.coverage_world import softmax
from kdstats.estimators.controls import Drawn, Known, Pairs
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.within_epochs import within_epochs


@dataclass(frozen=True)
class Batches:
    """What a probe keeps of J batches, and how it came about."""

    o: Array
    v: Array
    epoch: NDArray[np.int64]
    own: Pairs
    linked: Pairs
    lam: Array

    def known(self, rng: np.random.Generator, draws: int) -> Known:
        """All that can be known of them, the law of λ from ``draws`` draws."""
        law = rng.random(draws)
        rows = np.stack([law, law**2], 1)
        values = np.stack([self.lam, self.lam**2], 1)
        return Known(self.own, self.linked, Drawn(values, rows.mean(0), np.cov(rows.T), draws))


@dataclass(frozen=True)
class MixingWorld:
    """N images whose views mix two of them with one uniform λ per batch, under a teacher that is not linear: λ near a
    half softens the view by ``soft`` and tilts it by ``tilt`` in a direction of its own."""

    z: Array
    direction: Array
    soft: float = 0.5
    tilt: float = 1.0
    noise: float = 0.3
    size: int = 64

    @staticmethod
    def of(images: int, classes: int, soft: float = 0.5) -> MixingWorld:
        rng = np.random.default_rng(5)
        z = rng.normal(size=(images, classes))
        z[np.arange(images), rng.integers(0, classes, images)] += 4
        return MixingWorld(z, rng.normal(size=classes), soft)

    def probe(self, rng: np.random.Generator, units: int) -> Batches:
        """The first ``units`` batches of epochs without replacement."""
        images, size = len(self.z), self.size
        per = images // size
        epochs = -(-units // per)
        orders = [rng.permutation(images)[: per * size].reshape(per, size) for _ in range(epochs)]
        rows, epoch = np.concatenate(orders)[:units], np.repeat(np.arange(epochs), per)[:units]
        p = softmax(self.z[rows] + self.noise * rng.normal(size=(units, size, self.z.shape[1])))
        lam = rng.random(units)
        cycle = np.argsort(rng.random((units, size)), 1)
        partner = np.empty_like(cycle)
        np.put_along_axis(partner, cycle, np.roll(cycle, -1, 1), 1)
        other = np.take_along_axis(p, partner[:, :, None], 1)
        share = lam[:, None, None]
        bent = 4 * share * (1 - share)
        mixed = np.log(share * p + (1 - share) * other)
        v = softmax((1 - self.soft * bent) * mixed + self.tilt * bent * self.direction)
        return Batches(
            p.mean(1),
            v.mean(1),
            epoch,
            Pairs((p * p).sum(1) / size**2, p.mean(1) / size),
            Pairs(((p + other) * v).sum(1) / size**2, 2 * v.mean(1) / size),
            lam,
        )

    def layout(self) -> PoolLayout:
        """Without the finite-population correction, whose bound is another question."""
        return replace(PoolLayout.of(len(self.z), self.size, 5, 10), finite=0.0)

    def truth(self, batches: int) -> float:
        """T. stddev of :meth:`layout`, from so many batches."""
        rng = np.random.default_rng(99)
        per = len(self.z) // self.size
        found = [self.probe(rng, per) for _ in range(batches // per)]
        variance = np.mean([within_epochs(0.5 * (b.o + b.v), b.epoch)[0] for b in found], axis=0)
        return float(np.sqrt(self.layout().per_batch * variance).mean())
