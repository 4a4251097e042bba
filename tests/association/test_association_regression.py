from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

import kdstats
from kdstats.association.regression import KINDS, regress
from kdstats.errors import CheckError, UsageError


def table(pairs: int = 4, n: int = 7, seed: int = 0, unlike: float = 0.6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for g in range(pairs):
        x = rng.standard_normal(n + g) * np.exp(unlike * rng.standard_normal()) + 3 * g
        y = 5 - g + (1 + 0.3 * rng.standard_normal()) * x + rng.standard_normal(x.size)
        rows.append(
            pd.DataFrame(
                {"pair": f"p{g}", "x": x, "y": y, "scheme": [f"s{i}" for i in range(x.size)], "two": g % 2}
            )
        )
    return pd.concat(rows, ignore_index=True).sample(frac=1, random_state=seed).reset_index(drop=True)


def run(df: pd.DataFrame, **options) -> pd.DataFrame:
    return regress(df, **{"x": "x", "y": "y", "group": "pair", **options}).set_index("kind")


def design(df: pd.DataFrame) -> np.ndarray:
    return np.column_stack([pd.get_dummies(df["pair"]).to_numpy(dtype=float), df["x"]])


def cr2_by_definition(df: pd.DataFrame, cluster: str) -> tuple[float, float]:
    """Standard error and Satterthwaite degrees of freedom of the last column, from full matrices."""
    a, y = design(df), df["y"].to_numpy()
    bread = np.linalg.inv(a.T @ a)
    residual_maker = np.eye(len(df)) - a @ bread @ a.T
    residuals, meat, columns = residual_maker @ y, np.zeros_like(bread), []
    for _, rows in df.groupby(cluster).indices.items():
        block = residual_maker[np.ix_(rows, rows)]
        root = linalg.pinvh(np.real(linalg.sqrtm(block + 1e-300)), rtol=1e-6)
        score = a[rows].T @ root @ residuals[rows]
        meat += np.outer(score, score)
        columns.append(residual_maker[:, rows] @ root @ a[rows] @ bread[:, -1])
    q = np.column_stack(columns)
    eigenvalues = np.linalg.eigvalsh(q.T @ q)
    return np.sqrt((bread @ meat @ bread)[-1, -1]), eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


@pytest.mark.parametrize("seed", range(3))
def test_three_kinds_are_statsmodels(seed):
    df = table(seed=seed)
    fit = sm.OLS(df["y"].to_numpy(), design(df)).fit()
    codes = df["pair"].astype("category").cat.codes.to_numpy()
    theirs = {
        "classical": fit,
        "hc3": fit.get_robustcov_results("HC3", use_t=True),
        "cr1": fit.get_robustcov_results("cluster", groups=codes, use_t=True),
    }
    ours = run(df)
    for kind, other in theirs.items():
        row = ours.loc[kind]
        low, high = np.asarray(other.conf_int())[-1]
        assert row["estimate"] == pytest.approx(np.asarray(fit.params)[-1], abs=1e-10)
        assert row["se"] == pytest.approx(np.asarray(other.bse)[-1], abs=1e-10)
        assert row["p_value"] == pytest.approx(np.asarray(other.pvalues)[-1], abs=1e-10)
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-10)


@pytest.mark.parametrize("cluster", ["pair", "two", "scheme"])
def test_cr2_is_its_definition(cluster):
    df = table(pairs=5, seed=3)
    ours = run(df, cluster=cluster).loc["cr2"]
    se, dof = cr2_by_definition(df, cluster)
    assert ours["se"] == pytest.approx(se, rel=1e-6)
    assert ours["dof"] == pytest.approx(dof, rel=1e-6)


def test_standardised_pairs_are_a_t_test_of_their_correlations():
    df = table(pairs=6, n=9, seed=1)
    df = df[df["scheme"].isin([f"s{i}" for i in range(9)])]
    r = [stats.pearsonr(p["x"], p["y"])[0] for _, p in df.groupby("pair")]
    theirs = stats.ttest_1samp(r, 0)
    ours = run(df, standardised=True).loc["cr2"]
    assert ours["estimate"] == pytest.approx(np.mean(r), abs=1e-12)
    assert ours["dof"] == pytest.approx(5, abs=1e-9)
    assert ours["p_value"] == pytest.approx(theirs.pvalue, abs=1e-12)
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-10)


def test_the_default_comes_first_and_depends_on_clusters():
    found = regress(table(), x="x", y="y", group="pair")
    assert tuple(found["kind"]) == KINDS
    assert found["default"].tolist() == [True, False, False, False]
    assert (found["clusters"] == 4).all()
    assert (found["groups"] == 4).all()
    alone = regress(table(pairs=1), x="x", y="y")
    assert alone["kind"].tolist() == ["hc3", "classical"]
    assert alone["default"].tolist() == [True, False]
    assert alone["low"].lt(alone["high"]).all()


def test_units_shift_and_order_do_not_matter():
    df = table()
    base = run(df)
    moved = df.assign(x=1e-3 * df["x"], y=7 + 10 * df["y"]).iloc[::-1].reset_index(drop=True)
    other = run(moved)
    np.testing.assert_allclose(
        other[["estimate", "se", "low", "high"]], 1e4 * base[["estimate", "se", "low", "high"]]
    )
    np.testing.assert_allclose(other[["p_value", "dof"]], base[["p_value", "dof"]], rtol=1e-7)
    pair_effects = run(df.assign(y=df["y"] + 100 * df["pair"].astype("category").cat.codes))
    np.testing.assert_allclose(pair_effects["estimate"], base["estimate"], rtol=1e-9)


def test_notes_say_what_an_interval_does_not_know():
    notes = run(table(), label="scheme")["notes"]
    assert notes.str.contains("regress(cluster='scheme') has it", regex=False).all()
    assert "too short where slopes differ" in notes["classical"]
    assert "see cr2" in notes["cr1"]
    assert "degrees of freedom" in notes["cr2"]


def test_published_slope_rests_on_few_degrees_of_freedom():
    points = kdstats.load_published("wang2022").points
    found = kdstats.regress(points, x="t_stddev", y="test_loss", group="panel").set_index("kind")
    assert found.loc["cr2", "n"] == 90
    # Pairs differ in their slopes, so errors that take points as independent are far too small.
    assert found.loc["cr2", "se"] > 2.5 * found.loc["classical", "se"]
    assert found.loc["cr2", "low"] > 0


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({}, {"cluster": "piar"}, UsageError, "Did you mean 'pair'"),
        ({}, {"cluster": "x"}, UsageError, "cannot both"),
        ({"two": 1}, {"cluster": "two"}, UsageError, "one cluster only"),
        ({"two": None}, {"cluster": "two"}, UsageError, "no value in row 0"),
        ({"y": lambda d: 2 * d["x"]}, {}, CheckError, "exactly on lines"),
        ({"y": np.nan}, {}, UsageError, "NaN"),
        ({"x": 1.0}, {}, CheckError, "constant"),
        ({}, {"confidence": 95}, UsageError, "confidence"),
    ],
)
def test_refusals(change, options, error, said):
    with pytest.raises(error, match=said):
        run(table().assign(**change), **options)


def test_panels_that_are_there_twice_are_refused():
    df = table(pairs=1)
    with pytest.raises(CheckError, match="there twice"):
        run(pd.concat([df, df.assign(pair="copy")], ignore_index=True))


def test_one_cluster_with_all_spread_is_refused():
    df = table(pairs=3)
    df.loc[df["pair"] != "p0", "x"] *= 1e-9
    with pytest.raises(CheckError, match="one cluster holds all spread"):
        run(df)


@pytest.mark.simulation
def test_cr2_covers_where_cr1_does_not():
    """Three pairs whose predictors spread unlike each other, slopes that differ around 1."""
    rng = np.random.default_rng(0)
    hits = dict.fromkeys(KINDS, 0)
    codes = np.repeat(["a", "b", "c"], 9)
    for _ in range(200):
        x = rng.standard_normal((3, 9)) * np.exp(0.7 * rng.standard_normal((3, 1)))
        y = (1 + 0.5 * rng.standard_normal((3, 1))) * x + 0.5 * rng.standard_normal((3, 9))
        found = regress(
            pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "pair": codes}), x="x", y="y", group="pair"
        )
        for row in found.itertuples():
            hits[row.kind] += row.low <= 1 <= row.high
    assert hits["cr2"] / 200 > 0.91
    assert hits["cr1"] < hits["cr2"] - 10
    assert hits["classical"] / 200 < 0.6
