"""Permutation tests of the three coefficients, exact for small n."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdstats.association.coefficients import METHODS, blocks, centred, check_pair, midranks
from kdstats.errors import UsageError

EXACT_UP_TO = 8  # 8! = 40,320 arrangements, fewer than it takes to estimate them well
LIMITS = {"pearson": 5_000, "spearman": 5_000, "kendall": 500}  # n beyond which a test takes minutes


@dataclass(frozen=True, slots=True)
class PermutationTest:
    """Two-sided permutation p-values of one panel.

    Attributes:
        p_values: By coefficient; a coefficient is absent where n is above :data:`LIMITS`.
        permutations: Number of arrangements behind them, the observed one included.
        exact: Whether all n! arrangements were counted.
    """

    p_values: dict[str, float]
    permutations: int
    exact: bool


def permutation_test(
    x: ArrayLike, y: ArrayLike, *, permutations: int = 9_999, rng: np.random.Generator
) -> PermutationTest:
    """Two-sided p: how often a random pairing of x and y is at least as extreme as the observed one.

    For n <= 8 all n! pairings are counted, so p is exact and at least 1/n!. Otherwise ``permutations`` random
    pairings are drawn and p = (b + 1)/(m + 1) (Phipson and Smyth 2010): it is never 0. The three coefficients
    share the pairings. Pearson's and Spearman's denominators do not change under permutation, nor does that
    of Kendall's tau-b (ties stay ties), so the numerators are compared.

    Args:
        x: Predictor, (n,).
        y: Outcome, (n,).
        permutations: m, random pairings where n > 8.
        rng: Source of the random pairings.

    Raises:
        UsageError: ``permutations`` below 1, NaN, Inf or unlike lengths.
        CheckError: A constant column.
    """
    if permutations < 1:
        raise UsageError(f"permutations must be at least 1, got {permutations}")
    a, b = check_pair(x, y)
    n = a.size
    methods = [m for m in METHODS if n <= LIMITS[m]]
    if not methods:
        return PermutationTest({}, 0, False)
    columns = {"pearson": (centred(a), centred(b)), "spearman": (midranks(a), midranks(b))}
    by_x = np.argsort(a, kind="stable")
    after = np.searchsorted(a[by_x], a[by_x], side="right")
    ranks = np.unique(b, return_inverse=True)[1].astype(np.int16)
    # Equal sums may differ in their last digits; a tie must count as extreme.
    bounds = {
        m: abs(float(u @ v)) - 1e-12 * float(np.linalg.norm(u) * np.linalg.norm(v))
        for m, (u, v) in columns.items()
    }
    bounds["kendall"] = (
        abs(float(_concordances(ranks[by_x][:, None], after)[0])) if "kendall" in methods else 0.0
    )
    extreme = dict.fromkeys(methods, 0)
    exact = n <= EXACT_UP_TO
    order = np.array(list(itertools.permutations(range(n)))) if exact else None
    m = math.factorial(n) if exact else permutations
    done = 0
    for size in blocks(m, 4 * n):
        rows = order[done : done + size] if order is not None else _shuffles(n, size, rng)
        done += size
        for method in methods:
            sums: NDArray[Any]
            if method == "kendall":
                sums = _concordances(np.ascontiguousarray(ranks[rows[:, by_x]].T), after)
            else:
                u, v = columns[method]
                sums = v[rows] @ u
            extreme[method] += int(np.count_nonzero(np.abs(sums) >= bounds[method]))
    if exact:
        return PermutationTest({k: b / m for k, b in extreme.items()}, m, True)
    return PermutationTest({k: (b + 1) / (m + 1) for k, b in extreme.items()}, m + 1, False)


def _shuffles(n: int, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rows: NDArray[np.intp] = rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
    return rows


def _concordances(ranks: NDArray[np.int16], after: NDArray[np.intp]) -> NDArray[np.int32]:
    """Pairs in order less pairs out of order, (m,), of arrangements of y: Kendall's numerator.

    Args:
        ranks: Dense ranks of y in the order of x, (n, m), n at most 32,767; one arrangement a column, so that each
            comparison runs over memory in a row.
        after: For each place in that order the first one with a larger x, (n,).
    """
    sums = np.zeros(ranks.shape[1], dtype=np.int32)
    for row, end in zip(ranks, after, strict=True):
        later = ranks[end:]
        sums += (later > row).sum(axis=0, dtype=np.int16)
        sums -= (later < row).sum(axis=0, dtype=np.int16)
    return sums
