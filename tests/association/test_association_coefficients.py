from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdstats.association.coefficients import METHODS, Counted, coefficient
from kdstats.errors import CheckError, UsageError


def pair(seed: int, n: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    y = 0.6 * x + rng.standard_normal(n)
    return (np.round(x), np.round(y)) if ties else (x, y)


ORACLES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [5, 9, 33, 60])
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scipy(method, n, ties):
    x, y = pair(3, n, ties)
    expected = ORACLES[method](x, y)
    found = coefficient(method, x, y)
    assert found.estimate == pytest.approx(expected.statistic, abs=1e-14)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert found.n == n


@pytest.mark.parametrize("scale", [1e-280, 1e280])
def test_pearson_does_not_overflow(scale):
    x, y = pair(1, 9)
    assert coefficient("pearson", x * scale, y).estimate == pytest.approx(
        coefficient("pearson", x, y).estimate
    )
    assert Counted(x * scale, y)(np.ones((1, 9)))[0, 0] == pytest.approx(
        coefficient("pearson", x, y).estimate
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [5, 9, 40])
def test_counted_agrees_with_scipy_on_every_resample(n, ties):
    x, y = pair(11, n, ties)
    rng = np.random.default_rng(5)
    rows = rng.integers(0, n, size=(60, n))
    counts = np.array([np.bincount(row, minlength=n) for row in rows], dtype=float)
    for row, found in zip(rows, Counted(x, y)(counts), strict=True):
        a, b = x[row], y[row]
        if np.unique(a).size == 1 or np.unique(b).size == 1:
            assert np.isnan(found).all()
            continue
        expected = [stats.pearsonr(a, b)[0], stats.spearmanr(a, b)[0], stats.kendalltau(a, b)[0]]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_counted_survives_a_far_outlier():
    # A resample without the outlier has a spread far below that of the whole.
    x = np.array([0, 1, 2, 3, 4, 1e9])
    y = np.array([1.0, 0, 2, 4, 3, -1e9])
    counts = np.array([[1.0, 1, 1, 1, 1, 0]])
    assert Counted(x, y)(counts)[0, 0] == pytest.approx(stats.pearsonr(x[:5], y[:5])[0], abs=1e-6)


def test_degenerate_resamples_are_whole_rows_of_nan():
    x, y = np.array([1.0, 1, 1, 2, 3]), np.array([1.0, 2, 3, 4, 5])
    found = Counted(x, y)(np.array([[2.0, 2, 1, 0, 0], [1, 1, 1, 1, 1]]))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


floats = st.lists(st.integers(-50, 50), min_size=6, max_size=20)


@settings(max_examples=60, deadline=None)
@given(floats, st.integers(0, 10**6))
def test_laws(values, seed):
    x = np.array(values, dtype=float)
    y = np.random.default_rng(seed).permutation(x) + np.arange(x.size) % 3
    if np.unique(x).size < 3 or np.unique(y).size < 3:
        return
    for method in METHODS:
        r = coefficient(method, x, y).estimate
        assert coefficient(method, y, x).estimate == pytest.approx(r, abs=1e-12)
        assert coefficient(method, -x, y).estimate == pytest.approx(-r, abs=1e-12)
        assert coefficient(method, 3.5 * x - 7, y).estimate == pytest.approx(r, abs=1e-12)
        order = np.random.default_rng(seed + 1).permutation(x.size)
        assert coefficient(method, x[order], y[order]).estimate == pytest.approx(r, abs=1e-12)
    for method in ("spearman", "kendall"):
        r = coefficient(method, x, y).estimate
        assert coefficient(method, np.exp(x / 25), y**3).estimate == pytest.approx(r, abs=1e-12)


def test_pearson_is_not_invariant_under_monotone_transforms():
    x, y = pair(2, 12)
    assert abs(coefficient("pearson", np.exp(x), y).estimate - coefficient("pearson", x, y).estimate) > 1e-3


@pytest.mark.parametrize(
    ("x", "y", "error", "said"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4], CheckError, "x is constant"),
        ([1, 2, 3, 4], [1e9, 1e9, 1e9, 1e9 + 1e-6], CheckError, "last digits"),
        ([1, 2, np.nan, 4], [1, 2, 3, 4], UsageError, "position 2"),
        ([1, 2, 3], [1, 2, 3, 4], UsageError, "shapes"),
        ([1, 2], [1, 2], UsageError, "at least 3"),
        ([-1.7e308, 1, 1.7e308], [1, 2, 3], CheckError, "rescale"),
    ],
)
def test_bad_columns(x, y, error, said):
    with pytest.raises(error, match=said):
        coefficient("pearson", x, y)


def test_unknown_method():
    with pytest.raises(UsageError, match="spearman"):
        coefficient("spearmann", [1, 2, 3], [1, 2, 3])


def test_scipy_stats_is_loaded_by_who_asks_for_a_coefficient():
    code = (
        "import sys\n"
        "from kdstats.association import correlate, regret, residuals, ranks, loo, permutation, meta, mixed\n"
        "from kdstats.figures import ranking, correlation\n"
        "before = 'scipy.stats' in sys.modules\n"
        "from kdstats.association.coefficients import coefficient\n"
        "coefficient('kendall', [1, 2, 3, 4], [1, 3, 2, 4])\n"
        "print(before, 'scipy.stats' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")
