"""Variance between batches of one epoch: a one-way analysis of variance in every epoch, pooled.

Within an epoch every image stands in one batch, drawn at random, so the images of a batch vary as images do and
what batches vary more than that is shared by all images of a step: one draw of the scheme, one state of the student.

    variance = (MS_between − MS_within) / n₀,   n₀ = Σ_e (n_e − Σ_b n_b²/n_e) / Σ_e (S_e − 1)

Source: Searle, Casella & McCulloch 1992, section 3.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import UsageError

Array = NDArray[np.float64]
GROUPS = 32


@dataclass(frozen=True, slots=True, eq=False)
class BetweenBatches:
    """The estimate and its delete-a-group-of-batches values.

    Attributes:
        value: Variance between batches; may be negative, being unbiased.
        left: ``[H]`` the same without each of up to 32 groups of batches.
        batches: Number of batches over all epochs.
        between: Mean square between batches.
        within: Mean square within batches.
        spread: κ, mean over epochs of (n − Σ n_b²/n)/(n − 1): share of the variance between batches that lies
            between the images of an epoch.
        per_batch: n₀, images of a batch.
        mean_weight: Mean over epochs of Σ n_b²/n²: share of it that is left in an epoch's mean.
    """

    value: float
    left: Array
    batches: int
    between: float
    within: float
    spread: float
    per_batch: float
    mean_weight: float

    @property
    def image_share(self) -> float:
        """Which share of its standard error would remain if the batches' own effects were fixed (normal theory)."""
        own = max(self.between - self.within, 0.0)
        if not self.within:
            return 0.0
        return math.sqrt(self.within * (self.within + 2 * own)) / max(self.between, self.within)

    @staticmethod
    def of(x: Array, batch: NDArray[np.int64]) -> BetweenBatches:
        """From values ``[n, E]``, or ``[n, E, m]`` for m contrasts of one variance, and batch labels ``[n, E]``.

        Raises:
            UsageError: Fewer than 5 batches, or one image a batch.
        """
        n, epochs = x.shape[:2]
        y = x.reshape(n, epochs, -1)
        m = y.shape[2]
        # Per epoch and group of batches: batches, images, Σ n_b², Σ n_b m_b², squares within, Σ n_b m_b per contrast.
        sums = np.zeros((epochs, GROUPS, 5 + m))
        seen = 0
        by_epoch, labels = np.ascontiguousarray(y.transpose(1, 2, 0)), np.ascontiguousarray(batch.T)
        for e in range(epochs):
            index, size = _numbered(labels[e])
            z = by_epoch[e] - by_epoch[e].mean(axis=1, keepdims=True)
            mean = np.stack([np.bincount(index, column) for column in z], axis=1) / size[:, None]
            rest = z - mean.T[:, index]
            inside = np.bincount(index, np.einsum("mn,mn->n", rest, rest))
            # Groups are rotated from epoch to epoch, so that few batches an epoch fill all of them.
            group = (seen + np.arange(len(size))) % GROUPS
            seen += len(size)
            terms = [np.ones(len(size)), size, size**2, size * (mean**2).sum(axis=1), inside]
            np.add.at(sums[e], group, np.column_stack([*terms, size[:, None] * mean]))
        whole = sums.sum(axis=1, keepdims=True)
        if seen - epochs < 4 or n * epochs - seen < 1:
            several = f"{seen} batches in {epochs} epochs" if epochs > 1 else f"{seen} batches in one epoch"
            raise UsageError(
                f"{several}, with {n * epochs / seen:.3g} images each that are there throughout: too few to tell batches "
                "from images (4 batches more than epochs, and several images each, are needed)"
            )
        between, within, n0 = (float(part[0]) for part in _mean_squares(whole))
        used = sums[:, :, 0].sum(axis=0) > 0
        left = [part[used] for part in _mean_squares(whole - sums)]
        images, squares = whole[:, 0, 1], whole[:, 0, 2]
        return BetweenBatches(
            (between - within) / n0,
            (left[0] - left[1]) / left[2],
            seen,
            between,
            within,
            float(((images - squares / images) / (images - 1)).mean()),
            n0,
            float((squares / images**2).mean()),
        )


def _numbered(labels: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Labels as 0, 1, … in their order, and how often each is there; without sorting where they lie close together."""
    low, high = int(labels.min()), int(labels.max())
    if high - low > 4 * len(labels) + 1024:
        _, index, size = np.unique(labels, return_inverse=True, return_counts=True)
        return index, size
    counts = np.bincount(labels - low)
    place = np.cumsum(counts > 0) - 1
    return place[labels - low], counts[counts > 0]


def _mean_squares(sums: Array) -> tuple[Array, Array, Array]:
    """MS between, MS within and n₀ from sums ``[E, H, 5 + m]``, over epochs; an epoch without batches adds nothing."""
    count, images, squares, second, inside = np.moveaxis(sums[..., :5], 2, 0)
    first, m = (sums[..., 5:] ** 2).sum(axis=2), sums.shape[2] - 5
    some = np.maximum(images, 1.0)
    df = np.maximum(count - 1, 0.0).sum(axis=0)
    between = np.maximum(second - first / some, 0.0).sum(axis=0) / (m * df)
    within = inside.sum(axis=0) / (m * (images - count).sum(axis=0))
    return between, within, (images - squares / some).sum(axis=0) / df
