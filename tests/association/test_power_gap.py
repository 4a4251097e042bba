"""Seeds, gaps and power of t tests: statsmodels, scipy's noncentral t, laws, and simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from kdstats import power
from kdstats.association.noncentral import t_critical, t_power
from kdstats.association.pilot import Spread
from kdstats.association.power_gap import GapPower, gap_for, gap_power, power_of, seeds_for
from kdstats.errors import UsageError


@pytest.mark.parametrize("df", [1, 2, 5, 16, 300, 1_000_000])
def test_power_is_the_noncentral_t(df):
    for shift in (0.0, 0.3, 1.0, 2.5, 6.0, 30.0):
        for alpha in (0.05, 0.005, 1e-5):
            critical = t_critical(alpha, df)
            assert critical == pytest.approx(stats.t.isf(alpha / 2, df), rel=1e-9)
            # The lower tail as the upper one of the mirrored law: nct.cdf is NaN there.
            expected = stats.nct.sf(critical, df, shift) + stats.nct.sf(critical, df, -shift)
            assert t_power(shift, df, alpha) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("effect", [0.4, 1.0, 2.2])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
def test_statsmodels_is_reproduced(effect, alpha):
    paired, two = Spread.given(1.0, correlation=0.5), Spread.given(1.0)  # differences of sd 1 and sqrt(2)
    for n in (3, 5, 12):
        mine = gap_power(paired, gap=effect, seeds=n, alpha=alpha).power
        assert mine == pytest.approx(TTestPower().power(effect, n, alpha), abs=1e-10)
        mine = gap_power(two, gap=effect, seeds=n, alpha=alpha).power
        assert mine == pytest.approx(TTestIndPower().power(effect, n, alpha), abs=1e-10)
    for spread, theirs in ((paired, TTestPower()), (two, TTestIndPower())):
        exact = theirs.solve_power(effect, power=0.8, alpha=alpha)
        found = gap_power(spread, gap=effect, alpha=alpha)
        assert found.seeds == max(2, math.ceil(exact - 1e-9))
        assert found.power >= 0.8
        assert (
            found.seeds == 2 or gap_power(spread, gap=effect, seeds=found.seeds - 1, alpha=alpha).power < 0.8
        )
    smallest = gap_power(paired, seeds=5, alpha=alpha).gap
    assert smallest == pytest.approx(TTestPower().solve_power(nobs=5, power=0.8, alpha=alpha), rel=1e-5)


def test_the_three_questions_agree_and_scale_with_the_unit():
    for pooled in (2, 9):
        for paired in (True, False):
            rest = {"alpha": 0.01, "pooled": pooled, "paired": paired}
            gap = gap_for(6, 0.02, target=0.9, **rest)
            assert power_of(gap, 6, 0.02, **rest) == pytest.approx(0.9, abs=1e-9)
            assert seeds_for(gap * (1 + 1e-9), 0.02, target=0.9, **rest) == 6
            assert gap_for(6, 20.0, target=0.9, **rest) == pytest.approx(1000 * gap, rel=1e-9)
    # Pooling the residual of more schemes never costs power.
    assert power_of(1, 3, 1, alpha=0.05, pooled=9) > power_of(1, 3, 1, alpha=0.05, pooled=2)
    assert gap_power(Spread.given(1.0), gap=-0.7).seeds == gap_power(Spread.given(1.0), gap=0.7).seeds


def test_comparisons_and_holm():
    spread = Spread.given(1.0, correlation=0.5)
    one, eight = gap_power(spread, gap=1.0), gap_power(spread, gap=1.0, comparisons=8)
    assert eight.alpha_each == 0.05 / 8
    assert eight.seeds == gap_power(spread, gap=1.0, alpha=0.05 / 8).seeds > one.seeds
    assert eight.seeds == gap_power(spread, gap=1.0, comparisons=8, adjust="bonferroni").seeds
    assert gap_power(spread, gap=1.0, comparisons=8, adjust="none").seeds == one.seeds
    assert f"{one.seeds} seeds if Holm finds all the others, {eight.seeds} at worst" in " ".join(eight.notes)


def test_the_uncertain_sd_is_carried_through():
    spread = Spread.given(0.01, correlation=0.5, df=8)
    low, high = spread.interval(0.95)
    assert low == pytest.approx(0.01 * math.sqrt(8 / stats.chi2.ppf(0.975, 8)))
    assert high == pytest.approx(0.01 * math.sqrt(8 / stats.chi2.ppf(0.025, 8)))
    found = gap_power(spread, gap=0.01)
    known = [gap_power(Spread.given(sd, correlation=0.5), gap=0.01).seeds for sd in (low, 0.01, high)]
    assert [found.low, found.seeds, found.high] == known
    assert found.low < found.seeds < found.high
    asked = gap_power(spread, gap=0.01, seeds=10)
    assert asked.asked == "power"
    assert asked.low < asked.power < asked.high
    assert gap_power(spread, seeds=10).low < gap_power(spread, seeds=10).gap
    assert any("8 degrees of freedom" in note for note in found.notes)
    known_sd = gap_power(Spread.given(0.01), gap=0.01)
    assert known_sd.low == known_sd.high == known_sd.seeds
    assert any("taken as known" in note for note in known_sd.notes)
    # At the wide end the seeds can leave every bound; that is said, not hidden.
    assert math.isinf(gap_power(Spread.given(1.0, df=1), gap=0.05).high)


@pytest.mark.simulation
def test_interval_of_the_seeds_needed_covers():
    rng = np.random.default_rng(1)
    truth = seeds_for(1.0, 1.0, target=0.8, alpha=0.05)
    hits = 0
    for _ in range(600):
        seen = math.sqrt(rng.chisquare(8) / 8)
        found = gap_power(Spread(seen, 8, True, seen, 0.0, "pilot"), gap=1.0)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 600 <= 0.985  # whole numbers of seeds make it a little wide


@pytest.mark.simulation
@pytest.mark.parametrize(("schemes", "paired"), [(2, True), (2, False), (6, True), (6, False)])
def test_simulated_runs_are_rejected_as_often_as_planned(schemes, paired):
    rng, runs, seeds, gap = np.random.default_rng(schemes), 20_000, 4, 2.2
    y = rng.normal(size=(runs, schemes, seeds)) + (3 * rng.normal(size=(runs, 1, seeds)) if paired else 0)
    y[:, 0] += gap
    left = y - y.mean(2, keepdims=True)
    df = schemes * (seeds - 1)
    if paired:
        left, df = left - left.mean(1, keepdims=True), (schemes - 1) * (seeds - 1)
    t = (y[:, 0] - y[:, 1]).mean(1) / np.sqrt((left**2).sum((1, 2)) / df * 2 / seeds)
    rejected = np.mean(2 * stats.t.sf(abs(t), df) < 0.05)
    planned = power_of(gap, seeds, math.sqrt(2), alpha=0.05, pooled=schemes, paired=paired)
    assert rejected == pytest.approx(planned, abs=4 * math.sqrt(0.25 / runs))


def test_what_is_refused():
    spread = Spread.given(1.0)
    for bad, match in (
        ({}, "give a gap"),
        ({"gap": 0.0}, "other than 0"),
        ({"gap": math.nan}, "other than 0"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"gap": 1.0, "alpha": 1.0}, "alpha"),
        ({"gap": 1.0, "target": 0.05}, "power asked for"),
        ({"gap": 1.0, "comparisons": 0}, "at least 1 comparison"),
        ({"gap": 1.0, "adjust": "hom"}, "'holm'"),
        ({"gap": 1.0, "pooled": 1}, "at least 2 schemes"),
        ({"gap": 1e-9}, "more than 1,000,000"),
        ({"gap": 1.0, "confidence": 1.0}, "confidence"),
    ):
        with pytest.raises(UsageError, match=match):
            gap_power(spread, **bad)
    for bad in ({"sd": 0.0}, {"sd": math.inf}, {"sd": 1.0, "correlation": 1.0}, {"sd": 1.0, "df": 0}):
        with pytest.raises(UsageError):
            Spread.given(**bad)


def test_the_door():
    found = power(gap=0.01, sd=0.01, correlation=0.5)
    assert isinstance(found, GapPower)
    assert found.to_dict()["spread"]["correlation"] == 0.5
    for bad, match in (
        ({}, "ask for a gap"),
        ({"gap": 1.0, "r": 0.5}, "ask for a gap"),
        ({"gap": 1.0}, "needed once"),
        ({"r": 0.5, "sd": 1.0}, "belong to a gap"),
        ({"gap": 1.0, "sd": 1.0, "tau": 0.1}, "belong to a correlation"),
    ):
        with pytest.raises(UsageError, match=match):
            power(**bad)


def test_levels_and_degrees_of_freedom_out_of_reach_are_refused():
    for df, alpha in ((6, 1e-300), (6, 1e-13), (0, 0.05), (0.5, 0.05), (math.nan, 0.05), (6, 1.0)):
        with pytest.raises(UsageError):
            t_power(3.0, df, alpha)
    assert 0 < t_power(3.0, 6, 1e-12) < 1e-3
    with pytest.raises(UsageError, match="lost to rounding"):
        power(gap=0.1, sd=0.1, alpha=1e-10, comparisons=1000)
    with pytest.raises(UsageError, match="at least 1 degree"):
        Spread.given(0.1, df=0.5)
