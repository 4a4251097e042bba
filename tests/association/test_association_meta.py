from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
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


def test_every_moved_panel_is_named():
    ours = meta_analysis([1.0, 0.9, -1.0], [9, 9, 12], method="kendall")
    assert [note[:8] for note in ours.notes if "moved" in note] == ["panel 1:", "panel 3:"]
    spearman = meta_analysis([1.0, 0.95, 0.98], 9, method="spearman")
    assert any("moved" in note and note.startswith("panel 1") for note in spearman.notes)
    assert any("biased towards 0" in note for note in spearman.notes)
    assert not any("biased" in note for note in meta_analysis([0.5, 0.9, 0.8], 9, method="spearman").notes)


def test_the_prediction_interval_is_its_definition():
    """Draws of tau² through the Q profile one by one, then of the mean and of a further panel."""
    z, v = np.arctanh(R), 1 / (N - 3)
    rng = np.random.default_rng(0)

    def q(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float((w * (z - (w * z).sum() / w.sum()) ** 2).sum())

    further = []
    for chi2 in rng.chisquare(len(R) - 1, 4_000):
        tau2 = 0.0 if q(0.0) <= chi2 else optimize.brentq(lambda t, c=chi2: q(t) - c, 0.0, 1e6)
        w = 1 / (v + tau2)
        mean = (w * z).sum() / w.sum()
        further.append(mean + math.sqrt(tau2 + 1 / w.sum()) * rng.standard_normal(5))
    low, high = np.tanh(np.quantile(further, [0.025, 0.975]))
    ours = meta_analysis(R, N)
    assert math.atanh(ours.prediction_low) == pytest.approx(math.atanh(low), abs=0.25)
    assert math.atanh(ours.prediction_high) == pytest.approx(math.atanh(high), abs=0.25)
    assert ours.prediction_low < ours.low


def test_panels_that_are_alike_predict_one_more_like_them():
    ours = meta_analysis(np.full(6, 0.6), 9)
    assert ours.prediction_low < ours.estimate < ours.prediction_high
    half = (math.atanh(ours.prediction_high) - math.atanh(ours.prediction_low)) / 2
    assert half == pytest.approx(1.959964 / math.sqrt(36), rel=1e-3)  # no spread: tau² is 0 in every slice


@pytest.mark.simulation
def test_the_prediction_interval_covers():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        rho = np.tanh(0.8 + 0.5 * rng.standard_normal(11))
        x = rng.standard_normal((10, 9))
        y = rho[:10, None] * x + np.sqrt(1 - rho[:10, None] ** 2) * rng.standard_normal((10, 9))
        found = meta_analysis([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)], 9)
        hits += found.prediction_low <= rho[10] <= found.prediction_high
    assert hits / 300 > 0.91


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


def test_a_factor_that_rounds_to_1_is_not_called_below_1():
    for scale, noted in ((0.9999, False), (0.9, True), (1.1, False)):
        half = (scale / 3) ** 0.5 / 2  # two panels of nine points: the factor is 3 (z1 - z2)²
        found = meta_analysis(np.tanh([0.5 - half, 0.5 + half]), 9)
        assert found.hk_scale == pytest.approx(scale if found.tau2 == 0 else found.hk_scale)
        assert any("Hartung-Knapp factor" in note for note in found.notes) == noted
