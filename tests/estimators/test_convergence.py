"""The convergence curve, the ceiling, and the warning of intervals that may be too short."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.convergence import convergence
from kdstats.estimators.efficient import from_batches
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.tstddev import ceiling_value, from_pools, null_value, t_stddev


def test_every_point_is_t_stddev_of_the_first_pools():
    pools = np.random.default_rng(0).dirichlet(np.full(7, 5.0), size=60)
    curve = convergence(pools, points=10, confidence=0.9)
    assert (curve.pools[0], curve.pools[-1], curve.confidence) == (5, 60, 0.9)
    assert list(curve.pools) == sorted(set(curve.pools))
    for k, value, low, high in zip(curve.pools, curve.values, curve.lows, curve.highs, strict=True):
        found = t_stddev(pools[:k], confidence=0.9)
        assert (value, low, high) == (found.value, found.low, found.high)
    widths = curve.relative_half_widths
    assert widths[-1] == pytest.approx((curve.highs[-1] - curve.lows[-1]) / 2 / curve.values[-1])
    assert widths[-1] < 0.5 * widths[0]
    assert convergence(pools[:5]).pools == (5,)


def test_the_curve_begins_where_the_pools_vary():
    pools = np.random.default_rng(0).dirichlet(np.full(7, 5.0), size=60)
    whole = convergence(pools)
    pools[:7] = pools[0]
    curve = convergence(pools)
    # 8 pools, of which all but one are equal, have no interval either.
    assert curve.pools == tuple(k for k in whole.pools if k > 8)
    assert curve.values[0] == t_stddev(pools[: curve.pools[0]]).value
    with pytest.raises(CheckError, match="all 60 pool means are equal"):
        convergence(np.repeat(pools[:1], 60, axis=0))


def test_what_the_curve_refuses():
    pools = np.random.default_rng(0).dirichlet(np.ones(4), size=9)
    with pytest.raises(UsageError, match="at least 5 pools, not 4"):
        convergence(pools[:4])
    with pytest.raises(UsageError, match="at least 2 points"):
        convergence(pools, points=1)
    with pytest.raises(CheckError, match="row 3 holds NaN"):
        convergence(np.where(np.arange(9)[:, None] == 3, np.nan, pools))


def test_ceiling():
    """Independent, balanced inputs never exceed it, reach it where classes vary alike, and dependence breaks it."""
    assert ceiling_value(1.0, 100, 320) == pytest.approx(0.005562, abs=1e-6)
    assert ceiling_value(1 / 7, 7, 10) == 0
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(40_000, 6)) * np.array([0.2, 0.5, 1.0, 2.0, 3.0, 4.0])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = np.stack([np.roll(row, k % 6) for k, row in enumerate(p)])  # balanced, every class alike
    top = ceiling_value(float((p**2).sum(1).mean()), 6, 40)
    found = t_stddev(p.reshape(-1, 40, 6).mean(1))
    # Rolling takes turns within a pool, which lowers the spread a little; shuffled inputs are independent.
    shuffled = t_stddev(p[rng.permutation(len(p))].reshape(-1, 40, 6).mean(1))
    assert found.value < top
    assert shuffled.value == pytest.approx(top, rel=0.05)
    pairs = np.repeat(p[:20_000], 2, axis=0)  # every input twice: dependent
    assert t_stddev(pairs.reshape(-1, 40, 6).mean(1)).value > 1.2 * top
    for bad in (0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="between 1/C"):
            ceiling_value(bad, 6, 40)
    assert null_value(6, 40) == ceiling_value(1.0, 6, 40)


def rare(rng, k, classes=100, share=0.05, size=0.3):
    """Smooth pools, of which a few are pulled towards one class: what a rare, large draw of a batch does."""
    pull = np.where(rng.random(k) < share, size, 0.0)[:, None]
    return (1 - pull) * rng.dirichlet(np.full(classes, 6.4), size=k) + pull * np.eye(classes)[
        rng.integers(0, classes, k)
    ]


@pytest.mark.simulation
def test_intervals_that_do_not_cover_say_so_and_good_ones_do_not():
    rng = np.random.default_rng(2)
    q, p, a, c = 0.01, 0.05, 0.3, 100
    square = q * (1 - q) / 641 + q * q
    second = (1 - p + p * (1 - a) ** 2) * square + 2 * p * a * (1 - a) * q / c + p * a * a / c
    truth = math.sqrt(second - ((1 - p * a) * q + p * a / c) ** 2)
    found = [t_stddev(rare(rng, 80)) for _ in range(150)]
    assert np.mean([f.low <= truth <= f.high for f in found]) < 0.7
    assert np.mean(["too short" in " ".join(f.notes) for f in found]) > 0.9
    for classes in (10, 100):
        for k in (50, 400):
            smooth = [t_stddev(rng.dirichlet(np.full(classes, 640 / classes), size=k)) for _ in range(60)]
            assert np.mean([bool(f.notes) and "too short" in f.notes[-1] for f in smooth]) <= 0.05


def test_the_warning_comes_from_both_kinds_of_units_and_keeps_other_notes():
    rng = np.random.default_rng(3)
    units = rare(rng, 80)
    layout, moments = PoolLayout(10**9, 64, 1000, 1.0, 0.0), OriginalsMoments(np.full(100, 0.01), 0.5, False)
    found = from_batches(units, units, np.zeros(80, dtype=np.int64), layout, moments)
    assert found.bias == pytest.approx(found.centre - math.log(units.std(0, ddof=1).mean()), abs=1e-12)
    assert found.estimate(0.95, "m", "d", ("first",)).notes == ("first", found.doubt(0.95))
    assert "80 units" in found.doubt(0.95)
    pools = from_pools(units)
    assert pools.bias == pytest.approx(pools.centre - math.log(pools.value), abs=1e-12)
    few = t_stddev(rare(rng, 20, classes=200))
    assert any("square root biases" in note for note in few.notes) or any("too short" in n for n in few.notes)
