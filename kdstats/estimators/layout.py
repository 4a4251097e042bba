"""How batches of epochs without replacement fall into pools, and what that does to the expected variance.

Within an epoch images are drawn without replacement from a finite training set of N, so batches of one epoch
are negatively correlated and a large pool varies less than independent draws would. With S² the variance
between images, two disjoint sets of one epoch have covariance −S²/N, and a set of n images has
S² (1/n − 1/N) (Cochran 1977, section 2.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdstats.errors import UsageError

BATCHES_PER_POOL = 5  # of the published protocol


def few_pools(per_epoch: float) -> str:
    """Why the interval from so many pools an epoch may be too short; empty where epochs hold enough of them.

    The pools of an epoch share out its images, so few of them depend on each other (benchmarks/coverage.py:
    2 pools an epoch cover 0.82–0.89, 4 or 5 0.93–0.94, 10 0.94–0.95).
    """
    if per_epoch >= 5:
        return ""
    return (
        f"an epoch holds only {per_epoch:.1f} pools, which depend on each other: intervals like this one were "
        "too short in simulation (0.82 to 0.94 instead of 0.95)"
    )


@dataclass(frozen=True, slots=True)
class PoolLayout:
    """What the expected variance over the pools of a protocol is made of.

    For a batch of ``batch_size`` images let v∞ be its variance under independent draws and S² the part of it
    that lies between images, per image. Then ``E[s²] = per_batch · v∞ − finite · S² / N``.

    Attributes:
        images: N, size of the training set.
        batch_size: Images per batch.
        pools: K, whole pools over all epochs.
        per_batch: Mean over pools of batch_size / (images in the pool).
        finite: Weight of the finite-population correction; near (epochs − 1)/epochs.
    """

    images: int
    batch_size: int
    pools: int
    per_batch: float
    finite: float

    @staticmethod
    def of(images: int, batch_size: int, batches_per_pool: int, epochs: int) -> PoolLayout:
        """The layout of ``epochs`` passes with a short last batch; pools may straddle epochs, as published.

        CIFAR-100 at batch 64, 10 epochs gives 1,564 pools, 10 of them with a short batch of 16.

        Raises:
            UsageError: Fewer than two pools.
        """
        sizes = [min(batch_size, images - start) for start in range(0, images, batch_size)]
        counts = np.array(sizes * epochs)
        epoch = np.repeat(np.arange(epochs), len(sizes))
        k = len(counts) // batches_per_pool
        if k < 2:
            raise UsageError(
                f"{images} images in {epochs} epoch{'s' * (epochs > 1)} of batches of {batch_size} make {k} pools of "
                f"{batches_per_pool} batches; at least 2 are needed"
            )
        member = np.arange(k * batches_per_pool) // batches_per_pool
        share = np.zeros((k, epochs))
        np.add.at(share, (member, epoch[: len(member)]), counts[: len(member)])
        inputs = share.sum(axis=1)
        share /= inputs[:, None]
        own = float((share**2).sum())
        shared = float((share.sum(axis=0) ** 2).sum()) - own
        return PoolLayout(
            images, batch_size, k, float((batch_size / inputs).mean()), own / k - shared / (k * (k - 1))
        )

    def doubt(self, batches_per_pool: int) -> str:
        """Why the interval from the protocol's own pools may be too short; see :func:`few_pools`."""
        return few_pools(self.images / (self.batch_size * batches_per_pool))

    def in_units_of(self, batches: int) -> PoolLayout:
        """The same pools, with ``batches`` consecutive batches taken as one unit."""
        return PoolLayout(
            self.images, batches * self.batch_size, self.pools, batches * self.per_batch, self.finite
        )
