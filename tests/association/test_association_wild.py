from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from kdstats.association.wild import WildTest, default_weights, wild_bootstrap
from kdstats.association.within import within
from kdstats.errors import CheckError, UsageError

POINTS = {"rademacher": [-1, 1], "webb": [s * math.sqrt(v) for v in (0.5, 1, 1.5) for s in (-1, 1)]}


def table(pairs: int = 6, n: int = 6, seed: int = 0, slope: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((pairs, n)) * np.exp(0.5 * rng.standard_normal((pairs, 1)))
    y = rng.standard_normal((pairs, 1)) + (slope + 0.3 * rng.standard_normal((pairs, 1))) * x
    y = y + rng.standard_normal((pairs, n))
    codes = np.repeat([f"p{i}" for i in range(pairs)], n)
    scheme = np.tile([f"s{i}" for i in range(n)], pairs)
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "pair": codes, "scheme": scheme})


def run(df: pd.DataFrame, seed: int = 0, **options):
    given = {"x": "x", "y": "y", "group": "pair", "rng": np.random.default_rng(seed), **options}
    return wild_bootstrap(df, **given)


def t_statistics(df: pd.DataFrame, cluster: str, null: float, omega: np.ndarray) -> tuple[float, np.ndarray]:
    """By the definition: every sample is built and refitted with dummies, CR1 from statsmodels."""
    dummies = pd.get_dummies(df["pair"]).to_numpy(dtype=float)
    a = np.column_stack([dummies, df["x"]])
    codes = df[cluster].astype("category").cat.codes.to_numpy()
    order = pd.unique(codes)

    def t(y: np.ndarray) -> float:
        fit = sm.OLS(y, a).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
        return (fit.params[-1] - null) / fit.bse[-1]

    y = df["y"].to_numpy()
    restricted = sm.OLS(y - null * df["x"].to_numpy(), dummies).fit()
    fitted, residuals = restricted.fittedvalues + null * df["x"].to_numpy(), restricted.resid
    samples = []
    for w in omega:
        weight = dict(zip(order, w, strict=True))
        samples.append(t(fitted + residuals * np.array([weight[c] for c in codes])))
    return t(y), np.array(samples)


@pytest.mark.parametrize("cluster", ["pair", "scheme"])
@pytest.mark.parametrize("null", [0.0, 0.4])
def test_enumerated_p_is_the_definition(cluster, null):
    df = table()
    omega = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    t, samples = t_statistics(df, cluster, null, omega)
    found = run(df, cluster=cluster, null=null, weights="rademacher")
    assert found.exact
    assert found.draws == 64
    assert found.t == pytest.approx(t, abs=1e-10)
    assert found.p_value == np.mean(np.abs(samples) >= abs(t) - 1e-9)
    data = within(df, x="x", y="y", group="pair", cluster=cluster)
    test = WildTest(data, "rademacher", 100, np.random.default_rng(0))
    fine = np.abs(test.samples(null)) < 1e6  # CR1 of a sample without spread is 0 but for rounding
    np.testing.assert_allclose(test.samples(null)[fine], samples[fine], rtol=1e-6, atol=1e-8)


def test_webb_weights_are_the_definition():
    df = table(pairs=3)
    omega = np.array(list(itertools.product(POINTS["webb"], repeat=3)))
    t, samples = t_statistics(df, "pair", 0.0, omega)
    found = run(df)
    assert (found.weights, found.exact, found.draws) == ("webb", True, 216)
    assert found.p_value == np.mean(np.abs(samples) >= abs(t) - 1e-9)


def test_drawn_weights_agree_with_all_of_them():
    df = table(pairs=5)
    every = run(df, draws=10_000)
    drawn = run(df, draws=5_000, seed=1)
    assert every.exact
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(every.p_value, abs=4 * math.sqrt(0.25 / 5_000))
    assert drawn.p_value != run(df, draws=5_000, seed=2).p_value
    assert drawn == run(df, draws=5_000, seed=1)


def test_p_is_never_zero():
    df = table(pairs=12, slope=20.0)
    assert run(df, draws=999, weights="webb").p_value == 1 / 1_000


def test_the_interval_holds_what_is_not_rejected():
    df = table(pairs=8, slope=1.0)
    found = run(df, weights="rademacher")
    assert found.low < found.estimate < found.high
    width = found.high - found.low
    inside = [found.low + 1e-4 * width, found.high - 1e-4 * width]
    outside = [found.low - 1e-4 * width, found.high + 1e-4 * width]
    assert all(run(df, weights="rademacher", null=v).p_value > 0.05 for v in inside)
    assert all(run(df, weights="rademacher", null=v).p_value <= 0.05 for v in outside)


def test_units_carry_over():
    df = table(pairs=7)
    base = run(df, weights="rademacher")
    other = run(df.assign(x=df["x"] * 1e-3, y=df["y"] * 5 + 1), weights="rademacher")
    assert other.p_value == base.p_value
    assert (other.low, other.high) == pytest.approx((5e3 * base.low, 5e3 * base.high), rel=1e-5)


def test_two_points_cannot_reject_with_five_clusters():
    found = run(table(pairs=5, slope=50.0), weights="rademacher")
    assert found.p_value == 2 / 32
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.to_dict()["low"] is None
    assert "p cannot fall below 0.0625" in found.notes[-1]
    assert math.isfinite(run(table(pairs=5, slope=50.0)).high)


def test_default_weights():
    assert [default_weights(g) for g in (3, 10, 11)] == ["webb", "webb", "rademacher"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"group": None}, UsageError, "at least 2 clusters"),
        ({"weights": "web"}, UsageError, "Did you mean 'webb'"),
        ({"draws": 9}, UsageError, "at least 99"),
        ({"null": math.nan}, UsageError, "finite"),
        ({"confidence": 2}, UsageError, "confidence"),
    ],
)
def test_refusals(options, error, said):
    with pytest.raises(error, match=said):
        run(table(), **options)


def test_equal_slopes_are_refused():
    df = table(pairs=1)
    with pytest.raises(CheckError, match="there twice"):
        run(pd.concat([df, df.assign(pair="copy")], ignore_index=True))
