"""T. stddev from batch-level units: the published estimand for a fraction of the passes.

The published protocol takes the sd over pools of b batches. The variance of a pool mean follows from the
variance of a batch mean, of which the same passes give b times as many; what is left over is the correction
for drawing an epoch without replacement (:mod:`kdstats.estimators.layout`). If the variance of an original's
probability is known from a pass over the finite training set, the same units' originals serve as a control
variate (a regression estimator on the log scale, Cochran 1977, chapter 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.log_value import LogValue, log_jackknife
from kdstats.estimators.tstddev import all_equal

Array = NDArray[np.float64]
LEAST_UNITS = 10


@dataclass(frozen=True, slots=True)
class OriginalsMoments:
    """Spread of the teacher's probabilities over the originals, from a pass under the standard augmentation.

    Attributes:
        total: ``[C]`` variance of one image's probability over images and standard augmentation.
        between: Share of it that lies between images (the rest is the standard augmentation), 0 … 1.
        exact: Whether ``total`` comes from all images of the training set, so that it may serve as a control.
        log_se: What the standard augmentation's chance leaves uncertain in ``log mean_c sqrt(total_c)``; with
            the images all seen, nothing else does.
    """

    total: Array
    between: float
    exact: bool
    log_se: float = 0.0

    @staticmethod
    def of(first: Array, second: Array | None, *, exact: bool) -> OriginalsMoments:
        """From probabilities ``[m, C]`` of m images, and of the first m' ≤ m of them under a second draw."""
        first = np.asarray(first, dtype=np.float64)  # sums over all images in float32 lose the fourth digit
        total = first.var(axis=0, ddof=1)
        if second is None:
            return OriginalsMoments(total, 1.0, exact)
        second = np.asarray(second, dtype=np.float64)
        head = first[: len(second)]
        # Two draws of the same image share what lies between images and nothing else.
        covariance = ((head - head.mean(axis=0)) * (second - second.mean(axis=0))).sum() / (len(second) - 1)
        spread = 0.5 * (head.var(axis=0, ddof=1).sum() + second.var(axis=0, ddof=1).sum())
        between = float(np.clip(covariance / spread, 0.0, 1.0)) if spread else 1.0
        # Influence of an image on log mean_c sqrt(total_c), under either draw; half their squared difference is
        # the part that the draw is responsible for.
        sd, centre = np.sqrt(total), first.mean(axis=0)
        weight = np.divide(0.5 / sd.sum(), sd, out=np.zeros_like(sd), where=sd > 0)
        gap = ((head - centre) ** 2 - (second - centre) ** 2) @ weight
        return OriginalsMoments(total, between, exact, float(np.sqrt(0.5 * (gap**2).mean() / len(first))))


def from_batches(
    originals: Array,
    views: Array,
    epoch: NDArray[np.int64],
    layout: PoolLayout,
    moments: OriginalsMoments,
    share: float = 0.5,
) -> LogValue:
    """T. stddev of the pools of ``layout`` from batch means.

    Args:
        originals: ``[J, C]`` mean probability of each batch of originals.
        views: ``[J, C]`` mean probability of the views of the same batch.
        epoch: ``[J]`` epoch of each batch; within an epoch batches are disjoint.
        layout: The protocol whose expected value is estimated.
        moments: Spread of single originals; its ``between`` share sizes the finite-population correction, and
            if ``exact`` it is the control variate.
        share: Share of the originals among the inputs, one half unless picking keeps another number of views.

    Raises:
        UsageError: Shapes that do not fit, fewer than 10 batches, or too few of them in one epoch.
        CheckError: Nothing varies.
    """
    if originals.shape != views.shape or originals.ndim != 2 or len(epoch) != len(originals):
        raise UsageError(
            f"batch means of shapes {originals.shape} and {views.shape} for {len(epoch)} batches"
        )
    if len(originals) < LEAST_UNITS:
        raise UsageError(f"at least {LEAST_UNITS} batches are needed, not {len(originals)}")
    df = len(originals) - len(np.unique(epoch))
    if df < 3:
        raise UsageError(
            f"{len(originals)} batches in {len(np.unique(epoch))} epochs leave no spread within epochs"
        )
    pooled = share * originals + (1 - share) * views
    if all_equal(pooled):
        raise CheckError(f"all {len(pooled)} batch means are equal: nothing varies")
    variance, left = within_epochs(pooled, epoch)
    keep = _finite_factor(variance, originals, views, epoch, layout, moments, share)
    scale = math.sqrt(layout.per_batch)
    value = scale * float(np.sqrt(keep * variance).mean())
    logs = log_jackknife(value, scale * np.sqrt(keep * left).mean(axis=1), "batches")
    bias = logs.corrected - math.log(value)
    if not moments.exact:
        return LogValue(math.exp(logs.corrected), logs.corrected, logs.pseudo, df, bias=bias)
    variance_o, left_o = within_epochs(originals, epoch)
    control = log_jackknife(float(np.sqrt(variance_o).mean()), np.sqrt(left_o).mean(axis=1), "originals")
    known = math.log(float(np.sqrt(moments.total / layout.batch_size).mean()))
    centred = control.pseudo - control.corrected
    slope = float(centred @ logs.pseudo) / float(centred @ centred) if centred.any() else 0.0
    pseudo = logs.pseudo - slope * (control.pseudo - known)
    # The control's square root is biased alike, and the two biases cancel as far as the slope goes.
    bias -= slope * (control.corrected - math.log(float(np.sqrt(variance_o).mean())))
    centre = float(pseudo.mean())
    return LogValue(math.exp(centre), centre, pseudo, df - 1, slope, moments.log_se, bias)


def within_epochs(units: Array, epoch: NDArray[np.int64]) -> tuple[Array, Array]:
    """Variance within epochs ``[C]`` and its delete-one values ``[J, C]``.

    Within an epoch of disjoint batches the sample variance has the expectation of independent draws, so pooling
    within epochs removes the effect of sampling without replacement.
    """
    _, index, counts = np.unique(epoch, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), units.shape[1]))
    np.add.at(means, index, units)
    means /= counts[:, None]
    squares = (units - means[index]) ** 2
    df = len(units) - len(counts)
    members = counts[index][:, None].astype(float)
    total = squares.sum(axis=0)
    # A unit alone in its epoch holds no information about the variance; leaving it out changes nothing.
    lone = members == 1
    removed = np.where(lone, 0.0, members / np.maximum(members - 1, 1) * squares)
    left_df = np.where(lone, df, df - 1)
    return total / df, np.maximum(total - removed, 0.0) / left_df


def _finite_factor(
    variance: Array,
    originals: Array,
    views: Array,
    epoch: NDArray[np.int64],
    layout: PoolLayout,
    moments: OriginalsMoments,
    share: float,
) -> Array:
    """``[C]`` share of the independent-draws variance that is left after the finite-population correction.

    The between-image variance of w · original + (1 − w) · view is ``w² S_o + 2 w (1 − w) S_ov + (1 − w)² S_v``,
    w the originals' share. S_o and S_ov come from the
    same batch means, scaled by ``moments.between``, so that their errors cancel in the ratio to ``variance``
    (for identity wholly; with S_o from ``moments.total`` the ratio is convex in the error, and the factor came
    out 0.2 % low for 40 batches of 1,280 images). S_v is not identified by single draws and is taken at its
    lower bound S_ov²/S_o, which is exact for identity and errs towards a larger value otherwise. The correction
    is at most (pool inputs / 2) / N of the variance: 0.6 % for CIFAR-100, 25 % for the digits.
    """
    n = layout.batch_size
    _, index = np.unique(epoch, return_inverse=True)
    means_o, means_v = (_centre(units, index) for units in (originals, views))
    df = len(originals) - (int(index.max()) + 1)
    between = np.maximum(moments.between * n * (means_o**2).sum(axis=0) / df, 1e-300)
    shared = np.clip(moments.between * n * (means_o * means_v).sum(axis=0) / df, 0.0, None)
    image = (share * between + (1 - share) * shared) ** 2 / between
    image = np.minimum(image, n * variance)
    per_pool = np.maximum(layout.per_batch * variance, 1e-300)
    return np.asarray(np.clip(1 - layout.finite * image / layout.images / per_pool, 0.05, 1.0))


def _centre(units: Array, index: NDArray[np.int64]) -> Array:
    means = np.zeros((int(index.max()) + 1, units.shape[1]))
    np.add.at(means, index, units)
    means /= np.bincount(index)[:, None]
    return np.asarray(units - means[index])


def in_pools(units: Array, epoch: NDArray[np.int64], size: int) -> tuple[Array, NDArray[np.int64]]:
    """Means of ``size`` consecutive units of one epoch ``[K, C]``, and their epochs ``[K]``.

    For batches that depend on the one before: the variance of a pool then does not follow from that of a batch.
    What is left over at the end of an epoch belongs to no pool.
    """
    starts = [
        int(first) + k * size
        for e in np.unique(epoch)
        for first, count in [(np.flatnonzero(epoch == e)[0], int((epoch == e).sum()))]
        for k in range(count // size)
    ]
    means = [units[start : start + size].mean(axis=0) for start in starts]
    return np.array(means).reshape(len(starts), units.shape[1]), epoch[starts] if starts else epoch[:0]
