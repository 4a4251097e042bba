"""The covariance statistics of the released code as presets: ``check_ce_var_v2`` and the sets of ``check_ce_var_v3``.

v2 looks at the probabilities ``P`` [2B, C] of one batch, views first and then originals, and averages the entries
of four matrices: covariance and correlation with the samples as variables (``cov1``, ``corr1``, 2B x 2B) and with
the classes as variables (``cov2``, ``corr2``, C x C). The mean of all entries of a covariance matrix is the
variance of the mean variable, so with p̄ the batch's mean probability

    mean(cov1) = Σ_c (p̄_c − 1/C)² / (C − 1),    mean(cov2) = Var_b(1/C) = 0,

and the means of the correlation matrices follow in the same way from standardised columns: O(BC), no matrix.
Means of absolute entries have no such identity; they are taken a block of rows at a time.

Pitfalls, kept because they are part of the definition: the means include the diagonal, so cov1 and corr1 fall
with the batch size whatever the scheme; cov1 takes classes for observations, hence measures how uneven p̄ is over
classes and not dependence between samples; cov2's mean holds rounding noise only; the published running averages
give a short last batch the weight of a full one.

Source: Wang et al. 2022, released code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import check_confidence, t_quantile
from kdstats.estimators.tstddev import as_array, check_probabilities

Array = NDArray[np.float64]
V2_NAMES = ("cov1", "cov1_abs", "cov2", "cov2_abs", "corr1", "corr1_abs", "corr2", "corr2_abs")
V3_ENTRIES = 6_400
V3_OBSERVATIONS = 100
SHORT = ("drop", "trim", "refuse")
_BLOCK = 1 << 20  # entries of a matrix held at a time


@dataclass(frozen=True, slots=True)
class BatchV2:
    """The eight numbers of one batch.

    Attributes:
        values: Name (:data:`V2_NAMES`) → mean of all entries, ``_abs``: of their absolute values. In probability²
            for covariances, without unit for correlations; NaN where ``absolute=False``.
        constant_samples: Rows without spread over classes; they have no correlation and are left out of corr1.
        constant_classes: Classes without spread over the batch, left out of corr2. The released code returns
            NaN for the rest of the run instead.
    """

    values: dict[str, float]
    constant_samples: int
    constant_classes: int


def wang2022_v2(originals: Any, views: Any = None, *, absolute: bool = True) -> BatchV2:
    """``check_ce_var_v2`` of one batch.

    Args:
        originals: ``[B, C]`` the teacher's probabilities at T = 1.
        views: ``[V, C]`` of the augmented views; the released code needs them.
        absolute: Also the means of absolute entries, in O(B² C) time and O(B) memory.

    Raises:
        CheckError: NaN, infinity, or rows that are no probability vectors.
        UsageError: Fewer than 2 rows, or unlike numbers of classes.

    >>> import numpy as np
    >>> p = np.random.default_rng(0).dirichlet(np.ones(10), size=64)
    >>> bool(abs(wang2022_v2(p).values["cov1"] - p.mean(0).var(ddof=1)) < 1e-15)
    True
    """
    parts = [check_probabilities(as_array(p), "batch") for p in (views, originals) if p is not None]
    if len({p.shape[1] for p in parts}) > 1 or sum(map(len, parts)) < 2:
        raise UsageError(
            f"a batch of shapes {' and '.join(str(p.shape) for p in parts)}; give [B, C], 2 rows"
        )
    p = np.concatenate(parts)
    out = dict.fromkeys(V2_NAMES, math.nan)
    dropped = []
    for name, rows in (("1", p), ("2", p.T)):
        deviations = rows - rows.mean(axis=1, keepdims=True)
        out[f"cov{name}"] = _mean_square(deviations)
        if absolute:
            out[f"cov{name}_abs"] = _mean_absolute(deviations)
        length = np.linalg.norm(deviations, axis=1)
        # A mean of equal numbers need not return them.
        alive = length > 16 * np.finfo(np.float64).eps * np.abs(rows).max(axis=1) * math.sqrt(rows.shape[1])
        dropped.append(int(len(rows) - alive.sum()))
        standard = deviations[alive] / length[alive, None] * math.sqrt(rows.shape[1] - 1)
        if len(standard):
            out[f"corr{name}"] = _mean_square(standard)
            if absolute:
                out[f"corr{name}_abs"] = _mean_absolute(standard)
    return BatchV2(out, *dropped)


def _mean_square(deviations: Array) -> float:
    """Mean entry of ``D Dᵀ / (m − 1)``, D ``[n, m]``: the variance of the mean row."""
    mean = deviations.mean(axis=0)
    return float(mean @ mean / (deviations.shape[1] - 1))


def _mean_absolute(deviations: Array) -> float:
    """Mean absolute entry of the same, a block of rows at a time."""
    n, m = deviations.shape
    rows = max(1, _BLOCK // n)
    total = sum(float(np.abs(deviations[i : i + rows] @ deviations.T).sum()) for i in range(0, n, rows))
    return float(total / (m - 1) / n**2)


class MeanOfBatches:
    """Running mean of a number per batch, its t-interval taking batches for independent; update, merge, compute.

    Coverage of the interval, simulated on ``cov1`` (``benchmarks/results/coverage_covariance.md``): within
    0.935–0.951 from 20 batches on. Batches of one epoch are disjoint, hence slightly negatively dependent, which
    makes it a little too wide.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def update(self, values: Any) -> None:
        """Adds the numbers of one or several batches; raises ``CheckError`` for NaN or infinity."""
        block = np.atleast_1d(as_array(values))
        if not np.isfinite(block).all():
            raise CheckError(f"batch {self.count + int(np.argmin(np.isfinite(block)))} is NaN or infinite")
        if len(block):
            self._absorb(len(block), float(block.mean()), float(block.var()) * len(block))

    def _absorb(self, count: int, mean: float, squares: float) -> None:
        total, step = self.count + count, mean - self.mean
        self.squares += squares + step**2 * self.count * count / total
        self.mean += step * count / total
        self.count = total

    def merge(self, *others: MeanOfBatches) -> MeanOfBatches:
        """A new state over the batches of all."""
        out = MeanOfBatches()
        for part in (self, *others):
            if part.count:
                out._absorb(part.count, part.mean, part.squares)
        return out

    def compute(self, confidence: float = 0.95, definition: str = "") -> Estimate:
        """The mean with its interval; raises ``UsageError`` for fewer than 5 batches."""
        check_confidence(confidence)
        if self.count < 5:
            raise UsageError(f"a mean over batches needs at least 5 of them, not {self.count}")
        se = math.sqrt(self.squares / (self.count - 1) / self.count)
        half = t_quantile(confidence, self.count - 1) * se
        return Estimate(
            self.mean,
            se,
            self.mean - half,
            self.mean + half,
            self.count,
            "mean over batches, t",
            confidence,
            definition,
        )


class WangV2:
    """Running averages as ``check_ce_var_v2`` prints them, with intervals: ``update``, ``merge``, ``compute``."""

    def __init__(self, *, absolute: bool = True) -> None:
        self.absolute = absolute
        self.constant_samples, self.constant_classes = 0, 0
        self._means = {name: MeanOfBatches() for name in V2_NAMES if absolute or not name.endswith("_abs")}

    def update(self, originals: Any, views: Any = None) -> None:
        """Adds a batch; see :func:`wang2022_v2`."""
        found = wang2022_v2(originals, views, absolute=self.absolute)
        self.constant_samples += found.constant_samples
        self.constant_classes += found.constant_classes
        for name, state in self._means.items():
            if math.isnan(found.values[name]):
                raise CheckError(f"{name} is undefined: no row of the batch varies")
            state.update(found.values[name])

    def merge(self, *others: WangV2) -> WangV2:
        """A new state over the batches of all."""
        if any(other.absolute != self.absolute for other in others):
            raise UsageError("v2 with and without absolute means cannot be merged")
        out = WangV2(absolute=self.absolute)
        for name in out._means:
            out._means[name] = self._means[name].merge(*(other._means[name] for other in others))
        for part in (self, *others):
            out.constant_samples += part.constant_samples
            out.constant_classes += part.constant_classes
        return out

    def compute(self, confidence: float = 0.95) -> dict[str, Estimate]:
        """Name → mean over batches with its interval."""
        return {name: state.compute(confidence) for name, state in self._means.items()}


def v3_sets(
    steps: Iterable[Any],
    *,
    entries: int = V3_ENTRIES,
    observations: int = V3_OBSERVATIONS,
    short: str = "drop",
) -> Array:
    """The matrix ``[K, entries]`` of ``check_ce_var_v3`` from the cross-entropies of consecutive steps.

    A step's values (originals, then views) are appended to a vector until it holds at least ``entries``; then it
    is one observation. At batch 64 with a short last batch some observations overshoot (6,432 values on
    CIFAR-100, 6,464 on Tiny ImageNet), on which the released code fails. What to do is said here:

    * ``drop``: steps shorter than the first one are left out (a loader's ``drop_last``). Positions then mean the
      same in every observation. The usual choice.
    * ``trim``: observations are cut to ``entries``. No step is lost, but after a short step an original and its
      view stand at other positions than in the other observations.
    * ``refuse``: a :class:`UsageError`, as the released code would fail.

    Stops after ``observations``, as published; an unfilled last observation is left out. Further pitfalls: the
    columns are later divided by their maximum over K observations, which is random and grows with K, so values
    at unlike K or of heavy-tailed losses do not compare; a jackknife of a maximum is inconsistent, so no interval
    is given; and half the mean off-diagonal covariance is printed, not the mean.

    Args:
        steps: ``[2B]`` values of each step in order, nats.
        entries: Values of an observation.
        observations: Most observations wanted.
        short: See above.

    Returns:
        ``[K, entries']``; ``entries'`` is ``entries`` rounded up to whole steps under ``drop``.

    Raises:
        UsageError: Unknown ``short``, no steps, or ragged observations under ``refuse``.
    """
    if short not in SHORT:
        raise unknown("treatment of short steps", short, SHORT)
    sets: list[Array] = []
    pending: list[Array] = []
    held, full = 0, 0
    for step in steps:
        values = as_array(step).ravel()
        full = full or len(values)
        if short == "drop" and len(values) != full:
            continue
        pending.append(values)
        held += len(values)
        if held >= entries:
            sets.append(np.concatenate(pending))
            pending, held = [], 0
            if len(sets) == observations:
                break
    if not full:
        raise UsageError("no steps to form observations of")
    lengths = sorted({len(s) for s in sets})
    if short == "trim":
        sets = [s[:entries] for s in sets]
    elif len(lengths) > 1:
        raise UsageError(
            f"observations of {lengths[0]} and of {lengths[-1]} values cannot be stacked; use short='drop' or 'trim'"
        )
    return np.stack(sets) if sets else np.empty((0, entries))
