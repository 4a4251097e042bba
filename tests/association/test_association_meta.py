from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from kdstats.association.meta import meta_analysis
from kdstats.association.multiplicity import holm
from kdstats.errors import CheckError, UsageError

R = np.array([0.95, 0.2, 0.7, 0.99, 0.5])
N = np.array([9, 12, 30, 9, 20])


def test_dersimonian_laird_is_statsmodels():
    theirs = combine_effects(np.arctanh(R), 1 / (N - 3), method_re="dl", use_t=True)
    ours = meta_analysis(R, N)
    assert ours.z == pytest.approx(theirs.mean_effect_re, abs=1e-10)
    assert ours.tau2 == pytest.approx(theirs.tau2, abs=1e-10)
    assert ours.q == pytest.approx(theirs.q, abs=1e-10)
    assert ours.i2 == pytest.approx(theirs.i2, abs=1e-10)
    assert ours.hk_scale == pytest.approx(theirs.scale_hksj_re, abs=1e-10)
    assert ours.hk_scale > 1
    assert ours.se == pytest.approx(theirs.sd_eff_w_re_hksj, abs=1e-10)
    low, high = theirs.conf_int(alpha=0.05)[3]
    assert (ours.low, ours.high) == pytest.approx((math.tanh(low), math.tanh(high)), abs=1e-10)
    assert ours.k == 5
    assert ours.prediction_low < ours.low < ours.estimate < ours.high < ours.prediction_high


def test_alike_panels_do_not_shrink_the_interval():
    r = np.full(4, 0.6)
    ours = meta_analysis(r, 9)
    assert ours.tau2 == ours.i2 == 0
    assert ours.se == pytest.approx(1 / math.sqrt(4 * 6))
    assert ours.estimate == pytest.approx(0.6)
    assert "Hartung-Knapp factor" in ours.notes[0]


def test_perfect_rank_correlations_are_moved_with_a_note():
    ours = meta_analysis([1.0, 0.9, 0.8], 9, method="kendall")
    assert any("moved" in note and "panel 1" in note for note in ours.notes)
    assert math.isfinite(ours.estimate)
    with pytest.raises(UsageError, match="±1"):
        meta_analysis([1.0, 0.9], 9)


def test_two_panels_have_no_prediction_interval():
    ours = meta_analysis([0.4, 0.5], 9)
    assert math.isnan(ours.prediction_low)
    assert any("prediction" in note for note in ours.notes)


def test_confidence_and_p_agree():
    ours = meta_analysis(R, N)
    edge = meta_analysis(R, N, confidence=1 - ours.p_value)
    assert edge.low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("r", "n", "error", "said"),
    [
        ([0.5], 9, UsageError, "at least 2"),
        ([0.5, 0.6], [9, 9, 9], UsageError, "one a panel"),
        ([0.5, math.nan], 9, CheckError, "missing"),
        ([0.5, 0.6], [9, 4], UsageError, "at least 5"),
    ],
)
def test_refusals(r, n, error, said):
    with pytest.raises(error, match=said):
        meta_analysis(r, n)


def test_holm_is_statsmodels():
    p = np.array([0.01, 0.0, 0.04, 0.03, 0.9, 0.03])
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-15)
    assert holm([0.2]).tolist() == [0.2]
    with pytest.raises(CheckError):
        holm([0.1, math.nan])
    with pytest.raises(UsageError):
        holm([[0.1]])
