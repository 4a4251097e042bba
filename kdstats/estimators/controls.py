"""Control variates for T. stddev from batch means: what is known beforehand, on the same batches.

The spread of batch means is noisy because a few dozen batches hold few combinations of images and of draws. Most of that
noise comes from things whose expectation is known:

- different images are drawn independently of each other, so products of two originals, or of an original and a view
  made of other images, add nothing to a covariance on average (:class:`Pairs`);
- the shares λ that a scheme draws have a law that can be had without any network (:class:`Drawn`);
- the spread of single originals is a number of the finite training set
  (:class:`~kdstats.estimators.originals.OriginalsMoments`).

Each control is a statistic of the batches with mean zero, jackknifed like the one that it serves, so that a regression
of the pseudo-values takes out what they have in common (regression estimator, Cochran 1977, chapter 7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstats.estimators.intervals import Jackknife
from kdstats.estimators.log_value import check_spread
from kdstats.estimators.within_epochs import of_pairs, within_epochs

Array = NDArray[np.float64]
ALL_ORIGINALS = "all originals"
# A control that chance moves so far from zero less often than this is not what it is said to be.
_REFUTED = 1e-9


@dataclass(frozen=True, slots=True)
class Pairs:
    """Products of members of the same batch that share an image, see :func:`~kdstats.estimators.within_epochs.of_pairs`.

    Attributes:
        products: ``[J, C]`` their sum over the number of all pairs.
        singles: ``[J, C]`` the sum of the views in them over the number of all pairs.
    """

    products: Array
    singles: Array

    def covariance(self, originals: Array, epoch: NDArray[np.int64]) -> tuple[Array, Array]:
        """Their part in the covariance of the batch means ``[C]``; delete-one values ``[J, C]``."""
        return of_pairs(originals, self.products, self.singles, epoch)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Numbers that a scheme drew for its batches, and what is known of their law.

    Attributes:
        values: ``[J, d]`` one row per batch.
        mean: ``[d]`` expectation of a row.
        covariance: ``[d, d]`` of a row.
        draws: From how many draws without images mean and covariance were taken.
    """

    values: Array
    mean: Array
    covariance: Array
    draws: int

    @property
    def refuted(self) -> bool:
        """Whether the values cannot come from this law: a χ² test of their mean."""
        from scipy.special import chdtrc

        gap = self.values.mean(axis=0) - self.mean
        squared = gap @ np.linalg.pinv(self.covariance, rcond=1e-9, hermitian=True) @ gap
        return float(chdtrc(len(gap), squared / (1 / len(self.values) + 1 / self.draws))) < _REFUTED


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the batches of a probe beyond their means; nothing by default.

    Attributes:
        originals: Each original with itself.
        views: Each view with the originals that it is made of; only where it depends on nothing else of its batch.
        drawn: Shares that were drawn; only where the draw looks at no image.
    """

    originals: Pairs | None = None
    views: Pairs | None = None
    drawn: Drawn | None = None


NOTHING = Known()


@dataclass(frozen=True, slots=True)
class Control:
    """A statistic of the batches whose expectation is zero.

    Attributes:
        name: For messages.
        found: Its jackknife.
        drawn: Whether that expectation is known from a number of draws only, see :class:`Drawn`.
    """

    name: str
    found: Jackknife
    drawn: bool = False

    @property
    def refuted(self) -> bool:
        """Whether it lies too far from zero for chance."""
        from scipy.special import stdtr

        gap, se = abs(self.found.corrected), self.found.se
        return se > 0 and 2 * float(stdtr(len(self.found.pseudo) - 1, -gap / se)) < _REFUTED


def controls(
    originals: Array,
    views: Array,
    epoch: NDArray[np.int64],
    known: Known,
    exact: Array | None,
    served: tuple[Array, Array],
) -> list[Control]:
    """What can be taken out of a T. stddev of these batches; the control by ``exact`` comes last.

    Args:
        originals: ``[J, C]`` batch means.
        views: ``[J, C]`` of the same batches.
        epoch: ``[J]`` their epochs.
        known: What is known of them.
        exact: ``[C]`` variance of a batch mean of originals, from all images of the training set; None if not known.
        served: ``[C]`` and ``[J, C]``: the variances whose mean root is to be controlled, and their delete-one values.

    Raises:
        CheckError: The originals of all batches but one are equal.
    """
    found = []
    if known.originals is not None or exact is not None:
        value, left = _log_mean_root(*within_epochs(originals, epoch))
    if known.originals is not None:
        same, without = known.originals.covariance(originals, epoch)
        below, below_left = _log_mean_root(np.maximum(same, 0.0), np.maximum(without, 0.0))
        found.append(Control("originals of a batch", Jackknife.of(value - below, left - below_left)))
        value, left = below, below_left
    if known.views is not None:
        whole, whole_left = within_epochs(originals, epoch, views)
        same, without = known.views.covariance(originals, epoch)
        gap, gap_left = _in_roots(whole - same, served[0]), _in_roots(whole_left - without, served[1])
        found.append(Control("views and other originals", Jackknife.of(float(gap), gap_left)))
    if known.drawn is not None:
        for power, gaps in enumerate((known.drawn.values - known.drawn.mean).T, start=1):
            gaps_left = (gaps.sum() - gaps) / (len(gaps) - 1)
            found.append(Control(f"λ^{power}", Jackknife.of(float(gaps.mean()), gaps_left), drawn=True))
    if exact is not None:
        truth = math.log(float(np.sqrt(exact).mean()))
        found.append(Control(ALL_ORIGINALS, Jackknife.of(value - truth, left - truth)))
    return found


def _log_mean_root(variance: Array, left: Array) -> tuple[float, Array]:
    value, values = float(np.sqrt(variance).mean()), np.sqrt(left).mean(axis=1)
    check_spread(value, values, "originals")
    return math.log(value), np.log(values)


def _in_roots(gap: Array, variance: Array) -> Array:
    """What a change of the variances by ``gap`` does to the logarithm of their mean root, to first order."""
    sd = np.sqrt(variance)
    weight = np.divide(0.5, sd, out=np.zeros_like(sd), where=sd > 0)
    return np.asarray((gap * weight).sum(axis=-1) / sd.sum(axis=-1))


@dataclass(frozen=True, slots=True)
class Controlled:
    """A statistic after its controls were taken out.

    Attributes:
        pseudo: ``[J]`` pseudo-values; their mean is the statistic, their variance what is uncertain of it beside the law.
        law_se: What the means of what was drawn leave uncertain, which are known from so many draws only.
        bias: What the jackknife took off the plain statistic, net of the controls'.
        slopes: One per control.
        rank: Degrees of freedom that the controls cost.
    """

    pseudo: Array
    law_se: float
    bias: float
    slopes: tuple[float, ...]
    rank: int


def take_out(taken: Sequence[Control], served: Jackknife, law: Drawn | None) -> Controlled:
    """The regression of a statistic's pseudo-values on those of its controls.

    Args:
        taken: The controls.
        served: The statistic.
        law: What is known of what was drawn.
    """
    columns = np.stack([control.found.pseudo for control in taken], axis=1)
    gaps = columns - columns.mean(axis=0)
    size = gaps.std(axis=0)
    size[size == 0] = 1.0
    slopes, _, rank, _ = np.linalg.lstsq(gaps / size, served.pseudo - served.corrected, rcond=1e-8)
    slopes /= size
    pseudo = served.pseudo - columns @ slopes
    j, centre = len(pseudo), float(pseudo.mean())
    residual = pseudo - centre
    if residual.any():
        # The controls cost degrees of freedom, and their slopes are estimates.
        wider = (j - 1) / (j - 1 - rank) * (1 + rank / (j - 2 - rank))
        pseudo = centre + math.sqrt(wider) * residual
    drawn = np.array([s for s, control in zip(slopes, taken, strict=True) if control.drawn])
    uncertain = 0.0 if law is None or not len(drawn) else float(drawn @ law.covariance @ drawn) / law.draws
    biases = np.array([control.found.bias for control in taken])
    bias = float(served.bias - slopes @ biases)
    return Controlled(pseudo, math.sqrt(uncertain), bias, tuple(slopes.tolist()), int(rank))
