"""How T. stddev and its interval settle as pools are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import check_confidence
from kdstats.estimators.tstddev import LEAST_POOLS, as_array, check_probabilities, from_pools


@dataclass(frozen=True, slots=True)
class Convergence:
    """Value and interval after the first k pools; neighbouring points share pools and are not independent.

    Attributes:
        pools: Numbers of pools, ascending, the last one all of them; those whose pools do not vary yet are left out.
        values: T. stddev of that many pools.
        lows: Lower ends.
        highs: Upper ends.
        confidence: Nominal coverage of each interval alone (not of the curve).
    """

    pools: tuple[int, ...]
    values: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    confidence: float

    @property
    def relative_half_widths(self) -> tuple[float, ...]:
        """Half the interval over the value, at each point."""
        ends = zip(self.values, self.lows, self.highs, strict=True)
        return tuple((high - low) / (2 * value) for value, low, high in ends)


def convergence(mean_probs: Any, *, points: int = 24, confidence: float = 0.95) -> Convergence:
    """The convergence curve of :func:`~kdstats.estimators.tstddev.t_stddev` over its first pools.

    Args:
        mean_probs: ``[K, C]`` mean probability vectors of pools, in the order in which they were drawn.
        points: Most points, evenly spaced on a log scale from 5 pools to all.
        confidence: Nominal coverage.

    Raises:
        UsageError: Not a ``[K, C]`` array, fewer than 5 pools or fewer than 2 points.
        CheckError: NaN, infinity, rows that are no probability vectors, or nothing varies in all of them.

    >>> import numpy as np
    >>> curve = convergence(np.random.default_rng(0).multinomial(320, np.full(10, 0.1), size=400) / 320)
    >>> curve.pools[0], curve.pools[-1], curve.relative_half_widths[-1] < 0.03
    (5, 400, True)
    """
    check_confidence(confidence)
    if points < 2:
        raise UsageError(f"a curve has at least 2 points, not {points}")
    pools = check_probabilities(as_array(mean_probs), "pool means")
    if len(pools) < LEAST_POOLS:
        raise UsageError(f"T. stddev needs at least {LEAST_POOLS} pools, not {len(pools)}")
    at = np.unique(np.geomspace(LEAST_POOLS, len(pools), points).round().astype(int)).tolist()
    last = from_pools(pools).estimate(confidence, "", "")
    curve: dict[int, Estimate] = {}
    for k in at[:-1]:
        try:
            curve[k] = from_pools(pools[:k]).estimate(confidence, "", "")
        except CheckError:  # the first k are equal, or all but one of them
            continue
    curve[at[-1]] = last
    found = list(curve.values())
    return Convergence(
        tuple(curve),
        tuple(e.value for e in found),
        tuple(e.low for e in found),
        tuple(e.high for e in found),
        confidence,
    )
