from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from kdstats.association.partial import partial_correlation
from kdstats.association.repeated import repeated_correlation
from kdstats.errors import CheckError, UsageError
from kdstats.published import load_published

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pingouin

# pandas 3.1 warns inside pingouin's own ANCOVA; warnings of ours still fail the tests.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def table(seed: int = 0, pairs: int = 4, schemes: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    pair, scheme = np.repeat(np.arange(pairs), schemes), np.tile(np.arange(schemes), pairs)
    z, w, x = rng.standard_normal((3, pair.size)) + pair
    x = x + 0.6 * z
    y = x + z + rng.standard_normal(pair.size) + 3 * pair
    return pd.DataFrame({"pair": pair, "scheme": [f"s{k}" for k in scheme], "x": x, "y": y, "z": z, "w": w})


def shared(rng: np.random.Generator, pairs: int, share: float) -> np.ndarray:
    own = np.tile(rng.standard_normal(9), pairs)
    return math.sqrt(share) * own + math.sqrt(1 - share) * rng.standard_normal(9 * pairs)


@pytest.mark.parametrize("seed", range(3))
def test_repeated_correlation_is_pingouins_and_the_ancova(seed):
    points = table(seed)
    ours = repeated_correlation(points, x="x", y="y", group="pair", permutations=9)
    theirs = pingouin.rm_corr(points, x="x", y="y", subject="pair").iloc[0]
    assert (ours.estimate, ours.p_value) == pytest.approx((theirs["r"], theirs["pval"]), rel=1e-9)
    assert ours.df == theirs["dof"]
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs["CI95"]), abs=0.006)  # it rounds
    ancova = smf.ols("y ~ x + C(pair)", points).fit()
    assert ours.slope == pytest.approx(ancova.params["x"], rel=1e-10)
    assert (ours.slope_low, ours.slope_high) == pytest.approx(tuple(ancova.conf_int().loc["x"]), rel=1e-9)
    assert ours.p_value == pytest.approx(ancova.pvalues["x"], rel=1e-8)
    own = smf.ols("y ~ x * C(pair)", points).fit()
    assert ours.p_slopes == pytest.approx(own.compare_f_test(ancova)[1], rel=1e-9)
    assert any("label" in note for note in ours.notes)


def test_label_interval_is_the_jackknife_by_hand():
    points = table(1)
    ours = repeated_correlation(points, x="x", y="y", group="pair", label="scheme", permutations=9)
    z = [
        math.atanh(pingouin.rm_corr(points[points.scheme != s], x="x", y="y", subject="pair")["r"].iloc[0])
        for s in points.scheme.unique()
    ]
    se = math.sqrt(8 / 9 * ((np.array(z) - np.mean(z)) ** 2).sum())
    reach = max(stats.t.ppf(0.975, 7) * se, stats.norm.ppf(0.975) / math.sqrt(ours.df - 1))
    centre = math.atanh(ours.estimate)
    assert (ours.low, ours.high) == pytest.approx(
        (math.tanh(centre - reach), math.tanh(centre + reach)), abs=1e-9
    )
    assert ours.labels == 9


@pytest.mark.simulation
def test_schemes_shared_by_pairs_do_not_fool_the_interval():
    rng = np.random.default_rng(4)
    hits, usual, false, trials = 0, 0, 0, 100
    for i in range(trials):
        points = pd.DataFrame(
            {"pair": np.repeat(np.arange(6), 9), "scheme": [f"s{k}" for k in np.tile(np.arange(9), 6)]}
        ).assign(x=shared(rng, 6, 0.9), y=shared(rng, 6, 0.9))
        known = {"x": "x", "y": "y", "group": "pair", "permutations": 99, "seed": i}
        found = repeated_correlation(points, label="scheme", **known)
        hits += found.low <= 0 <= found.high
        false += found.p_permutation <= 0.05
        plain = repeated_correlation(points, **{**known, "permutations": 1})
        usual += plain.low <= 0 <= plain.high
    assert hits / trials > 0.88
    assert false / trials < 0.12
    assert usual / trials < 0.75


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["repeated", "partial"])
def test_p_with_labels_holds_its_level_where_pairs_share_schemes(kind):
    rng = np.random.default_rng(11)
    trials, found = {"repeated": 200, "partial": 100}[kind], []
    for _ in range(trials):
        points = pd.DataFrame(
            {"pair": np.repeat(np.arange(10), 9), "scheme": [f"s{k}" for k in np.tile(np.arange(9), 10)]}
        ).assign(**{name: shared(rng, 10, 0.8) for name in "xyz"})
        known = {"x": "x", "y": "y", "group": "pair", "label": "scheme", "permutations": 1}
        if kind == "repeated":
            found.append(repeated_correlation(points, **known).to_dict())
        else:
            rows = partial_correlation(points, covariates="z", across=True, **known)
            found += rows.to_dict("records")
    rejected = np.array([row["p_value"] <= 0.05 for row in found])
    assert rejected.mean() <= 0.08
    assert np.mean([row["p_pointwise"] <= 0.05 for row in found]) > 0.25
    assert rejected.tolist() == [not row["low"] <= 0 <= row["high"] for row in found]


def test_p_with_labels_is_one_minus_the_confidence_that_ends_at_zero():
    points = table(6).assign(y=lambda t: t.w - 0.3 * t.x)
    known = {"x": "x", "y": "y", "group": "pair", "label": "scheme", "permutations": 9}
    p = repeated_correlation(points, **known).p_value
    again = repeated_correlation(points, confidence=1 - p, **known)
    assert min(abs(again.low), abs(again.high)) == pytest.approx(0, abs=1e-9)
    plain = repeated_correlation(points, x="x", y="y", group="pair", permutations=9)
    assert plain.p_value == plain.p_pointwise == again.p_pointwise


def test_labels_are_exchanged_whatever_the_order_of_rows():
    points = table(2)
    points["y"] = points["w"]
    mixed = points.groupby("pair", group_keys=False).sample(frac=1, random_state=1)
    known = {"x": "x", "y": "y", "group": "pair", "label": "scheme", "permutations": 199}
    one, other = repeated_correlation(points, **known), repeated_correlation(mixed, **known)
    assert other.p_permutation == one.p_permutation
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-12)


def test_repeated_edges():
    points = table()
    one = repeated_correlation(points[points.pair == 0], x="x", y="y", group="pair", permutations=9)
    assert one.estimate == pytest.approx(
        stats.pearsonr(*points.loc[points.pair == 0, ["x", "y"]].T.to_numpy())[0]
    )
    assert math.isnan(one.p_slopes)
    line = repeated_correlation(
        points.assign(y=-2 * points.x + points.pair), x="x", y="y", group="pair", permutations=9
    )
    assert line.estimate == line.low == line.high == -1
    assert line.slope == pytest.approx(-2)
    assert any("no width" in note for note in line.notes)
    with pytest.raises(UsageError, match="needs group"):
        repeated_correlation(points, x="x", y="y", group=None)
    with pytest.raises(CheckError, match="constant"):
        repeated_correlation(points.assign(x=points.pair), x="x", y="y", group="pair")
    with pytest.raises(UsageError, match="permutations"):
        repeated_correlation(points, x="x", y="y", group="pair", permutations=0)
    ragged = repeated_correlation(points.iloc[1:], x="x", y="y", group="pair", label="scheme", permutations=9)
    assert ragged.labels == 9
    assert any("unlike labels" in note for note in ragged.notes)
    big = repeated_correlation(
        points.assign(x=points.x * 1e190, y=points.y * 1e-190), x="x", y="y", group="pair", permutations=9
    )
    assert big.estimate == pytest.approx(
        repeated_correlation(points, x="x", y="y", group="pair", permutations=9).estimate
    )


def test_steeper_pairs_are_named():
    points = table()
    points["y"] = points.x * (points.pair - 1.5) + 0.1 * points.y
    found = repeated_correlation(points, x="x", y="y", group="pair", permutations=9)
    assert found.p_slopes < 1e-6
    assert any("slopes of the panels differ" in note for note in found.notes)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("covariates", ["z", ["z", "w"]])
def test_partial_correlation_is_pingouins(method, covariates):
    points = table(2, schemes=15)
    ours = partial_correlation(points, x="x", y="y", covariates=covariates, group="pair", permutations=9)
    for pair, own in points.groupby("pair"):
        theirs = pingouin.partial_corr(own, x="x", y="y", covar=covariates, method=method).iloc[0]
        row = ours[(ours.pair == pair) & (ours.method == method)].iloc[0]
        assert row.estimate == pytest.approx(theirs["r"], abs=1e-10)
        assert row.p_value == pytest.approx(theirs["p_val" if "p_val" in theirs else "p-val"], rel=1e-8)
        assert row.n == theirs["n"]
        if method == "pearson":
            ends = theirs["CI95" if "CI95" in theirs else "CI95%"]
            assert (row.low, row.high) == pytest.approx(tuple(ends), abs=0.006)


def test_partial_correlation_across_pairs_is_the_regression_with_pair_effects():
    points = table(3)
    row = partial_correlation(
        points, x="x", y="y", covariates="z", group="pair", across=True, permutations=9
    ).iloc[0]
    fit = smf.ols("y ~ x + z + C(pair)", points).fit()
    t = fit.tvalues["x"]
    assert row.estimate == pytest.approx(t / math.sqrt(t * t + fit.df_resid), abs=1e-10)
    assert row.df == fit.df_resid
    assert row.p_value == pytest.approx(fit.pvalues["x"], rel=1e-8)
    assert row.labels == 0
    by_label = partial_correlation(
        points, x="x", y="y", covariates="z", group="pair", label="scheme", across=True, permutations=9
    ).iloc[0]
    assert by_label.labels == 9
    assert by_label.high - by_label.low >= row.high - row.low - 1e-12


def test_freedman_lane_counts_every_arrangement():
    points = table(5, pairs=1, schemes=6)
    row = partial_correlation(points, x="x", y="y", covariates="z").iloc[0]
    design = np.column_stack([np.ones(6), points.z])
    hat = design @ np.linalg.pinv(design)
    fitted, left = hat @ points.y, points.y - hat @ points.y
    u = points.x - hat @ points.x

    def partial(order: tuple[int, ...]) -> float:
        y = fitted + left.to_numpy()[list(order)]
        return abs(np.corrcoef(u, y - hat @ y)[0, 1])

    seen = partial(tuple(range(6)))
    extreme = [partial(order) >= seen - 1e-12 for order in itertools.permutations(range(6))]
    assert row.p_permutation == pytest.approx(np.mean(extreme), abs=1e-12)


def test_rival_predictor_takes_the_credit():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(60)
    points = pd.DataFrame(
        {"x": z + 0.2 * rng.standard_normal(60), "y": z + 0.3 * rng.standard_normal(60), "z": z}
    )
    row = partial_correlation(points, x="x", y="y", covariates="z", permutations=99).iloc[0]
    assert row.plain > 0.8
    assert abs(row.estimate) < 0.3
    assert row.low < 0 < row.high
    assert "explain" in row.notes


def test_partial_refusals():
    points = table()
    known = {"x": "x", "y": "y", "group": "pair"}
    for covariates, said in (
        ("zz", "Did you mean 'z'"),
        ("x", "x or y itself"),
        ([], "at least one"),
        (["z", "z"], "twice"),
    ):
        with pytest.raises(UsageError, match=said):
            partial_correlation(points, covariates=covariates, **known)
    twice = points.assign(v=2 * points.z - 1)
    with pytest.raises(CheckError, match=r"panel '0': covariate 'z' is a linear combination of 'v'"):
        partial_correlation(twice, covariates=["z", "v"], **known)
    with pytest.raises(CheckError, match="explain x in full"):
        partial_correlation(points.assign(z=points.x * 3 + 1), covariates="z", **known)
    with pytest.raises(CheckError, match="covariate 'z' is constant"):
        partial_correlation(points.assign(z=1.0), covariates="z", **known)
    short = table(schemes=5)
    with pytest.raises(UsageError, match="at least 6 points"):
        partial_correlation(short, covariates=["z", "w"], **known)
    with pytest.raises(UsageError, match="needs group"):
        partial_correlation(points, x="x", y="y", covariates="z", across=True)
    with pytest.raises(UsageError, match="NaN"):
        partial_correlation(points.assign(z=points.z.where(points.index > 3)), covariates="z", **known)


def test_ranks_that_coincide_are_named_not_hidden():
    points = table(pairs=1)
    monotone = points.assign(z=np.exp(points.x))
    rows = partial_correlation(monotone, x="x", y="y", covariates="z", permutations=9)
    assert math.isfinite(rows.estimate[0])
    assert math.isnan(rows.estimate[1])
    assert (rows.low[1], rows.high[1]) == (-1, 1)
    assert "no partial rank correlation" in rows.notes[1]


def test_published_points_within_pairs():
    points = load_published("wang2022").points
    found = repeated_correlation(
        points, x="t_stddev", y="test_loss", group="panel", label="scheme", permutations=99
    )
    assert (found.n, found.k, found.labels, found.df) == (90, 10, 9, 79)
    assert found.low > 0
    again = repeated_correlation(
        points, x="t_stddev", y="test_loss", group="panel", label="scheme", permutations=99
    )
    assert found == again
