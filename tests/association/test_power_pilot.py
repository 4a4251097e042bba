"""The spread of a difference from pilot runs: statsmodels' two-way fit, planted truth, and every bad row."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from kdstats import power
from kdstats.association.pilot import spread_of
from kdstats.errors import CheckError, UsageError


def pilot(rng, schemes=4, seeds=3, pairs=2, seed_sd=0.02, sd=0.01, offset=1.0):
    return pd.DataFrame(
        [
            {
                "teacher": f"t{p}",
                "student": "s",
                "scheme": f"s{i}",
                "seed": k,
                "test_loss_last": offset + p + 0.05 * i + effect + sd * rng.normal(),
                "excluded": False,
            }
            for p in range(pairs)
            for k, effect in enumerate(seed_sd * rng.normal(size=seeds))
            for i in range(schemes)
        ]
    )


@pytest.mark.parametrize("drop", [[], [3, 10]])
def test_residual_of_scheme_and_seed(drop):
    runs = pilot(np.random.default_rng(0)).drop(index=drop)
    fits = [smf.ols("test_loss_last ~ C(scheme) + C(seed)", g).fit() for _, g in runs.groupby("teacher")]
    df = sum(f.df_resid for f in fits)
    found = spread_of(runs)
    assert found.df == df
    assert found.sd == pytest.approx(math.sqrt(2 * sum(f.ssr for f in fits) / df), rel=1e-10)
    within = [smf.ols("test_loss_last ~ C(scheme)", g).fit() for _, g in runs.groupby("teacher")]
    free = spread_of(runs, paired=False)
    run_variance = sum(f.ssr for f in within) / sum(f.df_resid for f in within)
    assert free.sd == pytest.approx(math.sqrt(2 * run_variance), rel=1e-10)
    assert (free.paired, free.correlation) == (False, 0.0)
    assert found.sd_run == pytest.approx(math.sqrt(run_variance), rel=1e-10)
    assert found.sd == pytest.approx(found.sd_run * math.sqrt(2 * (1 - found.correlation)), rel=1e-10)


def test_planted_spread_is_found():
    found = spread_of(pilot(np.random.default_rng(1), schemes=9, seeds=40, pairs=3))
    assert found.sd == pytest.approx(0.01 * math.sqrt(2), rel=0.05)
    assert found.correlation == pytest.approx(0.8, abs=0.05)
    assert "3 panels" in found.source
    assert power(gap=0.01, runs=pilot(np.random.default_rng(1))).spread.df == 12


def test_scale_shift_and_order_do_not_matter():
    runs = pilot(np.random.default_rng(2))
    a = spread_of(runs)
    moved = runs.assign(test_loss_last=7 + 1000 * runs["test_loss_last"]).sample(frac=1, random_state=0)
    b = spread_of(moved)
    assert (b.sd, b.df, b.correlation) == pytest.approx((1000 * a.sd, a.df, a.correlation), rel=1e-8)


def test_notes():
    runs = pilot(np.random.default_rng(3))
    runs.loc[0, "excluded"] = True
    assert "1 excluded runs left out" in spread_of(runs).notes
    text = runs.assign(excluded=runs["excluded"].astype(str))
    assert spread_of(text).sd == spread_of(runs).sd
    a, b = pilot(np.random.default_rng(4), pairs=1), pilot(np.random.default_rng(5), pairs=1, sd=1.0)
    both = pd.concat([a, b.assign(teacher="other")], ignore_index=True)
    assert any("Bartlett" in note for note in spread_of(both).notes)
    assert not any("Bartlett" in note for note in spread_of(pilot(np.random.default_rng(6))).notes)


def test_what_is_refused():
    runs = pilot(np.random.default_rng(7))
    with pytest.raises(UsageError, match="test_loss_last"):
        spread_of(runs, value="test_los_last")
    with pytest.raises(CheckError, match=r"row 5 \(1 rows\)"):
        spread_of(runs.assign(test_loss_last=runs["test_loss_last"].where(runs.index != 5)))
    with pytest.raises(CheckError, match="twice: teacher t0"):
        spread_of(pd.concat([runs, runs.iloc[[0]]]))
    with pytest.raises(CheckError, match="does not vary over seeds"):
        spread_of(runs.assign(test_loss_last=0.1 + runs["scheme"].str[1:].astype(int)))
    with pytest.raises(UsageError, match="no scheme has two seeds"):
        spread_of(runs[runs["seed"] == 0])
    lonely = runs.assign(seed=range(len(runs)))
    with pytest.raises(UsageError, match="--unpaired"):
        spread_of(lonely)
    assert spread_of(lonely, paired=False).df == 16
    with pytest.raises(UsageError, match="every run is marked"):
        spread_of(runs.assign(excluded=True))
    with pytest.raises(UsageError, match="come from the runs"):
        power(gap=0.1, runs=runs, correlation=0.5)


@pytest.mark.parametrize("seed", range(6))
def test_any_incomplete_layout_is_the_dense_least_squares(seed):
    rng = np.random.default_rng(seed)
    cells = pd.MultiIndex.from_product([range(7), range(6 + seed)], names=["scheme", "seed"]).to_frame(
        index=False
    )
    runs = cells[rng.random(len(cells)) < 0.15 + 0.1 * seed]
    runs = runs.assign(test_loss_last=runs["scheme"] + rng.standard_normal(len(runs)))
    if seed % 2:  # a second component without a common seed
        runs = pd.concat([runs, runs.assign(scheme=runs["scheme"] + 50, seed=runs["seed"] + 50) * 1.0])
    y = runs["test_loss_last"].to_numpy()
    design = np.hstack([pd.get_dummies(runs[c]).to_numpy(float) for c in ("scheme", "seed")])
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    if len(y) == rank:
        with pytest.raises(UsageError, match="have two seeds in common"):
            spread_of(runs)
        return
    found = spread_of(runs)
    assert found.df == len(y) - rank
    assert found.sd == pytest.approx(math.sqrt(2 * ((y - design @ fit) ** 2).sum() / found.df), rel=1e-9)


def test_many_runs_without_common_seeds_are_told_at_once():
    rng = np.random.default_rng(8)
    runs = pd.DataFrame({"scheme": np.arange(6000) % 9, "seed": np.arange(6000)})
    runs["test_loss_last"] = rng.standard_normal(6000)
    begin = time.perf_counter()
    with pytest.raises(UsageError, match="no two schemes have two seeds in common"):
        spread_of(runs)
    some = runs.assign(seed=np.where(np.arange(6000) < 90, np.arange(6000) // 9, runs["seed"] + 1000))
    assert spread_of(some).df == 72
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("column", ["scheme", "seed", "teacher"])
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_missing_keys_are_refused_with_their_lines(column, blank):
    runs = pilot(np.random.default_rng(9)).astype({"seed": object}).rename_axis("line")
    runs.loc[[3, 7], column] = blank
    with pytest.raises(UsageError, match=f"column '{column}' has no value in lines 3, 7"):
        spread_of(runs)


def test_a_group_column_without_any_value_tells_nothing_apart():
    runs = pilot(np.random.default_rng(9))
    assert spread_of(runs.assign(dataset=None)) == spread_of(runs)
    assert spread_of(runs.rename_axis("teacher")) == spread_of(runs)
    with pytest.raises(UsageError, match="more than one column named 'scheme'"):
        spread_of(pd.concat([runs, runs[["scheme"]]], axis=1))


def test_extreme_units():
    runs = pilot(np.random.default_rng(10))
    plain = spread_of(runs)
    for factor in (1e200, 1e-200):
        found = spread_of(runs.assign(test_loss_last=runs["test_loss_last"] * factor))
        assert (found.sd / factor, found.correlation) == pytest.approx(
            (plain.sd, plain.correlation), rel=1e-9
        )
    ends = runs.assign(test_loss_last=np.where(runs["seed"] % 2, 1.7e308, -1.7e308))
    with pytest.raises(CheckError, match="rescale"):
        spread_of(ends, paired=False)
