from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import integrate, stats
from statsmodels.stats.anova import anova_lm

from kdstats.association.rank_table import rank_probabilities, rank_runs
from kdstats.association.ranks import rank_estimates
from kdstats.errors import CheckError, UsageError


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def runs(schemes: int = 4, seeds: int = 3, seed: int = 0) -> pd.DataFrame:
    noise = np.random.default_rng(seed)
    scheme, number = np.repeat(np.arange(schemes), seeds), np.tile(np.arange(seeds), schemes)
    loss = (
        1
        + 0.02 * scheme
        + 0.1 * noise.standard_normal(seeds)[number]
        + 0.01 * noise.standard_normal(scheme.size)
    )
    return pd.DataFrame({"scheme": [f"s{k}" for k in scheme], "seed": number, "loss": loss})


def test_two_schemes_are_exact():
    found = rank_estimates([1.0, 1.3], se=[0.1, 0.2], tie=0.25, rng=rng())
    gap = math.hypot(0.1, 0.2)
    assert found.p_best == pytest.approx([stats.norm.cdf(0.3 / gap), stats.norm.sf(0.3 / gap)], abs=1e-12)
    assert found.p_tie == pytest.approx(stats.norm.cdf(-0.05 / gap) - stats.norm.cdf(-0.55 / gap), abs=1e-12)
    assert found.draws == 0
    assert found.p_best_se.tolist() == [0, 0]
    assert found.rank_high.tolist() == [2, 2]
    together = rank_estimates([1.0, 1.3], covariance=[[0.01, 0.0099], [0.0099, 0.01]], rng=rng())
    assert together.p_best[0] > 0.999
    assert together.rank_high.tolist() == [1, 2]


def test_two_schemes_over_common_seeds_are_the_paired_t_test():
    points = runs(schemes=2, seeds=5)
    a, b = (points.loc[points.scheme == s, "loss"].to_numpy() for s in ("s0", "s1"))
    paired = rank_probabilities(points, value="loss", label="scheme", seeds="seed")
    assert paired.p_best[0] == pytest.approx(
        stats.ttest_rel(a, b, alternative="less").pvalue * -1 + 1, abs=1e-10
    )
    alone = rank_probabilities(points, value="loss", label="scheme")
    assert alone.p_best[0] == pytest.approx(1 - stats.ttest_ind(a, b, alternative="less").pvalue, abs=1e-10)
    assert paired.p_equal[0] == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=1e-10)


def test_probability_of_best_is_the_integral():
    value, se = np.array([1.0, 1.1, 0.9, 1.4]), np.array([0.1, 0.2, 0.15, 0.3])
    found = rank_estimates(value, se=se, draws=200_000, rng=rng())
    for j in range(4):
        others = [i for i in range(4) if i != j]

        def density(t: float, j: int = j, others: list[int] = others) -> float:
            return stats.norm.pdf(t, value[j], se[j]) * math.prod(
                stats.norm.sf(t, value[i], se[i]) for i in others
            )

        exact = integrate.quad(density, -1, 3, limit=100)[0]
        assert abs(found.p_best[j] - exact) < 5 * found.p_best_se[j] + 1e-6
    assert found.p_best.sum() == pytest.approx(1)
    assert found.mean_rank.sum() == pytest.approx(10)
    assert found.best == ("3", "1")


def test_blocks_are_the_two_way_anova():
    points = runs(schemes=5, seeds=4, seed=2)
    fit = smf.ols("loss ~ C(scheme) + C(seed)", points).fit()
    f = anova_lm(fit)
    found = rank_probabilities(points, value="loss", label="scheme", seeds="seed")
    assert found.p_equal[0] == pytest.approx(f.loc["C(scheme)", "PR(>F)"], rel=1e-6)
    assert found.se[0] == pytest.approx(math.sqrt(fit.mse_resid / 4), rel=1e-10)
    assert found.df[0] == fit.df_resid
    np.testing.assert_allclose(found.value, points.groupby("scheme")["loss"].mean(), rtol=1e-12)
    short = points.drop(index=[1, 7])
    gap = smf.ols("loss ~ C(scheme) + C(seed)", short).fit()
    found = rank_probabilities(short, value="loss", label="scheme", seeds="seed")
    assert found.value[3] - found.value[0] == pytest.approx(gap.params["C(scheme)[T.s3]"], rel=1e-9)
    assert found.p_equal[0] == pytest.approx(anova_lm(gap, typ=2).loc["C(scheme)", "PR(>F)"], rel=1e-6)
    assert "lack some seeds" in found.notes[0]


def test_critical_value_is_dunnetts():
    # Five groups of equal size against one: Dunnett's two-sided 5 % point for 4 comparisons and 20 df is 2.65.
    value = np.array([0.0, 2.6, 2.7, -2.6, -2.7]) * math.sqrt(2)
    found = rank_estimates(value, se=1.0, df=20, draws=200_000, rng=rng())
    assert (found.rank_low[0], found.rank_high[0]) == (2, 4)


def test_directions_ties_and_seeds():
    points = runs()
    low = rank_probabilities(points, value="loss", label="scheme", seeds="seed", seed=1)
    high = rank_probabilities(
        points.assign(loss=-points.loss), value="loss", label="scheme", seeds="seed", better="highest", seed=1
    )
    np.testing.assert_allclose(low.p_best, high.p_best)
    np.testing.assert_allclose(low["rank"], high["rank"])
    pd.testing.assert_frame_equal(
        low, rank_probabilities(points, value="loss", label="scheme", seeds="seed", seed=1)
    )
    assert rank_estimates([1, 1, 2], se=1.0, rng=rng()).rank.tolist() == [1.5, 1.5, 3]
    both = pd.concat([points.assign(pair="b"), runs(seed=9).assign(pair="a")])
    panels = rank_probabilities(both, value="loss", label="scheme", seeds="seed", group="pair")
    assert panels["pair"].tolist() == ["b"] * 4 + ["a"] * 4
    only = rank_probabilities(
        both[both.pair == "a"], value="loss", label="scheme", seeds="seed", group="pair"
    )
    assert only.p_best.tolist() == panels.p_best[4:].tolist()


def test_alike_schemes_say_so():
    found = rank_estimates([1.0, 1.01, 1.02], se=0.1, rng=rng())
    assert found.p_equal > 0.9
    assert any("cannot be told apart" in note for note in found.notes)
    assert found.rank_low.tolist() == [1, 1, 1]
    assert found.rank_high.tolist() == [3, 3, 3]


@pytest.mark.simulation
def test_rank_intervals_cover():
    noise = np.random.default_rng(3)
    hits = []
    scheme, seed = np.repeat(np.arange(6), 3), np.tile(np.arange(3), 6)
    for _ in range(150):
        true = noise.standard_normal(6)
        y = true[scheme] + 3 * noise.standard_normal(3)[seed] + noise.standard_normal(18)
        found = rank_runs(y, scheme, seed, draws=1_000, rng=noise)
        rank = true.argsort().argsort() + 1
        hits += list((found.rank_low <= rank) & (rank <= found.rank_high))
    assert np.mean(hits) > 0.96
    assert np.mean(hits) < 1


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"values": [1.0], "se": 1}, UsageError, "at least 2"),
        ({"values": [1.0, math.nan], "se": 1}, UsageError, "value 2"),
        ({"values": [1.0, 2.0]}, UsageError, "either se"),
        ({"values": [1.0, 2.0], "se": 0}, CheckError, "no error"),
        ({"values": [1.0, 2.0], "covariance": [[1, 0.5], [0.2, 1]]}, CheckError, "symmetric"),
        ({"values": [1.0, 2.0], "covariance": [[1, 2], [2, 1]]}, CheckError, "semi-definite"),
        ({"values": [1.0, 2.0], "covariance": [1, 2]}, UsageError, "2 by 2"),
        ({"values": [1.0, 2.0], "se": 1, "better": "low"}, UsageError, "lowest"),
        ({"values": [1.0, 2.0], "se": 1, "labels": ("a", "a")}, UsageError, "different names"),
        ({"values": [1.0, 2.0], "se": 1, "draws": 10}, UsageError, "draws"),
        ({"values": [1.0, 2.0], "se": 1, "tie": -1}, UsageError, "tie"),
    ],
)
def test_ranking_refusals(options, error, said):
    with pytest.raises(error, match=said):
        rank_estimates(**options, rng=rng())


def test_table_refusals():
    points = runs()
    known = {"value": "loss", "label": "scheme"}
    for table, options, error, said in (
        (pd.concat([points, points.iloc[:1]]), {"seeds": "seed"}, UsageError, "duplicated runs"),
        (points[points.seed == 0], {}, UsageError, "no spread"),
        (points[points.seed == 0], {"seeds": "seed"}, UsageError, "no spread"),
        (points.assign(loss=points.seed * 0.1), {"seeds": "seed"}, CheckError, "duplicated runs"),
        (points.assign(seed=points.index), {"seeds": "seed"}, UsageError, "share no seeds"),
        (points.assign(se=0.1), {"se": "se"}, UsageError, "more than one row"),
        (points, {"seeds": "sede"}, UsageError, "Did you mean 'seed'"),
        (points.assign(pair=1), {"se": "loss", "seeds": "seed"}, UsageError, "either se"),
        (points.iloc[:0], {}, UsageError, "no rows"),
        (points.assign(loss=math.nan), {}, UsageError, "NaN"),
    ):
        with pytest.raises(error, match=said):
            rank_probabilities(table, **known, **options)
    means = points.groupby("scheme", as_index=False).agg(loss=("loss", "mean")).assign(se=0.01, pair="p")
    found = rank_probabilities(means, se="se", group="pair", **known)
    assert found.p_best.idxmax() == found.value.idxmin()
    with pytest.raises(UsageError, match="panel 'p'"):
        rank_probabilities(means.iloc[:1], se="se", group="pair", **known)
