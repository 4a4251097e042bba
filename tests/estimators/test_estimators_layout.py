from __future__ import annotations

import numpy as np
import pytest

from kdstats.errors import UsageError
from kdstats.estimators.layout import PoolLayout


def brute(images: int, batch: int, per_pool: int, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """The published pooling, image by image: ``[K, n]`` image numbers of each pool, ragged as lists."""
    batches = []
    for _ in range(epochs):
        order = rng.permutation(images)
        batches += [order[i : i + batch] for i in range(0, images, batch)]
    whole = len(batches) // per_pool
    return [np.concatenate(batches[i * per_pool : (i + 1) * per_pool]) for i in range(whole)]


@pytest.mark.parametrize(
    ("images", "batch", "sizes"),
    [(50_000, 64, {320: 1554, 272: 10}), (100_000, 64, {320: 3116, 288: 10}), (1280, 64, {320: 40})],
)
def test_pools_of_the_published_runs(images, batch, sizes):
    layout = PoolLayout.of(images, batch, 5, 10)
    pools = brute(images, batch, 5, 10, np.random.default_rng(0))
    counts = np.array([len(p) for p in pools])
    assert layout.pools == len(pools) == sum(sizes.values())
    assert dict(zip(*np.unique(counts, return_counts=True), strict=True)) == sizes
    assert layout.per_batch == pytest.approx((batch / counts).mean(), rel=1e-12)


def test_published_counts():
    assert PoolLayout.of(50_000, 64, 5, 10).pools == 1564
    assert PoolLayout.of(100_000, 64, 5, 10).pools == 3126


def test_finite_weight_from_its_definition():
    # E[s²] = mean_k Var(p̄_k) − mean_{k≠l} Cov(p̄_k, p̄_l), written out over shares of epochs.
    images, batch, per_pool, epochs = 100, 16, 3, 4
    layout = PoolLayout.of(images, batch, per_pool, epochs)
    sizes = [16] * 6 + [4]
    flat = [(e, n) for e in range(epochs) for n in sizes]
    pools = [flat[i : i + per_pool] for i in range(0, len(flat) - per_pool + 1, per_pool)]
    share = np.zeros((len(pools), epochs))
    for k, members in enumerate(pools):
        for e, n in members:
            share[k, e] += n / sum(m for _, m in members)
    gram = share @ share.T
    off = gram[~np.eye(len(pools), dtype=bool)].mean()
    assert layout.finite == pytest.approx(np.diag(gram).mean() - off, rel=1e-12)


@pytest.mark.parametrize(
    ("images", "batch", "per_pool", "epochs"), [(70, 8, 3, 4), (64, 8, 4, 3), (60, 16, 2, 2)]
)
def test_expected_variance_by_simulation(images, batch, per_pool, epochs):
    rng = np.random.default_rng(1)
    x = rng.gamma(0.5, size=images)
    layout = PoolLayout.of(images, batch, per_pool, epochs)
    between = x.var(ddof=1)
    expected = layout.per_batch * between / batch - layout.finite * between / images
    found = [
        np.var([x[p].mean() for p in brute(images, batch, per_pool, epochs, rng)], ddof=1)
        for _ in range(3000)
    ]
    se = np.std(found) / np.sqrt(len(found))
    assert se / expected < 0.02
    assert np.mean(found) == pytest.approx(expected, abs=4 * se)
    # The correction is needed: without it the simulation refuses.
    assert abs(np.mean(found) - layout.per_batch * between / batch) > 6 * se


def test_finite_weight_is_near_the_share_of_other_epochs():
    assert PoolLayout.of(50_000, 64, 5, 10).finite == pytest.approx(0.9, abs=0.01)
    assert PoolLayout.of(6400, 64, 5, 1).finite == pytest.approx(0.0, abs=1e-12)


def test_too_few_pools():
    with pytest.raises(UsageError, match="make 1 pools of 5 batches"):
        PoolLayout.of(64, 16, 5, 2)
