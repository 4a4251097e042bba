from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from kdstats.association.bootstrap import bca, draws, jackknife
from kdstats.association.coefficients import METHODS
from kdstats.association.permutation import permutation_test
from kdstats.errors import CheckError, UsageError

ORACLES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def pair(n: int, seed: int = 0, rho: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(n)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (pair(5)[0], pair(5)[1]),
        (pair(6, 4)[0], pair(6, 4)[1]),
        (np.array([1.0, 1, 2, 3, 4, 5]), np.array([2.0, 1, 1, 3, 3, 4])),
        (np.array([0.1, 0.1, 0.2, 0.3, 0.7, 0.9]), np.array([0.3, 0.1, 0.1, 0.6, 0.2, 0.4])),
    ],
)
def test_exact_p_is_the_brute_force_one(x, y):
    test = permutation_test(x, y, rng=np.random.default_rng(0))
    assert test.exact
    assert test.permutations == math.factorial(x.size)
    for method, oracle in ORACLES.items():
        observed = abs(oracle(x, y)[0])
        hits = sum(abs(oracle(x, np.array(p))[0]) >= observed - 1e-12 for p in itertools.permutations(y))
        assert test.p_values[method] == hits / math.factorial(x.size)


def test_exact_kendall_p_is_scipys_without_ties():
    x, y = pair(8, 3)
    test = permutation_test(x, y, rng=np.random.default_rng(0))
    assert test.p_values["kendall"] == pytest.approx(stats.kendalltau(x, y, method="exact").pvalue, rel=1e-12)


def test_zero_correlation_counts_every_pairing():
    x, y = np.array([-2.0, -1, 0, 1, 2]), np.array([2.0, -1, -2, -1, 2])
    assert stats.pearsonr(x, y)[0] == pytest.approx(0, abs=1e-15)
    assert permutation_test(x, y, rng=np.random.default_rng(0)).p_values["pearson"] == 1.0


def test_monte_carlo_p_is_near_the_exact_one_and_never_zero():
    x, y = pair(9, 8, 0.3)
    test = permutation_test(x, y, permutations=4_999, rng=np.random.default_rng(1))
    assert not test.exact
    assert test.p_values["kendall"] == pytest.approx(stats.kendalltau(x, y).pvalue, abs=0.03)
    line = np.arange(30.0)
    certain = permutation_test(line, line, permutations=99, rng=np.random.default_rng(1))
    assert certain.p_values == dict.fromkeys(METHODS, 1 / 100)


def test_permutation_limits():
    x, y = pair(600)
    assert set(permutation_test(x, y, permutations=5, rng=np.random.default_rng(0)).p_values) == {
        "pearson",
        "spearman",
    }
    x, y = pair(5_001)
    assert permutation_test(x, y, permutations=5, rng=np.random.default_rng(0)).p_values == {}
    with pytest.raises(UsageError, match="permutations"):
        permutation_test(x, y, permutations=0, rng=np.random.default_rng(0))


def test_seeds():
    x, y = pair(12)
    for run in (
        lambda seed: permutation_test(x, y, permutations=199, rng=np.random.default_rng(seed)).p_values,
        lambda seed: bca(x, y, resamples=199, rng=np.random.default_rng(seed)),
    ):
        assert run(1) == run(1)
        assert run(1) != run(2)


@pytest.mark.parametrize("n", [9, 25])
def test_bca_is_scipys_on_the_same_draws(n):
    x, y = pair(n, 5, 0.6)
    y = np.exp(y)  # skewed, so that neither correction is small
    sample = draws(x, y, resamples=4_000, rng=np.random.default_rng(1))
    ours = bca(x, y, resamples=4_000, rng=np.random.default_rng(1))
    for k, (method, oracle) in enumerate(ORACLES.items()):
        given = SimpleNamespace(bootstrap_distribution=np.round(sample[:, k], 11))
        theirs = stats.bootstrap(
            (x, y),
            lambda a, b, oracle=oracle: round(oracle(a, b)[0], 11),
            paired=True,
            vectorized=False,
            n_resamples=0,
            bootstrap_result=given,
            method="BCa",
        ).confidence_interval
        assert (ours[method].low, ours[method].high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_bca_agrees_with_scipys_own_draws():
    x, y = pair(9, 5, 0.6)
    ours = bca(x, y, resamples=20_000, rng=np.random.default_rng(1))["pearson"]
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b, axis=-1: _pearson(a, b),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(2),
    ).confidence_interval
    # Monte Carlo error of an end: the draws between the levels p ± 4 sqrt(2 p(1 - p)/B).
    sample = np.sort(draws(x, y, resamples=20_000, rng=np.random.default_rng(3))[:, 0])
    for mine, other in ((ours.low, theirs.low), (ours.high, theirs.high)):
        level = np.searchsorted(sample, mine) / sample.size
        half = 4 * math.sqrt(2 * max(level * (1 - level), 1e-4) / sample.size)
        low, high = np.quantile(sample, np.clip([level - half, level + half], 0, 1))
        assert low <= other <= high


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    return (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def test_jackknife_is_leaving_one_out():
    x, y = pair(7)
    found = jackknife(x, y)
    for i in range(7):
        a, b = np.delete(x, i), np.delete(y, i)
        np.testing.assert_allclose(found[i], [oracle(a, b)[0] for oracle in ORACLES.values()], atol=1e-12)


def test_degenerate_resamples_are_counted_in_a_note():
    x, y = np.array([0.0, 0, 0, 0, 1]), np.array([1.0, 3, 2, 5, 4])
    found = bca(x, y, resamples=500, rng=np.random.default_rng(0))
    for interval in found.values():
        assert np.isfinite([interval.low, interval.high]).all()
        assert any("of 500 resamples had a constant column" in note for note in interval.notes)
        assert any("leaving one point out" in note for note in interval.notes)


def test_intervals_without_width_say_so():
    line = np.arange(9.0)
    found = bca(line, line**3, resamples=200, rng=np.random.default_rng(0))
    assert (found["kendall"].low, found["kendall"].high) == (1.0, 1.0)
    assert any("no width" in note for note in found["kendall"].notes)


def test_bootstrap_refusals():
    x, y = pair(9)
    with pytest.raises(UsageError, match="resamples"):
        bca(x, y, resamples=0, rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="confidence"):
        bca(x, y, confidence=95, rng=np.random.default_rng(0))
    with pytest.raises(CheckError, match="constant"):
        bca(x, np.ones(9), rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="interval='z'"):
        bca(*pair(1_001), rng=np.random.default_rng(0))
