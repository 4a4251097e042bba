"""Columns of extreme scale, repeated column names and indexes named like columns: the same numbers or a named error."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats import correlate
from kdstats.association.attenuation import disattenuated
from kdstats.association.concordance import leave_one_pair_out
from kdstats.association.mixed import mixed_model
from kdstats.association.partial import partial_correlation
from kdstats.association.rank_table import rank_probabilities
from kdstats.association.regression import regress
from kdstats.association.regret import regret
from kdstats.association.repeated import repeated_correlation
from kdstats.association.simex import simex
from kdstats.association.wild import wild_bootstrap
from kdstats.errors import CheckError, KdstatsError, UsageError
from kdstats.tables.summary import summarise

SCALES = [(1e160, 1.0), (1.0, 1e160), (1.0, 1e-200), (1e-200, 1e-200), (1e200, 1e200)]
KNOWN = {"x": "x", "y": "y", "group": "pair"}


def table(by_x: float = 1.0, by_y: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pair = np.repeat(np.arange(4), 9)
    x = rng.standard_normal(36) + pair
    y = (1 + 0.3 * pair) * x + rng.standard_normal(36)
    names = [f"s{k}" for k in np.tile(np.arange(9), 4)]
    return pd.DataFrame({"pair": pair, "scheme": names, "x": x * by_x, "y": y * by_y})


@pytest.mark.parametrize(("by_x", "by_y"), SCALES)
@pytest.mark.parametrize("standardised", [False, True])
def test_slopes_change_with_the_unit_alone(by_x, by_y, standardised):
    unit = 1.0 if standardised else by_y / by_x
    a, b = (regress(t, **KNOWN, standardised=standardised) for t in (table(), table(by_x, by_y)))
    for column, factor in (
        ("estimate", unit),
        ("se", unit),
        ("low", unit),
        ("high", unit),
        ("dof", 1),
        ("p_value", 1),
    ):
        np.testing.assert_allclose(b[column] / factor, a[column], rtol=1e-8)
    one, other = (
        wild_bootstrap(
            t, **KNOWN, standardised=standardised, null=0.5 * f, draws=199, rng=np.random.default_rng(1)
        )
        for t, f in ((table(), 1.0), (table(by_x, by_y), unit))
    )
    assert (other.estimate / unit, other.low / unit, other.high / unit, other.p_value) == pytest.approx(
        (one.estimate, one.low, one.high, one.p_value), rel=1e-5
    )


@pytest.mark.parametrize(("by_x", "by_y"), [(1e150, 1.0), (1.0, 1e100), (1e-150, 1.0), (1e150, 1e150)])
def test_a_mixed_model_changes_with_the_unit_alone(by_x, by_y):
    a, b = mixed_model(table(), **KNOWN), mixed_model(table(by_x, by_y), **KNOWN)
    assert (b.estimate * by_x / by_y, b.p_value) == pytest.approx((a.estimate, a.p_value), rel=1e-4)
    assert b.residual_variance / by_y / by_y == pytest.approx(a.residual_variance, rel=1e-4)


def test_what_a_float_does_not_hold_is_named():
    with pytest.raises(CheckError, match="float64 can hold"):
        regress(table(1e-200, 1e200), **KNOWN)
    with pytest.raises(CheckError, match="float64 can hold"):
        mixed_model(table(1.0, 1e200), **KNOWN)
    mixed_scales = table().assign(x=lambda t: np.where(t.pair == 0, 1e-200, 1.0) * t.x)
    with pytest.raises(CheckError, match="in panel '0' is too small"):
        regress(mixed_scales, **KNOWN)
    assert np.isfinite(regress(mixed_scales, **KNOWN, standardised=True)["estimate"]).all()


@pytest.mark.parametrize(("by_x", "by_y"), SCALES)
def test_the_learned_direction_has_no_unit(by_x, by_y):
    a, b = (
        leave_one_pair_out(t, **KNOWN, draws=99, rng=np.random.default_rng(0))
        for t in (table(), table(by_x, by_y))
    )
    assert [p.learned for p in b.panels] == pytest.approx([p.learned for p in a.panels], rel=1e-12)
    assert b.concordance == a.concordance


@pytest.mark.parametrize(("by_x", "by_y"), SCALES)
def test_a_corrected_correlation_has_no_unit(by_x, by_y):
    a = disattenuated(table(), **KNOWN, x_se=0.3, y_se=0.3)
    b = disattenuated(table(by_x, by_y), **KNOWN, x_se=0.3 * by_x, y_se=0.3 * by_y)
    for column in ("estimate", "low", "high", "reliability_x"):
        np.testing.assert_allclose(b[column], a[column], rtol=1e-8)


@pytest.mark.parametrize("scale", [1e160, 1e-200])
def test_a_ranking_of_extreme_values_is_refused(scale):
    for options in ({"seeds": "pair"}, {}):
        with pytest.raises(CheckError, match="rescale"):
            rank_probabilities(table(1, scale), value="y", label="scheme", draws=1000, **options)


def test_repeated_names_are_refused():
    twice = pd.concat([table(), table()[["pair", "scheme"]]], axis=1)
    with pytest.raises(UsageError, match="more than one column named 'pair'"):
        correlate(twice, x="x", y="y", group="pair")
    with pytest.raises(UsageError, match="'pair' is named twice"):
        correlate(table(), x="x", y="y", group=["pair", "pair"])
    with pytest.raises(UsageError, match="more than one column named 'scheme'"):
        regress(twice.drop(columns="pair").assign(pair=table()["pair"]), **KNOWN, cluster="scheme")
    with pytest.raises(UsageError, match="more than one column named 'scheme'"):
        rank_probabilities(twice, value="y", label="scheme", draws=99)
    with pytest.raises(UsageError, match="'pair' is named twice"):
        rank_probabilities(table(), value="y", label="scheme", group=["pair", "pair"], draws=99)
    with pytest.raises(UsageError, match="more than one column named 'scheme'"):
        summarise(twice, value="y", by=["scheme"], better="lowest")
    with pytest.raises(UsageError, match="'scheme' is named twice"):
        summarise(table(), value="y", by=["scheme", "scheme"], better="lowest")


def test_an_index_named_like_a_column_changes_nothing():
    plain, named = table(), table().rename_axis("pair")
    pd.testing.assert_frame_equal(regress(named, **KNOWN), regress(plain, **KNOWN))
    assert repeated_correlation(named, **KNOWN, permutations=9) == repeated_correlation(
        plain, **KNOWN, permutations=9
    )
    ranked = [
        rank_probabilities(t.assign(x=t.x.abs()), value="y", se="x", label="scheme", group="pair", draws=1000)
        for t in (plain, named)
    ]
    pd.testing.assert_frame_equal(*ranked)
    both = [
        summarise(t.assign(total_steps=7), value="y", by=["scheme", "pair"], better="lowest")
        for t in (plain, named)
    ]
    assert both[0].notes == both[1].notes
    assert [c.mean for c in both[0].cells] == [c.mean for c in both[1].cells]


FUNCTIONS = {
    "correlate": lambda df: correlate(df, **KNOWN, label="scheme", permutations=99),
    "repeated": lambda df: repeated_correlation(df, **KNOWN, label="scheme", permutations=99),
    "partial": lambda df: partial_correlation(df, **KNOWN, covariates=["z"], across=True, permutations=99),
    "regress": lambda df: regress(df, **KNOWN, label="scheme"),
    "wild": lambda df: wild_bootstrap(df, **KNOWN, draws=99, rng=np.random.default_rng(0)),
    "pair out": lambda df: leave_one_pair_out(df, **KNOWN, rng=np.random.default_rng(0)),
    "regret": lambda df: regret(df, **KNOWN, resamples=99, rng=np.random.default_rng(0)),
    "disattenuated": lambda df: disattenuated(df, **KNOWN, x_se="se", y_se=None),
    "simex": lambda df: simex(df, **KNOWN, x_se="se", y_se=None, replicates=5),
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@settings(max_examples=12, deadline=None)
@given(
    powers=st.tuples(*[st.sampled_from([-300, -160, 0, 150, 200, 300])] * 4),
    of=st.sampled_from(["x", "y", "both"]),
)
def test_panels_of_unlike_scale_give_numbers_or_a_named_error(name, powers, of):
    df = table().assign(se=0.1, z=np.tile(np.arange(9.0) ** 2, 4))
    factor = 10.0 ** np.array(powers, dtype=float)[df["pair"].to_numpy()]
    for column in ("x", "y") if of == "both" else (of,):
        df[column] *= factor
    if of != "y":
        df["se"] *= factor
    try:
        found = FUNCTIONS[name](df)
    except KdstatsError:
        return
    rows = found.to_dict("records") if isinstance(found, pd.DataFrame) else [found.to_dict()]
    for row in rows:
        for key in ("estimate", "slope", "mean", "value", "regret", "concordance"):
            quiet = isinstance(row.get(key), float) and math.isnan(row[key]) and not row.get("notes")
            assert not quiet, (name, key, row)


def test_a_panel_beside_a_far_larger_one_still_takes_part_in_the_test_of_slopes():
    df = table()
    df.loc[df["pair"] == 0, ["x", "y"]] *= 1e-170
    found = repeated_correlation(df, **KNOWN, permutations=99)
    large = repeated_correlation(df[df["pair"] != 0], **KNOWN, permutations=99)
    assert found.estimate == pytest.approx(large.estimate, rel=1e-12)
    assert 0 <= found.p_slopes <= 1
