"""T. stddev: the standard deviation of the teacher's mean probability (Wang et al., NeurIPS 2022).

For pools k = 1 … K with mean probability vectors p̄_k in R^C,

    T. stddev = (1/C) Σ_c sqrt( Σ_k (p̄_kc − mean_k p̄_kc)² / (K − 1) ).

It scales as one over the square root of the pool size and depends on C, so two values may be compared only
under the same definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import check_confidence
from kdstats.estimators.log_value import LogValue, log_jackknife

Array = NDArray[np.float64]
LEAST_POOLS = 5
ROOT_NOTE = "the square root biases the value"
METHOD = "mean over classes of the sd over pools; delete-one-pool jackknife of the logarithm, t"


def as_array(values: Any) -> Array:
    """numpy float64 from an array, a sequence or a torch tensor on any device; ragged rows are a UsageError."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        raise UsageError(
            "rows of unlike lengths, or no numbers; drop short ones or trim all to one length"
        ) from None


def all_equal(units: Array) -> bool:
    """Whether the rows ``[K, …]`` differ by rounding alone (a mean of equal numbers need not return them)."""
    spread = float((units.max(axis=0) - units.min(axis=0)).max())
    return bool(spread <= 16 * np.finfo(np.float64).eps * np.abs(units).max())


def check_probabilities(rows: Array, what: str, tolerance: float = 1e-3) -> Array:
    """``rows`` ``[n, C]`` if they are probability vectors; raises ``CheckError`` naming the first bad row."""
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.shape[0] < 1:
        raise UsageError(f"{what}: expected rows of C ≥ 2 probabilities, got an array of shape {rows.shape}")
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise CheckError(
            f"{what}: row {int(np.argmax(bad))} holds NaN or infinity ({int(bad.sum())} rows do)"
        )
    off = (np.abs(rows.sum(axis=1) - 1) > tolerance) | (rows < -tolerance).any(axis=1)
    if off.any():
        row = int(np.argmax(off))
        raise CheckError(
            f"{what}: row {row} is no probability vector (sum {rows[row].sum():.6g}, least entry {rows[row].min():.3g}; "
            f"{int(off.sum())} rows are not). Give softmax outputs, not logits."
        )
    return rows


def mean_sd(units: Array) -> float:
    """``(1/C) Σ_c sd_k(units[k, c])`` with divisor K − 1."""
    return float(units.std(axis=0, ddof=1).mean())


def mean_sd_left_out(units: Array) -> Array:
    """The K delete-one values of :func:`mean_sd`, in closed form.

    With deviations d and variances V over all K units, leaving out k gives
    ``V₍₋k₎ = ((K − 1) V − K/(K − 1) d_k²) / (K − 2)``.
    """
    k = len(units)
    deviations = units - units.mean(axis=0)
    squares = deviations**2
    left = (squares.sum(axis=0) - k / (k - 1) * squares) / (k - 2)
    return np.asarray(np.sqrt(np.maximum(left, 0.0)).mean(axis=1))


def t_stddev(mean_probs: Any, *, confidence: float = 0.95, definition: str = "") -> Estimate:
    """T. stddev of K pool means, with standard error and interval.

    Args:
        mean_probs: ``[K, C]``, the teacher's mean probability vector of each pool (array or tensor). Pools must
            hold the same number of inputs, drawn alike.
        confidence: Nominal coverage of the interval.
        definition: What a pool is (size, views, batch, temperature, draws); travels with the value.

    Returns:
        An estimate in units of probability. ``value`` is the published formula. ``se`` is the delete-one-pool
        jackknife. The interval uses Student's t on the log scale around the jackknife-corrected value, because
        the square root biases the formula low by about 1/(4K) while averaging over C classes shrinks the
        standard error: at K = 100, C = 100 the uncorrected normal interval covers 0.92.

    Raises:
        UsageError: Not a ``[K, C]`` array, or fewer than 5 pools.
        CheckError: NaN, infinity, or rows that are no probability vectors.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> pools = rng.multinomial(320, np.full(100, 0.01), size=400) / 320
    >>> found = t_stddev(pools)
    >>> found.low < null_value(100, 320) < found.high  # sqrt(0.01 · 0.99 / 320) = 0.00556
    True
    """
    check_confidence(confidence)
    pools = check_probabilities(as_array(mean_probs), "pool means")
    k = len(pools)
    if k < LEAST_POOLS:
        raise UsageError(
            f"T. stddev needs at least {LEAST_POOLS} pools, not {k}; a standard error needs spread"
        )
    found = from_pools(pools)
    notes: tuple[str, ...] = ()
    estimate = found.estimate(confidence, METHOD, definition)
    if not estimate.low <= found.value <= estimate.high:
        bias = found.value / math.exp(found.centre) - 1
        notes = (f"with {k} pools {ROOT_NOTE} by {bias:+.1%}",)
    return replace(estimate, notes=notes + estimate.notes)


def from_pools(pools: Array) -> LogValue:
    """The published value of pool means ``[K, C]`` with its pseudo-values, for intervals and comparisons.

    Raises:
        CheckError: Nothing varies, or one pool holds all of the spread.
    """
    if all_equal(pools):
        raise CheckError(f"all {len(pools)} pool means are equal: nothing varies, T. stddev has no interval")
    value = mean_sd(pools)
    logs = log_jackknife(value, mean_sd_left_out(pools), "pools")
    bias = logs.corrected - math.log(value)
    return LogValue(value, logs.corrected, logs.pseudo, len(pools) - 1, bias=bias)


def null_value(classes: int, inputs: int) -> float:
    """T. stddev of a fully confident, class-balanced teacher on ``inputs`` independent inputs.

    ``sqrt((1/C)(1 − 1/C)/n)``, the binomial standard deviation of a class share.
    """
    if classes < 2 or inputs < 1:
        raise UsageError(f"the null value needs at least 2 classes and 1 input, not {classes} and {inputs}")
    return float(np.sqrt((1 / classes) * (1 - 1 / classes) / inputs))


def ceiling_value(square: float, classes: int, inputs: int) -> float:
    """Most that T. stddev can be over ``inputs`` independent inputs of a class-balanced stream.

    ``sqrt((E‖p‖² − 1/C)/(C·n))`` by Jensen's inequality; reached where all classes vary alike, and equal to
    :func:`null_value` for a fully confident teacher. A value above it shows dependence between inputs.

    Args:
        square: Mean of ``Σ_c p_c²`` over inputs, 1/C … 1; 1 for a fully confident teacher.
        classes: C.
        inputs: Independent inputs of a pool, n.

    >>> ceiling_value(1.0, 100, 320) == null_value(100, 320)
    True
    """
    if not 1 / classes - 1e-9 <= square <= 1 + 1e-9:
        raise UsageError(f"the mean of Σp² lies between 1/C = {1 / classes:.4g} and 1, not {square}")
    share = max(square - 1 / classes, 0.0) / (1 - 1 / classes)
    return null_value(classes, inputs) * math.sqrt(share)


@dataclass
class TStddev:
    """Streaming T. stddev: ``update`` per batch, ``merge`` across ranks or files, ``compute`` at any time.

    Attributes:
        batches_per_pool: Calls of :meth:`update` that make one pool. 1: each call is a whole pool. The published
            runs use 10 (five batches of originals and their five batches of views).
        definition: Travels with the value; :meth:`merge` refuses unlike definitions.
    """

    batches_per_pool: int = 1
    definition: str = ""
    _pools: list[Array] = field(default_factory=list)
    _open: list[tuple[Array, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.batches_per_pool < 1:
            raise UsageError(f"a pool has at least 1 batch, not {self.batches_per_pool}")

    def update(self, probs: Any) -> None:
        """Adds one batch of the teacher's softmax outputs ``[B, C]`` at T = 1.

        Raises:
            CheckError: Rows that are no probability vectors.
            UsageError: Another number of classes than before.
        """
        rows = check_probabilities(as_array(probs), "batch")
        seen = (
            self._pools[0].shape
            if self._pools
            else self._open[0][0].shape
            if self._open
            else (rows.shape[1],)
        )
        if (rows.shape[1],) != seen:
            raise UsageError(f"batches of {seen[0]} and of {rows.shape[1]} classes in one T. stddev")
        self._open.append((rows.sum(axis=0), len(rows)))
        if len(self._open) == self.batches_per_pool:
            total: Array = sum((s for s, _ in self._open), np.zeros(rows.shape[1]))
            self._pools.append(total / sum(n for _, n in self._open))
            self._open = []

    def merge(self, *others: TStddev) -> TStddev:
        """A new accumulator with the whole pools of all; half-filled pools are left out.

        Raises:
            UsageError: Unlike definitions, pool sizes or class counts.
        """
        for other in others:
            if (other.definition, other.batches_per_pool) != (self.definition, self.batches_per_pool):
                raise UsageError(
                    f"T. stddev of unlike definitions cannot be merged: {self.definition!r} with "
                    f"{self.batches_per_pool} batches a pool, {other.definition!r} with {other.batches_per_pool}"
                )
        pools = [p for part in (self, *others) for p in part._pools]
        if len({p.shape for p in pools}) > 1:
            raise UsageError("T. stddev of unlike class counts cannot be merged")
        return TStddev(self.batches_per_pool, self.definition, pools)

    @property
    def pools(self) -> int:
        """Whole pools so far."""
        return len(self._pools)

    @property
    def mean_probs(self) -> Array:
        """``[K, C]`` means of the whole pools."""
        return np.stack(self._pools) if self._pools else np.empty((0, 0))

    def compute(self, confidence: float = 0.95) -> Estimate:
        """The estimate over the whole pools so far; see :func:`t_stddev`."""
        if self.pools < LEAST_POOLS:
            raise UsageError(f"T. stddev needs at least {LEAST_POOLS} whole pools, not {self.pools}")
        return t_stddev(self.mean_probs, confidence=confidence, definition=self.definition)


def pool_batches(batch_sums: Sequence[tuple[Array, int]], batches_per_pool: int) -> Array:
    """``[K, C]`` pool means from consecutive ``(sum of rows [C], rows)``; an incomplete last pool is dropped."""
    whole = len(batch_sums) // batches_per_pool
    pools = [batch_sums[i * batches_per_pool : (i + 1) * batches_per_pool] for i in range(whole)]
    return np.stack([np.sum([s for s, _ in pool], axis=0) / sum(n for _, n in pool) for pool in pools])
