"""T. stddev from batch-level units: the published estimand for a fraction of the passes.

The published protocol takes the sd over pools of b batches. The variance of a pool mean follows from the
variance of a batch mean, of which the same passes give b times as many; what is left over is the correction
for drawing an epoch without replacement (:mod:`kdstats.estimators.layout`). What is known of the batches beforehand is
taken out on the log scale (:mod:`kdstats.estimators.controls`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.controls import ALL_ORIGINALS, NOTHING, Control, Known, controls, take_out
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.log_value import LogValue, log_jackknife
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.tstddev import all_equal
from kdstats.estimators.within_epochs import within_epochs

Array = NDArray[np.float64]
LEAST_UNITS = 10
_UNITS_FOR_CONTROLS = 60
_NOT_ZERO = (
    "the control variate '{}' is not zero on average as it should be, so it was left out: do views depend on more than "
    "their image, their partner and the draw? `kdstats schemes check` says more"
)


def from_batches(
    originals: Array,
    views: Array,
    epoch: NDArray[np.int64],
    layout: PoolLayout,
    moments: OriginalsMoments,
    share: float = 0.5,
    known: Known = NOTHING,
) -> LogValue:
    """T. stddev of the pools of ``layout`` from batch means.

    Args:
        originals: ``[J, C]`` mean probability of each batch of originals.
        views: ``[J, C]`` mean probability of the views of the same batch.
        epoch: ``[J]`` epoch of each batch; within an epoch batches are disjoint.
        layout: The protocol whose expected value is estimated.
        moments: Spread of single originals; its ``between`` share sizes the finite-population correction, and
            if ``exact`` it is a control variate.
        share: Share of the originals among the inputs, one half unless picking keeps another number of views.
        known: What else is known of the batches, for more control variates.

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
    served = _pool_variance(originals, views, epoch, layout, moments, share)
    value = float(np.sqrt(served[0]).mean())
    logs = log_jackknife(value, np.sqrt(served[1]).mean(axis=1), "batches")
    exact = moments.total / layout.batch_size if moments.exact else None
    # Several slopes follow the noise of few batches, which biases the value by the order of one over their number.
    known = known if df >= _UNITS_FOR_CONTROLS else NOTHING
    taken, notes = _usable(controls(originals, views, epoch, known, exact, served), known)
    if not taken:
        return LogValue(
            math.exp(logs.corrected), logs.corrected, logs.pseudo, df, bias=logs.bias, notes=notes
        )
    found = take_out(taken, logs, known.drawn)
    centre = float(found.pseudo.mean())
    slope = found.slopes[-1] if taken[-1].name == ALL_ORIGINALS else 0.0
    return LogValue(
        value=math.exp(centre),
        centre=centre,
        pseudo=found.pseudo,
        df=df - found.rank,
        control_slope=slope,
        control_se=moments.log_se,
        law_se=found.law_se,
        bias=found.bias,
        controls=tuple(control.name for control in taken),
        notes=notes,
    )


def _usable(found: list[Control], known: Known) -> tuple[list[Control], tuple[str, ...]]:
    """The controls that are what they are said to be, and a note on each of the others."""
    unlike = known.drawn is not None and known.drawn.refuted
    kept = [c for c in found if not (unlike if c.drawn else c.refuted)]
    return kept, tuple(_NOT_ZERO.format(c.name) for c in found if c not in kept)


def _pool_variance(
    originals: Array,
    views: Array,
    epoch: NDArray[np.int64],
    layout: PoolLayout,
    moments: OriginalsMoments,
    share: float,
) -> tuple[Array, Array]:
    """``[C]`` expected variance of a pool mean, with the finite-population correction; delete-one values ``[J, C]``.

    The between-image variance of w · original + (1 − w) · view is ``w² S_o + 2 w (1 − w) S_ov + (1 − w)² S_v``,
    w the originals' share. S_o and S_ov come from the
    same batch means, scaled by ``moments.between``, so that their errors cancel in the ratio to the variance
    (for identity wholly; with S_o from ``moments.total`` the ratio is convex in the error, and the factor came
    out 0.2 % low for 40 batches of 1,280 images). S_v is not identified by single draws and is taken at its
    lower bound S_ov²/S_o, which is exact for identity and errs towards a larger value otherwise. The correction
    is at most (pool inputs / 2) / N of the variance: 0.6 % for CIFAR-100, 25 % for the digits.
    """
    n = layout.batch_size
    pooled = share * originals + (1 - share) * views
    parts = (
        within_epochs(pooled, epoch),
        within_epochs(originals, epoch),
        within_epochs(originals, epoch, views),
    )

    def corrected(variance: Array, of_originals: Array, linked: Array) -> Array:
        between = np.maximum(moments.between * n * of_originals, 1e-300)
        shared = np.clip(moments.between * n * linked, 0.0, None)
        image = np.minimum((share * between + (1 - share) * shared) ** 2 / between, n * variance)
        pool = layout.per_batch * variance
        return np.asarray(np.clip(pool - layout.finite * image / layout.images, 0.05 * pool, pool))

    whole, left = zip(*parts, strict=True)
    return corrected(*whole), corrected(*left)


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
