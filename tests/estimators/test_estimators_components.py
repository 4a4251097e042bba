from __future__ import annotations

import numpy as np
import pytest

from kdstats.errors import UsageError
from kdstats.estimators.components import Components, PairMoments


def pairs(n: int = 400, c: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    o = rng.dirichlet(np.full(c, 0.3), size=n)
    return o, 0.5 * o + 0.5 * rng.dirichlet(np.full(c, 0.6), size=n)


def test_terms_from_their_definition():
    o, v = pairs()
    state = PairMoments(5)
    for start in range(0, 400, 64):
        state.update(o[start : start + 64], v[start : start + 64])
    found = state.components(0.01, 320, 320)
    linked = np.mean([np.cov(o[:, c], v[:, c])[0, 1] for c in range(5)])
    assert found.var_original == pytest.approx(o.var(0, ddof=1).mean() / (4 * 320), rel=1e-10)
    assert found.var_augmented == pytest.approx(v.var(0, ddof=1).mean() / (4 * 320), rel=1e-10)
    assert found.cov_views == pytest.approx(2 * linked / (4 * 320), rel=1e-10)
    parts = found.var_original + found.var_augmented + found.cov_views + found.cov_cross
    assert parts == pytest.approx(found.total == 0.01 and 0.01, rel=1e-14)


def test_independent_images_leave_no_cross_term():
    rng = np.random.default_rng(1)
    population = pairs(20_000, 4, 2)
    state = PairMoments(4)
    state.update(*population)
    n = 32
    at = rng.integers(0, 20_000, (6000, n))
    means = 0.5 * (population[0][at].mean(1) + population[1][at].mean(1))
    found = state.components(means.var(0, ddof=1).mean(), n, n)
    assert abs(found.cov_cross) < 0.03 * found.total
    assert found.design_effect == pytest.approx(
        1 + found.cov_views / (found.var_original + found.var_augmented), rel=0.05
    )


def test_identity_has_design_effect_two():
    rng = np.random.default_rng(3)
    o, _ = pairs(50_000, 4)
    state = PairMoments(4)
    state.update(o, o)
    means = o[rng.integers(0, 50_000, (5000, 64))].mean(1)
    found = state.components(means.var(0, ddof=1).mean(), 64, 64)
    assert found.design_effect == pytest.approx(2.0, rel=0.05)
    assert found.effective_inputs == pytest.approx(64, rel=0.05)
    assert found.cov_views == pytest.approx(found.var_original + found.var_augmented, rel=1e-9)
    exact = state.components(o.var(0, ddof=1).mean() / 64, 64, 64)
    assert exact.design_effect == pytest.approx(2.0, rel=1e-12)


def test_equal_images_have_the_design_effect_of_all_inputs():
    found = Components(1.0, 1.0, 2.0, 636.0, 640.0, 640)
    assert found.design_effect == 320
    assert found.effective_inputs == 2


def test_constant_and_float32_probabilities_keep_their_digits():
    o = np.full((1000, 3), [0.999, 0.0005, 0.0005], dtype=np.float32)
    state = PairMoments(3)
    state.update(o, o)
    assert abs(state.components(1.0, 320, 320).var_original) < 1e-15


def test_what_is_refused():
    state = PairMoments(3)
    with pytest.raises(UsageError, match="shapes"):
        state.update(np.ones((2, 3)), np.ones((3, 3)))
    state.update(np.ones((1, 3)) / 3, np.ones((1, 3)) / 3)
    with pytest.raises(UsageError, match="at least 2"):
        state.components(1.0, 5, 5)


def test_originals_are_those_of_the_pool_whatever_was_picked():
    """Views of a few bases only: the originals' spread is that of all originals, the link around their mean."""
    rng = np.random.default_rng(5)
    originals = rng.dirichlet(np.ones(4), size=60)
    picked = rng.integers(0, 10, size=60)
    base = originals[picked]
    views = 0.5 * base + 0.5 * rng.dirichlet(np.ones(4), size=60)
    state = PairMoments(4)
    for start in range(0, 60, 20):
        rows = slice(start, start + 20)
        state.update(originals[rows], views[rows], base[rows])
    plain = PairMoments(4)
    plain.update(originals, originals)
    found, alone = state.components(1e-3, 320, 320), plain.components(1e-3, 320, 320)
    assert found.var_original == pytest.approx(alone.var_original, rel=1e-12)
    linked = ((base - originals.mean(0)) * (views - views.mean(0))).mean() * 60 / 59
    assert found.cov_views == pytest.approx(2 * linked / 1280, rel=1e-9)
    assert found.var_original + found.var_augmented + found.cov_views + found.cov_cross == pytest.approx(1e-3)


def test_more_or_fewer_views_than_originals():
    """With ``n_pick`` a batch has other numbers of views: every input has weight 1/M, a view one original."""
    rng = np.random.default_rng(21)
    originals, views, base = (rng.dirichlet(np.full(5, 0.3), size=n) for n in (80, 30, 30))
    found = PairMoments(5)
    found.update(originals[:40], views[:20], base[:20])
    found.update(originals[40:], views[20:], base[20:])
    parts = found.components(1.0, 200, 75)
    bessel = 30 / 29
    assert parts.inputs == 275
    assert parts.var_original == pytest.approx(200 * originals.var(0).mean() * bessel / 275**2)
    assert parts.var_augmented == pytest.approx(75 * views.var(0).mean() * bessel / 275**2)
    centred = (base - originals.mean(0)) * (views - views.mean(0))
    assert parts.cov_views == pytest.approx(2 * 75 * centred.mean() * bessel / 275**2)
    with pytest.raises(UsageError, match="shapes"):
        found.update(originals, views, originals)


@pytest.mark.simulation
def test_components_of_unequal_numbers_add_up_to_the_variance_of_the_mean():
    rng = np.random.default_rng(22)
    n, m, reps = 12, 5, 40_000
    o = rng.standard_normal((reps, n))
    v = 0.6 * o[:, :m] + 0.5 * rng.standard_normal((reps, m))
    mean = (o.sum(1) + v.sum(1)) / (n + m)
    moments = PairMoments(1)
    moments.update(o.reshape(-1, 1), v.reshape(-1, 1), o[:, :m].reshape(-1, 1))
    parts = moments.components(float(mean.var()), n, m)
    assert parts.cov_cross == pytest.approx(0, abs=4 * mean.var() * np.sqrt(2 / reps))
