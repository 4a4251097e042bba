from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats import ce_covariance
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.covariance import wang2022_v3

QUANTITIES = (
    "mean_variance",
    "mean_covariance",
    "mean_correlation",
    "risk_variance",
    "iid_risk_variance",
    "design_effect",
)


def losses(k: int = 12, n: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, size=(k, n)) + rng.gamma(1.0, size=(k, 1))


def oracle(u: np.ndarray) -> dict[str, float]:
    """From the full matrix of numpy."""
    n = u.shape[1]
    c, r = np.cov(u, rowvar=False), np.corrcoef(u, rowvar=False)
    off = ~np.eye(n, dtype=bool)
    variance, risk = np.diag(c).mean(), c.sum() / n**2
    return {
        "mean_variance": variance,
        "mean_covariance": c[off].mean(),
        "mean_correlation": r[off].mean(),
        "risk_variance": risk,
        "iid_risk_variance": variance / n,
        "design_effect": risk / (variance / n),
    }


def test_values_are_numpys_full_matrix():
    u = losses(40, 25)
    found = ce_covariance(u)
    for name, value in oracle(u).items():
        assert getattr(found, name).value == pytest.approx(value, rel=1e-12, abs=1e-14), name
    assert (found.observations, found.positions) == (40, 25)
    assert found.risk_variance.value == pytest.approx(u.mean(1).var(ddof=1), rel=1e-12)


def test_delete_one_jackknife_is_brute_force():
    u = losses()
    k = len(u)
    found = ce_covariance(u)
    left = [oracle(np.delete(u, i, axis=0)) for i in range(k)]
    for name in QUANTITIES:
        values = np.array([one[name] for one in left])
        se = math.sqrt((k - 1) / k * np.sum((values - values.mean()) ** 2))
        assert getattr(found, name).se == pytest.approx(se, rel=1e-9), name


def test_correlation_blocks_are_brute_force():
    u = losses(230, 4)
    blocks = np.array_split(np.arange(230), 100)
    left = np.array([oracle(np.delete(u, rows, axis=0))["mean_correlation"] for rows in blocks])
    se = math.sqrt(99 / 100 * np.sum((left - left.mean()) ** 2))
    assert ce_covariance(u).mean_correlation.se == pytest.approx(se, rel=1e-9)


def test_published_v3_is_its_double_loop():
    u = losses(9, 6)
    scaled = u / u.max(0)
    cov = np.cov(scaled, rowvar=False)
    total = 0.0
    for i in range(6):
        for j in range(i):
            total += cov[i, j]
    assert wang2022_v3(u) == pytest.approx(total / 36, abs=1e-12)
    assert wang2022_v3(u) == pytest.approx(total / 36, rel=1e-10)
    assert ce_covariance(u).wang2022_v3 == wang2022_v3(u)
    off = cov[~np.eye(6, dtype=bool)].mean()
    assert wang2022_v3(u) == pytest.approx(0.5 * 5 / 6 * off, rel=1e-10)


def test_published_v3_needs_positive_columns():
    u = losses()
    u[:, 3] = 0
    with pytest.raises(CheckError, match="position 3"):
        wang2022_v3(u)
    found = ce_covariance(u)
    assert found.wang2022_v3 is None
    assert "1 constant" in found.mean_correlation.notes[0]


def test_constant_columns():
    u = losses(30, 6)
    wider = np.c_[u, np.full((30, 2), 1.5)]
    found, plain = ce_covariance(wider), oracle(u)
    assert found.mean_correlation.value == pytest.approx(plain["mean_correlation"], rel=1e-12)
    assert found.mean_correlation.se == pytest.approx(ce_covariance(u).mean_correlation.se, rel=1e-9)
    assert found.mean_variance.value == pytest.approx(plain["mean_variance"] * 6 / 8, rel=1e-12)
    assert found.mean_covariance.value == pytest.approx(plain["mean_covariance"] * 30 / 56, rel=1e-12)
    lonely = np.full((30, 3), 2.0)
    lonely[:, 0] = u[:, 0]
    alone = ce_covariance(lonely).mean_correlation
    assert math.isnan(alone.value)
    assert "fewer than 2 positions" in alone.method


def test_perfect_dependence_has_correlation_one():
    shared = np.random.default_rng(0).normal(size=(20, 1))
    found = ce_covariance(3 + shared @ np.array([[1.0, 2.0, 0.5]]))
    assert found.mean_correlation.value == pytest.approx(1.0)
    assert found.mean_correlation.high <= 1.0
    assert found.design_effect.value == pytest.approx(np.sum([1, 2, 0.5]) ** 2 / (1 + 4 + 0.25))


def test_one_deviating_observation():
    u = np.full((12, 4), 0.1)
    u[3] = [1, 2, 3, 4]
    with pytest.raises(CheckError, match="all observations but one"):
        ce_covariance(u)
    # The mean moves in one observation only: its interval must not come from the logarithm of rounding noise.
    u[:, 0] += np.arange(12) % 5 / 5
    u[:, 1] = u[:, 0].copy()
    u[:, 2:] = 2 - u[:, :2]
    u[3] += 1
    risk = ce_covariance(u).risk_variance
    assert risk.value == pytest.approx(u.mean(1).var(ddof=1))
    assert risk.low < risk.value < risk.high < 1e3 * risk.value


@pytest.mark.parametrize("k", [5, 6, 7, 11])
def test_nothing_varies(k):
    for level in (0.1, 0.0, 3.0):
        with pytest.raises(CheckError, match="equal"):
            ce_covariance(np.full((k, 3), level))


def test_bad_input():
    u = losses()
    u[2, 5] = np.nan
    with pytest.raises(CheckError, match="observation 2, position 5"):
        ce_covariance(u)
    with pytest.raises(UsageError, match=r"K ≥ 5"):
        ce_covariance(losses(4))
    with pytest.raises(UsageError, match=r"N ≥ 2"):
        ce_covariance(losses(10, 1))
    with pytest.raises(UsageError, match="unlike lengths"):
        ce_covariance([[1.0] * 6400, [1.0] * 6432] * 5)
    with pytest.raises(UsageError, match="unlike lengths"):
        wang2022_v3([[1.0] * 6, [1.0] * 7] * 5)


def test_groups_remove_what_lies_between_them():
    rng = np.random.default_rng(3)
    u = losses(30, 8)
    labels = np.repeat(["a", "b", "c"], [12, 10, 8])
    moved = u + np.array([0.0, 50.0, -7.0])[np.repeat([0, 1, 2], [12, 10, 8])][:, None]
    order = rng.permutation(30)
    a, b = ce_covariance(u, groups=labels), ce_covariance(moved[order], groups=labels[order])
    pooled = (
        sum((m - 1) * np.cov(u[labels == g], rowvar=False) for g, m in (("a", 12), ("b", 10), ("c", 8))) / 27
    )
    assert a.mean_variance.value == pytest.approx(np.diag(pooled).mean(), rel=1e-12)
    assert a.risk_variance.value == pytest.approx(pooled.sum() / 64, rel=1e-12)
    for name in ("mean_variance", "mean_covariance", "risk_variance", "design_effect"):
        assert getattr(a, name).value == pytest.approx(getattr(b, name).value, rel=1e-9), name
        assert getattr(a, name).se == pytest.approx(getattr(b, name).se, rel=1e-9), name
    one = ce_covariance(u, groups=np.zeros(30))
    assert one.risk_variance == ce_covariance(u).risk_variance
    with pytest.raises(UsageError, match="one observation"):
        ce_covariance(u, groups=[0] * 29 + [1])
    with pytest.raises(UsageError, match="groups of shape"):
        ce_covariance(u, groups=[0] * 29)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-5, 5))
def test_shift_scale_and_order(seed, scale, shift):
    rng = np.random.default_rng(seed)
    u = rng.gamma(2.0, size=(15, 6)) + rng.gamma(1.0, size=(15, 1))
    v = scale * u[rng.permutation(15)][:, rng.permutation(6)] + shift
    a, b = ce_covariance(u), ce_covariance(v)
    for name in QUANTITIES:
        factor = 1.0 if name in ("mean_correlation", "design_effect") else scale**2
        x, y = getattr(a, name), getattr(b, name)
        assert y.value == pytest.approx(factor * x.value, rel=1e-7, abs=1e-9), name
        assert y.se == pytest.approx(factor * x.se, rel=1e-6, abs=1e-9), name
    for name in ("risk_variance", "mean_variance", "mean_covariance"):
        x, y = getattr(a, name), getattr(b, name)
        assert (y.low, y.high) == pytest.approx((scale**2 * x.low, scale**2 * x.high), rel=1e-6, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_v3_does_not_see_the_scale_of_a_position(seed):
    rng = np.random.default_rng(seed)
    u = rng.gamma(2.0, size=(10, 5))
    assert wang2022_v3(u * rng.uniform(0.1, 9, 5)) == pytest.approx(wang2022_v3(u), rel=1e-9)
