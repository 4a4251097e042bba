from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import kdstats
from kdstats.association.bounded import bounded_mean
from kdstats.association.concordance import leave_one_pair_out
from kdstats.association.regret import regret
from kdstats.errors import CheckError, UsageError


def table(pairs: int = 5, seed: int = 0, noise: float = 0.7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((pairs, 9))
    y = x + noise * rng.standard_normal((pairs, 9))
    codes = np.repeat([f"p{i}" for i in range(pairs)], 9)
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "pair": codes, "scheme": list("abcdefghi") * pairs})


def run(df: pd.DataFrame, seed: int = 0, **options):
    given = {"x": "x", "y": "y", "group": "pair", "label": "scheme", **options}
    return leave_one_pair_out(df, rng=np.random.default_rng(seed), **given)


@pytest.mark.parametrize("zeros", [0, 2, 5])
def test_bounded_mean_of_zeros_and_ones_is_clopper_pearson(zeros):
    values = np.repeat([0.0, 1.0], [zeros, 5 - zeros])
    low, high = bounded_mean(values, lowest=0, highest=1, draws=200_000, rng=np.random.default_rng(0))
    exact = stats.binomtest(5 - zeros, 5).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.01)


def test_bounded_mean_scales_and_shifts():
    values = np.array([0.0, 0.0, 0.3, 0.1])
    low, high = bounded_mean(values, lowest=0, highest=1, rng=np.random.default_rng(1))
    other = bounded_mean(10 * values - 2, lowest=-2, highest=8, rng=np.random.default_rng(1))
    assert other == pytest.approx((10 * low - 2, 10 * high - 2))
    assert low <= 0.1 <= high


@pytest.mark.parametrize(
    ("values", "options", "error", "said"),
    [
        ([], {}, UsageError, "at least one value"),
        ([0.5, 2.0], {}, CheckError, "outside"),
        ([0.5, np.nan], {}, CheckError, "missing"),
        ([0.5], {"draws": 0}, UsageError, "draws"),
        ([0.5], {"confidence": 1.0}, UsageError, "confidence"),
    ],
)
def test_bounded_mean_refusals(values, options, error, said):
    with pytest.raises(error, match=said):
        bounded_mean(values, lowest=0, highest=1, rng=np.random.default_rng(0), **options)


def test_each_pair_is_predicted_from_the_others():
    df = table()
    df.loc[df["pair"] == "p2", "y"] *= -1  # one pair runs the other way: the others still teach a rising line
    found = run(df)
    shares = []
    for entry, (name, rows) in zip(found.panels, df.groupby("pair"), strict=True):
        rest = [stats.pearsonr(p["x"], p["y"])[0] for other, p in df.groupby("pair") if other != name]
        assert entry.learned == pytest.approx(np.mean(rest), abs=1e-12)
        assert entry.learned > 0
        # Without ties, concordance is (1 + tau) / 2.
        share = (1 + stats.kendalltau(rows["x"], rows["y"])[0]) / 2
        assert entry.choice.concordance == pytest.approx(share, abs=1e-12)
        assert entry.choice.chosen == (rows["scheme"].iloc[rows["x"].argmin()],)
        shares.append(share)
    assert found.panels[2].choice.concordance < 0.5
    theirs = stats.ttest_1samp(shares, 0).confidence_interval()
    assert found.concordance == pytest.approx(np.mean(shares), abs=1e-12)
    assert found.concordance_low == pytest.approx(max(theirs.low, 0), abs=1e-10)
    assert found.concordance_high == pytest.approx(min(theirs.high, 1), abs=1e-10)
    assert found.scheme_pairs == 5 * 36


def test_a_falling_line_chooses_the_highest_predictor():
    df = table()
    turned = run(df.assign(x=-df["x"]))
    base = run(df)
    assert [p.choice.chosen for p in turned.panels] == [p.choice.chosen for p in base.panels]
    assert turned.concordance == pytest.approx(base.concordance)
    accuracy = run(df.assign(y=-df["y"]), better="highest")
    assert [p.choice.chosen for p in accuracy.panels] == [p.choice.chosen for p in base.panels]
    assert accuracy.regret == pytest.approx(base.regret)
    assert accuracy.concordance == pytest.approx(base.concordance)


def test_pairs_that_agree_in_full_still_have_an_interval():
    found = run(table(noise=0.0))
    assert (found.concordance, found.concordance_high, found.hits) == (1.0, 1.0, 5)
    assert found.concordance_interval.startswith("bounded")
    assert found.concordance_low < 0.6
    assert found.regret == 0
    assert found.regret_low == 0
    assert found.regret_high > 0


def test_disagreement_is_noted():
    df = table(pairs=3, noise=0.1)
    df.loc[
        df["pair"] == "p0", "y"
    ] *= -1  # r near -1, and near 0 in p1: without p0 the rest rise, without p2 they fall
    df.loc[df["pair"] == "p1", "y"] = df["x"] ** 2
    assert any("do not agree" in note for note in run(df).notes)
    assert run(table(), 1) == run(table(), 1)
    assert run(table(), 1) != run(table(), 2)


def test_published_order_carries_over_and_imagenet_stays_in():
    points = kdstats.load_published("wang2022").points
    found = run(points, x="t_stddev", y="test_loss", group="panel")
    assert found.k == 10
    assert found.hits == 9
    weakest = min(found.panels, key=lambda p: p.choice.concordance)
    assert weakest.choice.panel.startswith("imagenet ")
    assert 0.5 < found.concordance_low < found.concordance < found.concordance_high < 1


@pytest.mark.parametrize(
    ("df", "options", "error", "said"),
    [
        (table(pairs=2), {}, UsageError, "at least 3 pairs"),
        (table(), {"better": "low"}, UsageError, "Did you mean 'lowest'"),
        (table(), {"confidence": 7}, UsageError, "confidence"),
        (table().assign(y=np.nan), {}, UsageError, "NaN"),
    ],
)
def test_refusals(df, options, error, said):
    with pytest.raises(error, match=said):
        run(df, **options)


def test_no_direction_is_refused():
    x = np.tile([-2.0, -1, 0, 1, 2], 3)
    flat = [2.0, -1, -2, -1, 2]
    df = pd.DataFrame({"x": x, "y": [*flat, *flat, 1, 2, 3, 4, 5], "pair": np.repeat(list("abc"), 5)})
    with pytest.raises(CheckError, match="no direction to learn"):
        run(df, label=None)


@pytest.mark.simulation
@pytest.mark.parametrize("k", [3, 10])
def test_the_regret_interval_covers(k):
    """Strong correlation: most panels have no regret, which defeats Student's t and the bootstrap."""
    rng = np.random.default_rng(k)

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((size, 9))
        return x, 0.95 * x + np.sqrt(1 - 0.95**2) * rng.standard_normal((size, 9))

    x, y = draw(50_000)
    truth = (np.take_along_axis(y, x.argmin(axis=1)[:, None], 1)[:, 0] - y.min(axis=1)).mean()
    codes, hits, by_t = np.repeat(np.arange(k), 9), 0, 0
    for _ in range(200):
        x, y = draw(k)
        df = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "pair": codes})
        found = regret(df, x="x", y="y", group="pair", resamples=999, rng=rng)
        hits += found.low <= truth <= found.high
        costs = [p.expected for p in found.panels]
        half = stats.t.ppf(0.975, k - 1) * np.std(costs, ddof=1) / np.sqrt(k)
        by_t += abs(np.mean(costs) - truth) <= half
    assert hits / 200 > 0.95
    assert by_t / 200 < 0.85
