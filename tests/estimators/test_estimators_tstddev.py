from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats import TStddev, t_stddev
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import Jackknife, t_quantile
from kdstats.estimators.tstddev import mean_sd_left_out, null_value, pool_batches


def pools(k: int = 30, c: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(c, 3.0), size=k)


def test_value_is_the_published_formula():
    p = pools()
    by_hand = np.mean([math.sqrt(sum((x - np.mean(col)) ** 2 for x in col) / (len(col) - 1)) for col in p.T])
    found = t_stddev(p, definition="d")
    assert found.value == pytest.approx(p.std(0, ddof=1).mean(), rel=1e-14)
    assert found.value == pytest.approx(by_hand, rel=1e-12)
    assert (found.n, found.confidence, found.definition) == (30, 0.95, "d")
    assert found.low < found.value < found.high
    assert float(found) == found.value


def test_value_agrees_with_torch_and_takes_tensors():
    import torch

    p = pools()
    assert t_stddev(torch.tensor(p)).value == pytest.approx(torch.tensor(p).std(0).mean().item(), rel=1e-14)
    single = torch.tensor(p, dtype=torch.float32, requires_grad=True)
    assert t_stddev(single).value == pytest.approx(p.std(0, ddof=1).mean(), rel=1e-5)


def test_delete_one_closed_form_is_brute_force():
    p = pools(11, 4)
    brute = [np.delete(p, k, axis=0).std(0, ddof=1).mean() for k in range(len(p))]
    np.testing.assert_allclose(mean_sd_left_out(p), brute, rtol=1e-12)
    # The textbook standard error of the logarithm: sqrt((K − 1)/K Σ (log left_k − mean log left)²).
    logs = np.log(brute)
    se = math.sqrt(10 / 11 * np.sum((logs - logs.mean()) ** 2))
    found = t_stddev(p)
    assert found.se == pytest.approx(found.value * se, rel=1e-10)
    centre = 11 * math.log(found.value) - 10 * logs.mean()
    half = 2.228138852 * se
    ends = (math.exp(centre - half), math.exp(centre + half))
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-8)


def test_intervals_by_hand():
    assert t_quantile(0.95, 10) == pytest.approx(2.228138852, abs=1e-8)
    assert t_quantile(0.9, math.inf) == pytest.approx(1.6448536270, abs=1e-8)
    jack = Jackknife.of(
        np.arange(5.0).mean(), np.array([np.delete(np.arange(5.0), i).mean() for i in range(5)])
    )
    np.testing.assert_allclose(jack.pseudo, np.arange(5.0))
    assert jack.se == pytest.approx(np.arange(5.0).std(ddof=1) / math.sqrt(5))


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.1, math.nan])
def test_confidence_is_a_fraction(confidence):
    with pytest.raises(UsageError, match="confidence"):
        t_stddev(pools(), confidence=confidence)


def test_wider_confidence_wider_interval():
    narrow, wide = t_stddev(pools(), confidence=0.8), t_stddev(pools(), confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.se == narrow.se


@pytest.mark.parametrize(
    ("classes", "inputs", "published"),
    [(100, 320, 0.005562), (200, 320, 0.003943), (100, 1280, 0.002781), (1000, 1280, 0.000883)],
)
def test_null_values(classes, inputs, published):
    assert null_value(classes, inputs) == pytest.approx(published, abs=5e-7)


def test_null_value_is_what_confident_balanced_pools_give():
    rng = np.random.default_rng(1)
    found = t_stddev(rng.multinomial(320, np.full(100, 0.01), size=4000) / 320)
    assert found.value == pytest.approx(null_value(100, 320), abs=4 * found.se)
    assert found.se / found.value < 0.005
    for bad in ((1, 10), (10, 0)):
        with pytest.raises(UsageError):
            null_value(*bad)


def test_bad_rows_are_named():
    p = pools()
    for value in (np.nan, np.inf):
        q = p.copy()
        q[[4, 9], 2] = value
        with pytest.raises(CheckError, match=r"row 4 holds NaN or infinity \(2 rows"):
            t_stddev(q)
    q = p.copy()
    q[3] *= 1.01
    with pytest.raises(CheckError, match=r"row 3 .*sum 1\.01.*softmax"):
        t_stddev(q)
    q = p.copy()
    q[5, :2] += [-2, 2]
    with pytest.raises(CheckError, match="row 5"):
        t_stddev(q)


@pytest.mark.parametrize("shape", [(30,), (2, 3, 4), (0, 5), (30, 1)])
def test_only_matrices(shape):
    with pytest.raises(UsageError, match="shape"):
        t_stddev(np.ones(shape))


def test_few_ragged_and_equal_pools_are_refused():
    with pytest.raises(UsageError, match="at least 5 pools, not 4"):
        t_stddev(pools(4))
    with pytest.raises(UsageError, match="unlike lengths"):
        t_stddev([[0.5, 0.5], [0.1, 0.2, 0.7]])
    # 0.1 six times has a mean that is not 0.1: equal rows must not pass as a T. stddev of 1e-17.
    for k in (5, 6, 7, 100):
        with pytest.raises(CheckError, match="equal"):
            t_stddev(np.tile([0.1, 0.2, 0.7], (k, 1)))


def test_constant_class_counts_as_zero():
    p = pools(20, 4)
    wider = np.c_[p * 0.5, np.full(20, 0.5)]
    assert t_stddev(wider).value == pytest.approx(t_stddev(p).value * 0.5 * 4 / 5, rel=1e-12)


def test_note_when_the_square_root_bias_shows():
    p = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), size=5)
    found = t_stddev(p)
    assert not found.low <= found.value <= found.high
    assert "square root" in found.notes[0]
    assert t_stddev(np.random.default_rng(1).dirichlet(np.full(10, 50.0), size=60)).notes == ()


batches = st.integers(1, 6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 25), st.integers(2, 9))
def test_order_of_pools_and_classes_does_not_matter(seed, k, c):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(c, 2.0), size=k)
    q = p[rng.permutation(k)][:, rng.permutation(c)]
    a, b = t_stddev(p), t_stddev(q)
    assert (a.value, a.se, a.low, a.high) == pytest.approx((b.value, b.se, b.low, b.high), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_shrinking_towards_a_fixed_vector_scales(seed, share):
    rng = np.random.default_rng(seed)
    p, fixed = rng.dirichlet(np.full(6, 2.0), size=12), rng.dirichlet(np.ones(6))
    a, b = t_stddev(p), t_stddev(share * p + (1 - share) * fixed)
    assert (b.value, b.se, b.low, b.high) == pytest.approx(
        (share * a.value, share * a.se, share * a.low, share * a.high), rel=1e-7
    )


def test_streaming_is_batch():
    rng = np.random.default_rng(2)
    rows = [rng.dirichlet(np.ones(5), size=n) for n in (64, 64, 16) * 8]
    stream = TStddev(batches_per_pool=3)
    for part in rows:
        stream.update(part)
    means = np.stack([np.concatenate(rows[i : i + 3]).mean(0) for i in range(0, 24, 3)])
    assert stream.pools == 8
    np.testing.assert_allclose(stream.mean_probs, means, rtol=1e-13)
    assert stream.compute().value == pytest.approx(t_stddev(means).value, rel=1e-12)
    np.testing.assert_allclose(pool_batches([(r.sum(0), len(r)) for r in rows], 3), means, rtol=1e-13)
    assert len(pool_batches([(r.sum(0), len(r)) for r in rows[:-1]], 3)) == 7


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(5, 20))
def test_merging_random_splits_gives_the_single_pass(seed, parts, k):
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(4), size=10) for _ in range(2 * k)]
    whole = TStddev(2, "d")
    for r in rows:
        whole.update(r)
    cuts = np.sort(rng.integers(0, k + 1, parts - 1)) * 2
    states = []
    for start, stop in zip([0, *cuts], [*cuts, 2 * k], strict=True):
        states.append(TStddev(2, "d"))
        for r in rows[start:stop]:
            states[-1].update(r)
    merged = states[0].merge(*states[1:])
    assert merged.pools == k
    a, b = merged.compute(0.9), whole.compute(0.9)
    assert (a.value, a.se, a.low, a.high, a.definition) == (b.value, b.se, b.low, b.high, "d")


def test_merge_leaves_half_filled_pools_out_and_its_parts_alone():
    a, b = TStddev(2), TStddev(2)
    for state, n in ((a, 5), (b, 7)):
        for _ in range(n):
            state.update([[0.5, 0.5], [0.25, 0.75]])
    assert (a.merge(b).pools, a.pools, b.pools) == (5, 2, 3)
    a.update([[1.0, 0.0]])
    assert a.pools == 3


def test_unlike_definitions_and_classes_are_refused():
    with pytest.raises(UsageError, match="unlike definitions.*'a'.*'b'"):
        TStddev(1, "a").merge(TStddev(1, "b"))
    with pytest.raises(UsageError, match="unlike definitions"):
        TStddev(1, "a").merge(TStddev(2, "a"))
    two, three = TStddev(), TStddev()
    two.update([[0.5, 0.5]])
    three.update([[0.5, 0.25, 0.25]])
    with pytest.raises(UsageError, match="class counts"):
        two.merge(three)
    with pytest.raises(UsageError, match="2 and of 3 classes"):
        two.update([[0.5, 0.25, 0.25]])
    with pytest.raises(UsageError, match="at least 1 batch"):
        TStddev(0)
    half = TStddev(2)
    half.update([[0.5, 0.5]])
    with pytest.raises(UsageError, match="2 and of 3 classes"):
        half.update([[0.5, 0.25, 0.25]])
    with pytest.raises(UsageError, match="whole pools, not 0"):
        half.compute()
    with pytest.raises(CheckError, match="batch: row 1"):
        half.update([[0.5, 0.5], [2.0, 3.0]])
