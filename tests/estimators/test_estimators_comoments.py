from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats import Comoments, ce_covariance
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.comoments import within

SHARED = ("mean_variance", "mean_covariance", "risk_variance", "iid_risk_variance", "design_effect")


def losses(k: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, size=(k, n)) + rng.gamma(1.0, size=(k, 1))


def fed(parts: list[np.ndarray]) -> Comoments:
    state = Comoments()
    for part in parts:
        state.update(part)
    return state


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 120), st.integers(1, 6), st.integers(1, 6))
def test_any_split_and_merge_gives_the_single_pass(seed, k, cuts, states):
    rng = np.random.default_rng(seed)
    u = 1e3 + losses(k, 9, seed)  # a large mean: sums of squares would lose what Welford's update keeps
    parts = np.split(u, np.sort(rng.integers(0, k + 1, cuts)))
    owner = rng.integers(0, states, len(parts))
    dealt = [[p for p, s in zip(parts, owner, strict=True) if s == j and len(p)] for j in range(states)]
    merged = Comoments().merge(*(fed(own) for own in dealt if own))
    whole, matrix = fed([u]).compute(), ce_covariance(u)
    assert merged.observations == k
    for name in SHARED:
        value = getattr(matrix, name).value
        assert getattr(whole, name).value == pytest.approx(value, rel=1e-9), name
        assert getattr(merged.compute(), name).value == pytest.approx(value, rel=1e-9), name
    assert whole.mean_correlation is None
    assert whole.wang2022_v3 is None
    assert (whole.observations, whole.positions) == (k, 9)


def test_portions_of_one_stream_give_the_same_interval():
    u = losses(200, 12)
    a, b = fed([u]).compute(), fed(np.array_split(u, 13)).compute()
    c = fed(list(u)).compute()  # one observation [N] at a time
    for name in SHARED:
        x = getattr(a, name)
        for other in (b, c):
            y = getattr(other, name)
            assert (y.value, y.se, y.low, y.high) == pytest.approx((x.value, x.se, x.low, x.high), rel=1e-9)


def test_up_to_32_observations_the_interval_is_the_delete_one_interval():
    u = losses(32, 10)
    a, b = fed([u]).compute(), ce_covariance(u)
    for name in SHARED:
        x, y = getattr(a, name), getattr(b, name)
        assert (x.value, x.se, x.low, x.high) == pytest.approx((y.value, y.se, y.low, y.high), rel=1e-9), name


def test_group_jackknife_agrees_with_delete_one_on_many_observations():
    u = losses(3200, 6)
    a, b = fed([u]).compute(), ce_covariance(u)
    for name in SHARED:
        assert getattr(a, name).se == pytest.approx(getattr(b, name).se, rel=0.4), name


def test_small_parts_do_not_share_a_group():
    u = losses(32, 10)
    merged = Comoments().merge(*(fed([row]) for row in u)).compute()
    assert merged.risk_variance.se == pytest.approx(ce_covariance(u).risk_variance.se, rel=1e-9)


def test_memory_does_not_grow_with_observations():
    n = 2000
    state = Comoments()
    rng = np.random.default_rng(0)
    state.update(rng.gamma(2.0, size=(64, n)))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(40):
        state.update(rng.gamma(2.0, size=(8, n)))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert state.observations == 64 + 320
    assert held <= 33 * n * 8  # 32 position means that replaced the old ones, and next to nothing else


def test_what_is_refused():
    state = fed([losses(6, 4)])
    with pytest.raises(UsageError, match="of 4 and of 5 positions"):
        state.update(np.ones(5))
    with pytest.raises(UsageError, match="4 and 5 positions cannot be merged"):
        state.merge(fed([losses(6, 5)]))
    with pytest.raises(UsageError, match="unlike lengths"):
        state.update([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]])
    with pytest.raises(UsageError, match="N ≥ 2"):
        Comoments().update(np.ones((4, 1)))
    bad = losses(2, 4)
    bad[1, 3] = np.inf
    with pytest.raises(CheckError, match="observation 7, position 3"):
        state.update(bad)
    assert state.observations == 6
    with pytest.raises(UsageError, match="at least 5 observations, not 4"):
        fed([losses(4, 4)]).compute()
    for k in (6, 40):
        for level in (0.1, 0.0, 0.3):
            with pytest.raises(CheckError, match="equal"):
                fed([np.full((k, 3), level)]).compute()


def test_merge_leaves_its_parts_alone():
    a, b = fed([losses(10, 4, 1)]), fed([losses(12, 4, 2)])
    before = a.compute()
    assert a.merge(b).observations == 22
    assert a.compute() == before


@pytest.mark.parametrize("sizes", [(10, 9, 8), (40, 25, 33), (2, 2, 5)])
def test_pooled_within_states_is_pooled_within_groups(sizes):
    u = 1e3 + losses(sum(sizes), 9)
    labels = np.repeat(range(len(sizes)), sizes)
    u += 50.0 * labels[:, None]  # what lies between the states is left out
    states = [fed([u[labels == g]]) for g in range(len(sizes))]
    ours, theirs = within(states), ce_covariance(u, groups=labels)
    for name in SHARED:
        assert getattr(ours, name).value == pytest.approx(getattr(theirs, name).value, rel=1e-9), name
        if sum(sizes) <= 32:  # one observation a group: the delete-one jackknife
            assert getattr(ours, name).se == pytest.approx(getattr(theirs, name).se, rel=1e-9), name
    assert (ours.observations, ours.positions) == (sum(sizes), 9)
    # Delete-a-group by hand: group g holds every observation whose running number is g modulo 32.
    number = np.arange(sum(sizes)) % 32
    left = []
    for g in np.unique(number):
        rest = [u[(labels == k) & (number != g)] for k in range(len(sizes))]
        df = sum(max(len(r) - 1, 0) for r in rest)
        left.append(sum(((r.mean(1) - r.mean()) ** 2).sum() for r in rest if len(r)) / df)
    values = np.array(left)
    se = np.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())
    assert ours.risk_variance.se == pytest.approx(se, rel=1e-6)


def test_states_that_cannot_be_pooled():
    with pytest.raises(UsageError, match="one observation"):
        within([fed([losses(6, 4)]), fed([losses(1, 4)])])
    with pytest.raises(UsageError, match="4 and 5 positions"):
        within([fed([losses(6, 4)]), fed([losses(6, 5)])])
    with pytest.raises(UsageError, match="at least 5 observations, not 4"):
        within([fed([losses(2, 4)]), fed([losses(2, 4)])])
    assert within([fed([losses(6, 4)]), Comoments()]) == fed([losses(6, 4)]).compute()
