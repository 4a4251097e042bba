from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kdstats.errors import UsageError
from kdstats.estimators.comparison import compare, probability_lowest
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.tstddev import from_pools


def two(
    rng: np.random.Generator, k: int, ratio: float = 1.0, shared: float = 0.8
) -> tuple[LogValue, LogValue]:
    """Pools of two schemes on the same batches; the second's spread is ``1/ratio`` of the first's."""
    common = rng.normal(size=(k, 12))
    own = rng.normal(size=(2, k, 12))
    a, b = (math.sqrt(shared) * common + math.sqrt(1 - shared) * x for x in own)
    return from_pools(0.1 + 0.01 * ratio * a), from_pools(0.1 + 0.01 * b)


def test_the_paired_t_test_on_pseudo_values():
    a, b = two(np.random.default_rng(0), 40, 1.1)
    found = compare("x", a, "y", b)
    reference = stats.ttest_rel(a.pseudo, b.pseudo)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-9)
    low, high = reference.confidence_interval(0.95)
    assert (found.relative_low, found.relative_high) == pytest.approx(
        (math.expm1(low), math.expm1(high)), rel=1e-9
    )
    assert found.relative == pytest.approx(a.value / b.value - 1)
    assert found.difference == pytest.approx(a.value - b.value)
    assert (found.low, found.high) == pytest.approx((b.value * math.expm1(low), b.value * math.expm1(high)))
    assert (found.a, found.b) == ("x", "y")


def test_pairing_pays():
    rng = np.random.default_rng(1)
    a, b = two(rng, 60, shared=0.99)
    _, unpaired = two(np.random.default_rng(2), 60)
    assert compare("a", a, "b", b).high - compare("a", a, "b", b).low < 0.5 * (
        compare("a", a, "c", unpaired).high - compare("a", a, "c", unpaired).low
    )


def test_swapping_turns_the_sign():
    a, b = two(np.random.default_rng(3), 30, 1.3)
    one, other = compare("a", a, "b", b), compare("b", b, "a", a)
    assert one.p == pytest.approx(other.p)
    assert 1 + one.relative_low == pytest.approx(1 / (1 + other.relative_high))
    assert one.difference == pytest.approx(-other.difference)


def test_equal_schemes():
    a, _ = two(np.random.default_rng(4), 30)
    found = compare("a", a, "b", a)
    assert (found.p, found.difference, found.low, found.high) == (1.0, 0.0, 0.0, 0.0)


def test_uncertainty_of_the_controls_value_counts_where_the_slopes_differ():
    a, b = two(np.random.default_rng(5), 30)

    def moved(v: LogValue, slope: float) -> LogValue:
        return LogValue(v.value, v.centre, v.pseudo, v.df, slope, 0.05)

    same = compare("a", moved(a, 0.7), "b", moved(b, 0.7))
    assert (same.p, same.low) == pytest.approx((compare("a", a, "b", b).p, compare("a", a, "b", b).low))
    apart = compare("a", moved(a, 0.9), "b", moved(b, 0.1))
    assert apart.high - apart.low > same.high - same.low
    se = math.sqrt(np.var(a.pseudo - b.pseudo, ddof=1) / 30 + (0.8 * 0.05) ** 2)
    assert apart.p == pytest.approx(2 * stats.t.sf(abs(a.centre - b.centre) / se, 29))


def test_unlike_units_are_refused():
    a, _ = two(np.random.default_rng(6), 30)
    b, _ = two(np.random.default_rng(6), 20)
    with pytest.raises(UsageError, match="30 and 20"):
        compare("a", a, "b", b)


@pytest.mark.simulation
def test_p_is_uniform_under_the_null():
    rng = np.random.default_rng(7)
    p, covered = [], 0
    for _ in range(2000):
        a, b = two(rng, 40)
        found = compare("a", a, "b", b)
        p.append(found.p)
        covered += found.low <= 0 <= found.high
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.simulation
def test_power_against_a_real_gap():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(600):
        a, b = two(rng, 60, 1.2)
        found = compare("a", a, "b", b)
        covered += found.relative_low <= 0.2 <= found.relative_high
        assert found.p < 0.05
    assert 0.93 <= covered / 600 <= 0.975


def test_probability_lowest_against_the_normal_law():
    a, b = two(np.random.default_rng(9), 200, 1.02)
    found = probability_lowest({"a": a, "b": b}, np.random.default_rng(0))
    se = (a.pseudo - b.pseudo).std(ddof=1) / math.sqrt(200)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert found["b"] == pytest.approx(stats.norm.cdf((a.centre - b.centre) / se), abs=0.015)
    again = probability_lowest({"a": a, "b": b}, np.random.default_rng(0))
    assert found == again


def test_equal_schemes_share_the_lowest_place_exactly():
    a, b = two(np.random.default_rng(10), 40, 1.6)
    found = probability_lowest({"a": a, "b": b, "again": b}, np.random.default_rng(0))
    assert found["b"] == found["again"] == pytest.approx(0.5, abs=0.02)
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)
    assert probability_lowest({"a": a}, np.random.default_rng(0)) == {"a": 1.0}


def test_the_controls_uncertainty_enters():
    a, b = two(np.random.default_rng(11), 400, 1.02)
    blurred = {
        name: LogValue(v.value, v.centre, v.pseudo, v.df, slope, 0.2)
        for name, v, slope in (("a", a, 1.0), ("b", b, 0.0))
    }
    sharp = probability_lowest({"a": a, "b": b}, np.random.default_rng(0))["b"]
    assert 0.5 < probability_lowest(blurred, np.random.default_rng(0))["b"] < sharp - 0.05


def test_schemes_that_stopped_early_are_ranked_by_what_they_have():
    """Means over the first n_i of one sequence of units: the joint law of the estimates is known exactly."""
    rng = np.random.default_rng(12)
    unit = rng.multivariate_normal([0, 0.02], [[0.04, 0.03], [0.03, 0.05]], size=400)
    long, short = unit[:, 0], unit[:100, 1]
    a = LogValue(1.0, float(long.mean()), long, 399)
    b = LogValue(1.0, float(short.mean()), short, 99)
    found = probability_lowest({"a": a, "b": b}, np.random.default_rng(0), draws=200_000)
    sd = np.array([long.std(ddof=1), short.std(ddof=1)])
    r = np.corrcoef(unit[:100].T)[0, 1]
    # Cov(mean of 400, mean of its first 100) = r · sd · sd / 400.
    gap_var = sd[0] ** 2 / 400 + sd[1] ** 2 / 100 - 2 * r * sd[0] * sd[1] / 400
    assert found["a"] == pytest.approx(stats.norm.cdf((b.centre - a.centre) / math.sqrt(gap_var)), abs=0.005)


@pytest.mark.simulation
def test_the_covariance_of_nested_means():
    rng = np.random.default_rng(13)
    unit = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=(20_000, 40))
    found = np.cov(unit[:, :, 0].mean(1), unit[:, :10, 1].mean(1))
    assert found[0, 1] == pytest.approx(0.6 / 40, abs=4 * math.sqrt((1 / 40 * 1 / 10 + 0.015**2) / 20_000))
