from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kdstats.association.bootstrap import bca
from kdstats.association.coefficients import METHODS, coefficient
from kdstats.association.intervals import check_interval, kendall_variance, z_interval
from kdstats.errors import UsageError

POPULATION = {
    "pearson": lambda rho: rho,
    "spearman": lambda rho: 6 / math.pi * math.asin(rho / 2),
    "kendall": lambda rho: 2 / math.pi * math.asin(rho),
}


def test_pearson_is_scipys_fisher_interval():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(9)
    y = x + rng.standard_normal(9)
    expected = stats.pearsonr(x, y).confidence_interval(0.9)
    found = z_interval("pearson", stats.pearsonr(x, y)[0], 9, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_spearman_by_hand():
    # Bonett and Wright (2000): atanh(0.5) ± 1.959964 sqrt((1 + 0.125)/7) for n = 10.
    z, half = 0.5493061443, 1.9599639845 * 0.4008918629
    found = z_interval("spearman", 0.5, 10)
    assert (found.low, found.high) == pytest.approx((math.tanh(z - half), math.tanh(z + half)), abs=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_kendall_variance_against_simulation(rho):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((40_000, 7))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(x.shape)
    i, j = np.triu_indices(7, 1)
    tau = (np.sign(x[:, i] - x[:, j]) * np.sign(y[:, i] - y[:, j])).mean(axis=1)
    assert kendall_variance(POPULATION["kendall"](rho), 7) == pytest.approx(tau.var(), rel=0.03)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [5, 9, 1_000, 10**8])
@pytest.mark.parametrize("estimate", [-1.0, np.nextafter(-1, 0), -1 + 1e-10, -0.3, 0.0, 0.99, 1.0])
def test_ends_enclose_the_estimate(method, n, estimate):
    found = z_interval(method, float(estimate), n)
    assert -1 <= found.low <= estimate + 1e-12
    assert estimate - 1e-12 <= found.high <= 1
    mirrored = z_interval(method, float(-estimate), n)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_a_perfect_rank_correlation_is_not_certain():
    for method in ("spearman", "kendall"):
        assert 0.5 < z_interval(method, 1.0, 9).low < 0.97
    assert "no width" in z_interval("pearson", 1.0, 9).notes[0]


def test_refusals():
    with pytest.raises(UsageError, match="at least 5"):
        z_interval("pearson", 0.1, 4)
    with pytest.raises(UsageError, match="between -1 and 1"):
        z_interval("pearson", 1.1, 9)
    with pytest.raises(UsageError, match="between 0 and 1"):
        z_interval("pearson", 0.1, 9, confidence=95)
    with pytest.raises(UsageError, match="bca"):
        check_interval("bcaa")


@pytest.mark.simulation
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_default_interval_covers_at_nine_points(rho):
    replications, n = 1_500, 9
    rng = np.random.default_rng(2022)
    x = rng.standard_normal((replications, n))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((replications, n))
    for method in METHODS:
        truth = POPULATION[method](rho)
        covered = 0
        for a, b in zip(x, y, strict=True):
            found = z_interval(method, coefficient(method, a, b).estimate, n)
            covered += found.low <= truth <= found.high
        # Binomial error of the share is 0.006; the docstring's values come from 200,000 replications.
        assert 0.93 <= covered / replications <= 0.975, method


@pytest.mark.simulation
def test_bca_covers_less_evenly_at_nine_points():
    replications, n, rho = 300, 9, 0.9
    rng = np.random.default_rng(11)
    covered = dict.fromkeys(METHODS, 0)
    for _ in range(replications):
        x = rng.standard_normal(n)
        y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(n)
        for method, found in bca(x, y, resamples=999, rng=rng).items():
            covered[method] += found.low <= POPULATION[method](rho) <= found.high
    shares = {method: count / replications for method, count in covered.items()}
    assert 0.88 <= shares["pearson"] <= 0.955
    assert shares["kendall"] >= 0.965
    assert shares["pearson"] < shares["kendall"]
