"""Streaming covariance quantities: update, merge, compute, in O(N) memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.covariance import LEAST_OBSERVATIONS, CovarianceEstimate, assemble
from kdstats.estimators.intervals import check_confidence
from kdstats.estimators.tstddev import as_array

Array = NDArray[np.float64]
GROUPS = 32


@dataclass(frozen=True)
class _Moments:
    """Count, position means ``[N]``, summed squared deviations of all positions, and of the row means."""

    count: int
    mean: Array
    squares: float
    row_squares: float

    @staticmethod
    def of(rows: Array) -> _Moments:
        mean = rows.mean(axis=0)
        deviations = rows - mean
        averages = deviations.mean(axis=1)
        return _Moments(len(rows), mean, float(np.vdot(deviations, deviations)), float(averages @ averages))

    def merge(self, other: _Moments) -> _Moments:
        """Pairwise update of Chan, Golub & LeVeque 1983, for the positions and for their mean."""
        count = self.count + other.count
        step = other.mean - self.mean
        weight = self.count * other.count / count
        return _Moments(
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + float(step @ step) * weight,
            self.row_squares + other.row_squares + float(step.mean()) ** 2 * weight,
        )


class Comoments:
    """Covariance quantities of observations that arrive in any portions, from any number of processes.

    Observation ``k`` goes to group ``k mod 32``; the groups give a delete-a-group jackknife, so intervals come
    without keeping the matrix. Memory is 32 vectors of N.

    >>> import numpy as np
    >>> u = np.random.default_rng(0).gamma(2.0, size=(200, 30))
    >>> state = Comoments()
    >>> for part in np.array_split(u, 7):
    ...     state.update(part)
    >>> from kdstats.estimators.covariance import ce_covariance
    >>> abs(state.compute().risk_variance.value - ce_covariance(u).risk_variance.value) < 1e-15
    True
    """

    def __init__(self) -> None:
        self._groups: dict[int, _Moments] = {}
        self._seen = 0

    @property
    def observations(self) -> int:
        """Observations so far, K."""
        return self._seen

    def update(self, u: Any) -> None:
        """Adds observations ``[k, N]`` (or one, ``[N]``), nats.

        Raises:
            UsageError: Another number of positions than before.
            CheckError: NaN or infinity.
        """
        rows = np.atleast_2d(as_array(u))
        if rows.ndim != 2 or rows.shape[1] < 2:
            raise UsageError(f"expected observations of N ≥ 2 positions, got an array of shape {rows.shape}")
        known = next(iter(self._groups.values())).mean.size if self._groups else rows.shape[1]
        if rows.shape[1] != known:
            raise UsageError(
                f"observations of {known} and of {rows.shape[1]} positions; trim all to one length"
            )
        if not np.isfinite(rows).all():
            k, i = np.argwhere(~np.isfinite(rows))[0]
            raise CheckError(f"observation {self._seen + k}, position {i} is NaN or infinite")
        groups = (self._seen + np.arange(len(rows))) % GROUPS
        for g in np.unique(groups):
            self._add(int(g), _Moments.of(rows[groups == g]))
        self._seen += len(rows)

    def _add(self, group: int, moments: _Moments) -> None:
        old = self._groups.get(group)
        self._groups[group] = moments if old is None else old.merge(moments)

    def merge(self, *others: Comoments) -> Comoments:
        """A new state over the observations of all; values do not depend on how they were split."""
        out = Comoments()
        for part in (self, *others):
            sizes = {m.mean.size for m in (*out._groups.values(), *part._groups.values())}
            if len(sizes) > 1:
                raise UsageError(
                    f"states of {' and '.join(map(str, sorted(sizes)))} positions cannot be merged"
                )
            # Groups are rotated by what is there already, so that small parts do not all fall into group 0.
            for group, moments in part._groups.items():
                out._add((group + out._seen) % GROUPS, moments)
            out._seen += part._seen
        return out

    def compute(self, confidence: float = 0.95) -> CovarianceEstimate:
        """The quantities so far; ``mean_correlation`` and ``wang2022_v3`` need the matrix and are None.

        Raises:
            UsageError: Fewer than 5 observations.
            CheckError: Nothing varies.
        """
        check_confidence(confidence)
        if self._seen < LEAST_OBSERVATIONS:
            raise UsageError(f"covariance needs at least {LEAST_OBSERVATIONS} observations, not {self._seen}")
        groups = [self._groups[g] for g in sorted(self._groups)]
        variance, risk = _variances(_merged(groups))
        if (
            variance
            <= (16 * np.finfo(np.float64).eps * max(float(np.abs(g.mean).max()) for g in groups)) ** 2
        ):
            raise CheckError(f"all {self._seen} observations are equal: there is no variance to speak of")
        left = np.array([_variances(_merged(groups[:g] + groups[g + 1 :])) for g in range(len(groups))])
        n = groups[0].mean.size
        return assemble(variance, risk, left[:, 0], left[:, 1], None, n, self._seen, confidence, None)


def _merged(groups: list[_Moments]) -> _Moments:
    total = groups[0]
    for moments in groups[1:]:
        total = total.merge(moments)
    return total


def _variances(moments: _Moments) -> tuple[float, float]:
    """Mean variance of a position and variance of the row mean."""
    df = moments.count - 1
    return moments.squares / df / moments.mean.size, moments.row_squares / df
