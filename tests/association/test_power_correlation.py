"""Power of correlations: simulation with scipy's test and with our own meta-analysis, laws, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kdstats import meta_analysis, power
from kdstats.association.noncentral import fisher_moments, pearson_power
from kdstats.association.power_correlation import correlation_power, correlation_power_of
from kdstats.errors import UsageError


def correlations(rng, shape, rho):
    """Sample correlations ``shape[:-1]`` of bivariate normal points along the last axis."""
    x = rng.normal(size=shape)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=shape)
    x, y = (v - v.mean(-1, keepdims=True) for v in (x, y))
    return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


@pytest.mark.simulation
@pytest.mark.parametrize(("r", "n"), [(0.0, 9), (0.5, 5), (0.6, 9), (0.9, 9), (0.3, 40)])
def test_one_pair_is_exact(r, n):
    seen = correlations(np.random.default_rng(n), (40_000, n), r)
    # scipy's own null law of r, not the t that the power is computed with.
    p = 2 * stats.beta(n / 2 - 1, n / 2 - 1, loc=-1, scale=2).sf(abs(seen))
    assert np.mean(p < 0.05) == pytest.approx(pearson_power(r, n, 0.05), abs=4 * math.sqrt(0.25 / 40_000))


def test_fishers_z_has_the_moments_of_the_exact_law():
    for r, n in ((0.0, 5), (0.5, 9), (-0.8, 12)):
        z = np.arctanh(correlations(np.random.default_rng(3), (100_000, n), r))
        mean, variance = fisher_moments(r, n)
        assert mean == pytest.approx(z.mean(), abs=5 * math.sqrt(variance / 100_000))
        assert variance == pytest.approx(z.var(), rel=0.03)
    # Hotelling's expansion, next order n**-3.
    assert fisher_moments(0.6, 200)[0] == pytest.approx(math.atanh(0.6) + 0.6 / 398, abs=2e-5)


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("r", "n", "k", "tau"), [(0.6, 9, 10, 0.6), (0.9, 9, 3, 0.6), (0.3, 9, 10, 0.0), (0.5, 5, 10, 0.3)]
)
def test_several_pairs_as_our_meta_analysis_decides(r, n, k, tau):
    rng, runs = np.random.default_rng(k), 20_000
    rho = np.tanh(math.atanh(r) + tau * rng.normal(size=(runs, k, 1)))
    seen = correlations(rng, (runs, k, n), rho)
    z = np.arctanh(seen)
    t = z.mean(1) / np.sqrt(np.maximum(1 / (n - 3), z.var(1, ddof=1)) / k)
    p = 2 * stats.t.sf(abs(t), k - 1)
    assert [meta_analysis(row, n).p_value for row in seen[:20]] == pytest.approx(p[:20], rel=1e-8)
    assert np.mean(p < 0.05) == pytest.approx(correlation_power_of(r, n, k, tau=tau), abs=0.01 + 0.01)


def test_the_questions_agree():
    needed = correlation_power(r=0.8)
    assert (needed.asked, needed.pairs) == ("schemes", 1)
    assert needed.power >= 0.8 > correlation_power_of(0.8, needed.schemes - 1)
    smallest = correlation_power(schemes=9)
    assert smallest.asked == "r"
    assert correlation_power_of(smallest.r, 9) == pytest.approx(0.8, abs=1e-9)
    pairs = correlation_power(r=0.6, schemes=9, tau=0.6)
    assert pairs.asked == "pairs"
    assert pairs.power >= 0.8 > correlation_power_of(0.6, 9, pairs.pairs - 1, tau=0.6)
    assert correlation_power(r=0.9, schemes=12).pairs == 1  # one pair is enough there, and tested exactly
    both = correlation_power(r=-0.6, schemes=9, pairs=10, tau=0.6)
    assert (both.asked, both.r, both.r_seen) == ("power", -0.6, -0.6)
    assert both.power == correlation_power_of(0.6, 9, 10, tau=0.6)
    assert power(r=0.8).schemes == needed.schemes
    assert correlation_power(r=0.8, comparisons=10).schemes > needed.schemes
    assert both.to_dict()["notes"][0].startswith("pairs are taken as independent")


def test_noise_over_seeds_attenuates():
    found = correlation_power(r=0.8, schemes=9, pairs=1, reliability=0.64)
    assert found.r_seen == pytest.approx(0.64)
    assert found.power == pytest.approx(pearson_power(0.64, 9, 0.05))
    assert correlation_power(r=0.8, reliability=0.64).schemes > correlation_power(r=0.8).schemes
    with pytest.raises(UsageError, match="more seeds, schemes or pairs"):
        correlation_power(schemes=6, reliability=0.3)


def test_what_no_design_reaches_is_refused():
    with pytest.raises(UsageError, match="take more pairs"):
        correlation_power(r=0.3, pairs=2, tau=1.0)
    for bad, match in (
        ({}, "give --r"),
        ({"r": 1.0}, "strictly between"),
        ({"r": 0.0}, "strictly between"),
        ({"r": math.nan}, "strictly between"),
        ({"r": 0.5, "schemes": 4}, "at least 5 schemes"),
        ({"r": 0.5, "pairs": 0}, "at least 1 pair"),
        ({"r": 0.5, "tau": 0.3}, "one pair has none"),
        ({"r": 0.5, "tau": -1.0, "pairs": 3}, "tau"),
        ({"r": 0.5, "reliability": 0.0}, "reliability"),
        ({"r": 0.5, "target": 0.01}, "power asked for"),
    ):
        with pytest.raises(UsageError, match=match):
            correlation_power(**bad)
