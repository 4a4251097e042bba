"""What a way of choosing a scheme is worth on seeds that had no part in the choice.

The lowest mean of several is lowest in part by luck, so judging the best scheme by the seeds that named it flatters it.
Here every seed in turn is held out: the choice is made on the others and judged on this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyses.inference import spread
from kdstats.errors import CheckError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Outcomes of one pair over the seeds that all its schemes have.

    Attributes:
        schemes: Names.
        seeds: Seeds.
        values: ``[seeds, schemes]``.
    """

    schemes: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Floats

    def lowest_elsewhere(self) -> tuple[str, ...]:
        """For every seed, the scheme with the lowest mean over the other seeds; the first by name where two are equal."""
        order = sorted(range(len(self.schemes)), key=lambda i: self.schemes[i])
        total = self.values.sum(axis=0)
        return tuple(self.schemes[min(order, key=lambda i: total[i] - own[i])] for own in self.values)

    def mean_of(self, choices: Sequence[str]) -> float:
        """Mean over seeds of the scheme chosen for each."""
        return float(self._of(choices).mean())

    def _of(self, choices: Sequence[str]) -> Floats:
        at = [self.schemes.index(name) for name in choices]
        return self.values[np.arange(len(self.seeds)), at]

    def difference(
        self, first: Sequence[str], second: Sequence[str], comparisons: int = 1
    ) -> tuple[float, float, float]:
        """Mean difference of two ways of choosing, within seeds, with its interval.

        A scheme's residual variance is the larger of the one pooled over all schemes, (seeds − 1)(schemes − 1) degrees
        of freedom, and its own (:mod:`.inference.spread`). Where either choice depends on which seed is held out, the
        folds share their training seeds and the variance 2σ²/m grows by 2σ²/(m − 1) (Nadeau and Bengio 2003, equation
        9). Below :data:`.inference.spread.FEW` seeds the interval is not shorter than that of these differences alone.
        Achieved coverage and false claims: ``docs/method.md``.

        Args:
            first: A scheme for every seed, chosen without it.
            second: The other choice alike.
            comparisons: So many intervals hold together (Bonferroni).

        Returns:
            First less second and both ends; all 0 where the choices are the same.
        """
        if tuple(first) == tuple(second):
            return 0.0, 0.0, 0.0
        m, k = self.values.shape
        gaps = self._of(first) - self._of(second)
        gap = float(gaps.mean())
        judged = spread.larger_of_two(self.values)
        variance = float(
            np.mean([judged[self.schemes.index(name)] for side in (first, second) for name in side])
        )
        fixed = len(set(first)) == 1 and len(set(second)) == 1
        share = 1 / m if fixed else 1 / m + 1 / (m - 1)
        reach = spread.quantile((m - 1) * (k - 1), comparisons) * math.sqrt(2 * variance * share)
        if m < spread.FEW:
            reach = max(reach, spread.own_half(gaps, share))
        return gap, gap - reach, gap + reach


def cells_of(used: pd.DataFrame, pair: str, column: str, schemes: Sequence[str]) -> Cells | None:
    """The outcomes of ``schemes`` in one pair over their common seeds; None with fewer than two of either.

    Args:
        used: Table ``runs`` without excluded rows, with the column ``pair``.
        pair: Which pair.
        column: The outcome.
        schemes: Which schemes.

    Raises:
        CheckError: An outcome that is not finite.
    """
    own = used[(used["pair"] == pair) & used["scheme"].isin(set(schemes))]
    table = own.pivot_table(index="seed", columns="scheme", values=column, aggfunc="first", dropna=False)
    table = table.reindex(columns=[name for name in schemes if name in table.columns]).dropna(axis=0)
    if min(table.shape) < 2:
        return None
    values = table.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise CheckError(f"{pair}: {column} of a run is infinite")
    return Cells(tuple(map(str, table.columns)), tuple(int(seed) for seed in table.index), values)
