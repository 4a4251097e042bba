"""The released statistics against their definitions with full matrices and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.covariance import wang2022_v3
from kdstats.estimators.published import V2_NAMES, MeanOfBatches, WangV2, v3_sets, wang2022_v2


def batch(seed: int, b: int = 12, c: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(c, 0.4), size=b), rng.dirichlet(np.full(c, 0.8), size=b)


def released(o: np.ndarray, v: np.ndarray) -> dict[str, float]:
    """numpy's full matrices."""
    p = np.concatenate([v, o])
    out = {}
    for name, m in (
        ("cov1", np.cov(p)),
        ("cov2", np.cov(p.T)),
        ("corr1", np.corrcoef(p)),
        ("corr2", np.corrcoef(p.T)),
    ):
        out[name], out[f"{name}_abs"] = m.mean(), np.abs(m).mean()
    return out


@pytest.mark.parametrize("shape", [(12, 7), (3, 40), (64, 100), (1100, 5)])
def test_v2_is_numpys_matrices(shape):
    o, v = batch(0, *shape)
    found = wang2022_v2(o, v)
    for name, value in released(o, v).items():
        assert found.values[name] == pytest.approx(value, rel=1e-10, abs=1e-15), name
    assert set(found.values) == set(V2_NAMES)
    assert (found.constant_samples, found.constant_classes) == (0, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(2, 30))
def test_v2_identities(seed, b, c):
    o, v = batch(seed, b, c)
    values = wang2022_v2(o, v, absolute=False).values
    mean = np.concatenate([o, v]).mean(0)
    assert values["cov1"] == pytest.approx(((mean - 1 / c) ** 2).sum() / (c - 1), rel=1e-9, abs=1e-15)
    assert abs(values["cov2"]) < 1e-30
    assert math.isnan(values["cov1_abs"])


def test_v2_without_views_and_with_constant_rows():
    o, _ = batch(1)
    assert wang2022_v2(o).values["cov1"] == pytest.approx(np.cov(o).mean(), rel=1e-12)
    o[2] = 1 / 7
    o[:, 3], o[:, 4] = 0.0, o[:, 4] + o[:, 3]
    o[2] = [1 / 6, 1 / 6, 1 / 6, 0, 1 / 6, 1 / 6, 1 / 6]
    o[5] = 1 / 7
    o[5, 3] = 0
    o /= o.sum(1, keepdims=True)
    found = wang2022_v2(o)
    assert found.constant_classes == 1
    alive = np.delete(o, 3, axis=1)
    assert found.values["corr2"] == pytest.approx(np.corrcoef(alive.T).mean(), rel=1e-10)
    even = np.full((4, 5), 0.2)
    even[0] = [0.6, 0.1, 0.1, 0.1, 0.1]
    assert wang2022_v2(even).constant_samples == 3


def test_v2_running_means_and_merge():
    batches = [batch(s) for s in range(9)]
    one, a, b = WangV2(), WangV2(), WangV2()
    for i, (o, v) in enumerate(batches):
        one.update(o, v)
        (a if i % 2 else b).update(o, v)
    for name, values in {n: [released(o, v)[n] for o, v in batches] for n in V2_NAMES}.items():
        for state in (one, a.merge(b)):
            found = state.compute()[name]
            assert found.value == pytest.approx(np.mean(values), rel=1e-10, abs=1e-15)
            assert found.se == pytest.approx(np.std(values, ddof=1) / 3, rel=1e-6, abs=1e-15)
    with pytest.raises(UsageError, match="with and without"):
        one.merge(WangV2(absolute=False))
    with pytest.raises(UsageError, match="at least 5"):
        WangV2().compute()
    with pytest.raises(CheckError, match="undefined"):
        one.update(np.full((4, 5), 0.2))
    with pytest.raises(CheckError, match="NaN"):
        one.update(np.array([[np.nan, 0.5], [0.5, 0.5]]))
    with pytest.raises(CheckError, match="batch 3"):
        MeanOfBatches().update([1, 2, 3, np.inf])
    with pytest.raises(UsageError, match="shapes"):
        wang2022_v2(*[batch(0, 4, c)[0] for c in (5, 6)])


def ragged(epochs: int, images: int, size: int = 64) -> list[np.ndarray]:
    """Steps of epochs without drop_last, originals and views."""
    rng = np.random.default_rng(0)
    sizes = [min(size, images - at) for at in range(0, images, size)] * epochs
    return [rng.gamma(2.0, size=2 * n) for n in sizes]


def test_the_published_sets_are_ragged_as_they_were():
    steps = ragged(7, 50_000)
    with pytest.raises(UsageError, match="6400 and of 6432"):
        v3_sets(steps, short="refuse")
    dropped, trimmed = v3_sets(steps), v3_sets(steps, short="trim")
    assert dropped.shape == trimmed.shape == (100, 6_400)
    full = [s for s in steps if len(s) == 128]
    assert np.array_equal(dropped, np.concatenate(full[:5000]).reshape(100, 6400))
    # The released loop, its overshoot cut off.
    sets, vector = [], []
    for step in steps:
        vector.extend(step)
        if len(vector) >= 6_400:
            sets.append(vector)
            vector = []
    assert sum(len(s) == 6_432 for s in sets[:100]) == 6
    assert np.array_equal(trimmed, [s[:6_400] for s in sets[:100]])
    assert wang2022_v3(dropped) == pytest.approx(wang2022_v3(trimmed), abs=5e-5)


def test_v3_sets_round_up_to_whole_steps():
    assert v3_sets([np.ones(6)] * 10, entries=10).shape == (5, 12)
    assert v3_sets([np.ones(6)], entries=10).shape == (0, 10)
    assert v3_sets([np.ones(6)] * 10, entries=12, observations=3).shape == (3, 12)
    with pytest.raises(UsageError, match="no steps"):
        v3_sets([])
    with pytest.raises(UsageError, match="'drop'"):
        v3_sets([], short="dropp")
