"""Conversion between pool sizes against simulated pools of both sizes, and what must be refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.components import Components, PairMoments
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.pool_size import FinitePopulation, PoolSize, at_pool_size
from kdstats.estimators.tstddev import mean_sd, t_stddev

VALUE = Estimate(0.005, 0.0001, 0.0048, 0.0052, 100, "m", 0.95, "t_stddev[pool=5x64x2]", ("n",))
OLD = PoolSize(5, 64)


def batch_mean(rng, count, size, classes=6, shared=0.03):
    """Means of ``size`` independent images plus one draw that the batch shares."""
    images = rng.dirichlet(np.full(classes, 2.0), size=(count, size)).mean(1)
    draw = shared * rng.normal(size=(count, classes))
    return images + draw - draw.mean(1, keepdims=True)


def test_other_numbers_of_batches_are_exact_even_with_shared_draws():
    rng = np.random.default_rng(0)
    batches = batch_mean(rng, 60_000, 8)
    sizes = {b: mean_sd(batches.reshape(-1, b, 6).mean(1)) for b in (1, 5, 20)}
    found = t_stddev(batches[:20_000].reshape(-1, 5, 6).mean(1))
    for b in (1, 20):
        moved = at_pool_size(found, PoolSize(5, 8), PoolSize(b, 8))
        assert moved.value == pytest.approx(sizes[b], rel=0.03)
        assert moved.value == pytest.approx(found.value * math.sqrt(5 / b), rel=1e-12)
        assert moved.low / found.low == moved.high / found.high == pytest.approx(moved.value / found.value)
        assert moved.se / moved.value == pytest.approx(found.se / found.value)


def test_another_batch_size_under_draws_per_sample():
    rng = np.random.default_rng(1)
    found = t_stddev(batch_mean(rng, 5000, 8, shared=0.0))
    truth = mean_sd(batch_mean(rng, 20_000, 32, shared=0.0))
    moved = at_pool_size(found, PoolSize(1, 8), PoolSize(1, 32), draws="sample")
    assert moved.value == pytest.approx(truth, rel=0.03)
    assert any("exact for draws per sample" in note for note in moved.notes)


def test_another_batch_size_under_shared_draws_is_not_one_over_root_m():
    rng = np.random.default_rng(2)
    truth = {n: mean_sd(batch_mean(rng, 30_000, n)) for n in (8, 32)}
    # 1/sqrt(M) would be 0.5; the shared draw does not average out.
    assert truth[32] / truth[8] > 0.6
    spread = 4 / 144 * 5 / 6  # not used by the conversion beyond its ratio to the total
    parts = Components(spread, 0.0, 0.0, spread, 2 * spread, 8)
    with pytest.raises(CheckError, match="shared draws"):
        at_pool_size(VALUE, PoolSize(1, 8), PoolSize(1, 32), components=parts)
    with pytest.raises(CheckError, match="give the components"):
        at_pool_size(VALUE, OLD, PoolSize(5, 128))


def test_small_cross_covariance_is_borne_and_said():
    parts = Components(1.0, 1.0, 0.98, 0.02, 3.0, 640)
    moved = at_pool_size(VALUE, OLD, PoolSize(5, 128), components=parts)
    share = 0.02 / 3
    extremes = [math.sqrt(0.5), math.sqrt((1 - share) * 0.5 + share * (127 / 128) / (63 / 64))]
    assert extremes[0] < moved.value / VALUE.value < extremes[1]
    assert any("0.7% of the variance comes from shared draws is not known" in note for note in moved.notes)


def test_the_components_of_a_real_split_feed_it():
    rng = np.random.default_rng(3)
    o = rng.dirichlet(np.ones(5), size=4000)
    v = 0.5 * o + 0.5 * rng.dirichlet(np.ones(5), size=4000)
    moments = PairMoments(5)
    moments.update(o, v)
    total = float((0.5 * (o + v)).var(0, ddof=1).mean()) / 64
    parts = moments.components(total, 64, 64)
    assert abs(parts.cov_cross) < 1e-4 * parts.total
    moved = at_pool_size(VALUE, PoolSize(1, 64), PoolSize(1, 16), components=parts)
    assert moved.value == pytest.approx(2 * VALUE.value, rel=1e-3)


def test_finite_training_set():
    """Epochs without replacement: the expected published value of both layouts, in a population that is known."""
    rng = np.random.default_rng(4)
    images, classes, batch, epochs = 960, 5, 16, 10
    p = rng.dirichlet(np.full(classes, 0.5), size=images)
    per_epoch = images // batch
    found = {}
    for b in (2, 10):
        pools = np.concatenate(
            [
                np.concatenate([p[rng.permutation(images)] for _ in range(epochs)])
                .reshape(epochs * per_epoch // b, b * batch, classes)
                .mean(1)[None]
                for _ in range(150)
            ]
        )
        found[b] = float(np.sqrt(pools.var(axis=1, ddof=1).mean(0)).mean())
    small = Estimate(found[2], 1e-9, found[2] * 0.98, found[2] * 1.02, 100, "m")
    exact = at_pool_size(
        small, PoolSize(2, batch), PoolSize(10, batch), population=FinitePopulation(images, epochs, 1.0)
    )
    assert exact.value == pytest.approx(found[10], rel=0.01)
    # Without replacement a sixth of the training set varies less than independent draws would.
    assert at_pool_size(small, PoolSize(2, batch), PoolSize(10, batch)).value > 1.04 * found[10]
    with pytest.raises(CheckError, match="lies between images"):
        at_pool_size(
            small, PoolSize(2, batch), PoolSize(10, batch), population=FinitePopulation(images, epochs)
        )
    large = at_pool_size(VALUE, OLD, PoolSize(10, 64), population=FinitePopulation(50_000, 10))
    assert large.value == pytest.approx(VALUE.value * math.sqrt(0.5), rel=0.005)
    assert any("off by at most" in note for note in large.notes)


def test_the_definition_and_the_notes_travel():
    moved = at_pool_size(VALUE, OLD, PoolSize(10, 64))
    assert moved.definition != VALUE.definition
    assert "pool=10x64 from 5x64; measured: t_stddev[pool=5x64x2]" in moved.definition
    assert moved.method == "m; converted from pools of 5x64 to 10x64"
    assert moved.notes == ("n", "draws taken as independent (no finite training set)")
    assert at_pool_size(VALUE, OLD, OLD) is VALUE
    there = at_pool_size(moved, PoolSize(10, 64), OLD)
    assert there.value == pytest.approx(VALUE.value, rel=1e-12)


def test_what_is_refused():
    with pytest.raises(CheckError, match="measure pools of 10x64"):
        at_pool_size(VALUE, OLD, PoolSize(10, 64), history=True)
    with pytest.raises(UsageError, match="'batch' or 'sample'"):
        at_pool_size(VALUE, OLD, PoolSize(10, 64), draws="batches")
    with pytest.raises(UsageError, match="at least 1 batch"):
        PoolSize(0, 64)
    with pytest.raises(UsageError, match="between 0 and 1"):
        at_pool_size(VALUE, OLD, PoolSize(10, 64), population=FinitePopulation(50_000, 10, 1.5))
    with pytest.raises(UsageError, match="positive"):
        at_pool_size(Estimate(0.0, 0.0, 0.0, 0.0, 5, "m"), OLD, PoolSize(10, 64))
    with pytest.raises(CheckError, match="no spread of single images"):
        at_pool_size(VALUE, OLD, PoolSize(5, 32), components=Components(0.0, 0.0, 0.0, 1.0, 1.0, 640))
