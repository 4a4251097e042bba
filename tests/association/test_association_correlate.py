from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import kdstats
from kdstats.association.correlate import RESULT_COLUMNS, correlate
from kdstats.association.loo import leave_one_out
from kdstats.errors import CheckError, UsageError


def table(panels: int = 2, n: int = 9, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(panels * n)
    return pd.DataFrame(
        {
            "pair": np.repeat([f"p{i}" for i in range(panels)], n),
            "scheme": np.tile([f"s{i}" for i in range(n)], panels),
            "a": x,
            "b": x + rng.standard_normal(panels * n),
        }
    )


def run(df: pd.DataFrame, **options) -> pd.DataFrame:
    return correlate(df, **{"x": "a", "y": "b", "permutations": 99, **options})


def test_shape_of_the_answer():
    found = run(table(), group="pair", label="scheme")
    assert list(found.columns) == ["pair", *RESULT_COLUMNS]
    assert list(found["method"]) == ["pearson", "spearman", "kendall"] * 2
    assert list(found["pair"]) == ["p0"] * 3 + ["p1"] * 3
    assert (found["low"] <= found["estimate"]).all()
    assert (found["estimate"] <= found["high"]).all()
    assert (found["p_holm"] >= found["p_value"]).all()
    assert (found["n"] == 9).all()
    assert (found["notes"] == "").all()
    assert kdstats.correlate is correlate


def test_groups_keep_their_values_and_order():
    df = table()
    df["year"] = np.where(df["pair"] == "p0", 2022, 2011)
    found = run(df, group=["year", "pair"])
    assert found[["year", "pair"]].drop_duplicates().values.tolist() == [[2022, "p0"], [2011, "p1"]]
    shuffled = run(df.sample(frac=1, random_state=3), group=["year", "pair"])
    merged = found.merge(shuffled, on=["year", "pair", "method"])
    np.testing.assert_allclose(merged["estimate_x"], merged["estimate_y"], atol=1e-12)


def test_nothing_is_rounded():
    found = run(table())
    assert found["estimate"].iloc[0] != round(found["estimate"].iloc[0], 8)


@pytest.mark.parametrize("interval", ["z", "bca"])
def test_same_seed_same_answer(interval):
    options = {"group": "pair", "interval": interval, "resamples": 199}
    first, again = run(table(), **options), run(table(), **options)
    pd.testing.assert_frame_equal(first, again)
    other = run(table(), seed=1, **options)
    assert (first["p_permutation"] != other["p_permutation"]).any()
    assert (first["low"] != other["low"]).any() == (interval == "bca")


def test_a_panel_does_not_depend_on_the_others():
    whole = run(table(), group="pair", interval="bca", resamples=99)
    alone = run(table().query("pair == 'p1'"), group="pair", interval="bca", resamples=99)
    columns = ["estimate", "low", "high", "p_permutation"]
    pd.testing.assert_frame_equal(whole.iloc[3:][columns].reset_index(drop=True), alone[columns])


def test_confidence_widens():
    narrow, wide = run(table(), confidence=0.8), run(table(), confidence=0.99)
    assert (wide["high"] - wide["low"] > narrow["high"] - narrow["low"]).all()


def test_warnings_stay_with_the_result():
    df = table()
    df.loc[1, "scheme"] = "s0"
    df.loc[2, "a"] = df.loc[3, "a"]
    notes = run(df, group="pair", label="scheme")["notes"]
    assert all("labelled s0" in note for note in notes[:3])
    assert ["ties" in note for note in notes] == [False, True, True, False, False, False]
    perfect = pd.DataFrame({"a": range(9), "b": np.arange(9.0) ** 2})
    assert "p_permutation" in run(perfect)["notes"].iloc[1]
    large = table(panels=1, n=600)
    found = run(large, permutations=9)
    assert "no permutation p above n = 500" in found["notes"].iloc[2]
    assert np.isnan(found["p_permutation"].iloc[2])


def broken(column: str, value: object, row: int = 2) -> pd.DataFrame:
    df = table().astype({column: object})
    df.loc[row, column] = value
    return df


@pytest.mark.parametrize(
    ("df", "options", "error", "said"),
    [
        (table(), {"x": "aa"}, UsageError, "no column named 'aa'. Did you mean 'a'"),
        (table(), {"group": "pairs"}, UsageError, "'pair'"),
        (table(), {"label": "schema"}, UsageError, "'scheme'"),
        (table(), {"x": "b"}, UsageError, "same column"),
        (table(), {"group": "a"}, UsageError, "cannot both"),
        (table(), {"interval": "bcaa"}, UsageError, "'bca'"),
        (table(), {"confidence": 95}, UsageError, "between 0 and 1"),
        (table(), {"seed": -1}, UsageError, "seed"),
        (table(), {"permutations": 0}, UsageError, "permutations"),
        (table(), {"resamples": 0}, UsageError, "resamples"),
        (table().rename(columns={"pair": "n"}), {"group": "n"}, UsageError, "rename"),
        (table().head(0), {}, UsageError, "no rows"),
        (table(n=4), {"group": "pair"}, UsageError, "4 points in panel 'p0'"),
        (table(panels=1, n=4), {}, UsageError, "at least 5"),
        (broken("a", "high"), {}, UsageError, "'a' is not numeric: row 2 holds 'high'"),
        (broken("a", None), {}, UsageError, "'a' has no value .* in row 2"),
        (broken("b", float("inf"), 4), {}, UsageError, "'b' is infinite in row 4"),
        (broken("pair", None), {"group": "pair"}, UsageError, "group column 'pair' has no value in row 2"),
        (broken("scheme", None), {"label": "scheme"}, UsageError, "label column"),
        (table().assign(a=True), {}, UsageError, "bool"),
        (table().assign(a=1j), {}, UsageError, "complex"),
        (table().assign(a=pd.Timestamp("2022-01-01")), {}, UsageError, "datetime"),
        (table().assign(a=0.25), {"group": "pair"}, CheckError, "'a' is constant .0.25. in panel 'p0'"),
        (pd.concat([table(), table()[["a"]]], axis=1), {}, UsageError, "more than one column named 'a'"),
    ],
)
def test_bad_input_is_named(df, options, error, said):
    with pytest.raises(error, match=said):
        run(df, **options)


def test_numbers_in_other_clothes_are_numbers():
    plain = run(table())
    for dtype in ("Float64", "string", object):
        pd.testing.assert_frame_equal(run(table().astype({"a": dtype})), plain)


def test_statistics_import_no_torch_and_no_matplotlib():
    code = (
        "import sys, kdstats; kdstats.correlate, kdstats.meta_analysis, kdstats.load_published\n"
        "import kdstats.association.loo, kdstats.association.worth, kdstats.association.reading\n"
        "print([m for m in ('torch', 'matplotlib', 'statsmodels', 'jinja2') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_leave_one_out_by_hand():
    df = table(panels=1)
    found = leave_one_out(df, x="a", y="b", label="scheme").set_index("method")
    without = [np.corrcoef(df.drop(i)["a"], df.drop(i)["b"])[0, 1] for i in range(9)]
    whole = np.corrcoef(df["a"], df["b"])[0, 1]
    most = int(np.argmax(np.abs(np.array(without) - whole)))
    row = found.loc["pearson"]
    assert row["lowest"] == pytest.approx(min(without), abs=1e-12)
    assert row["highest"] == pytest.approx(max(without), abs=1e-12)
    assert row["without"] == f"s{most}"
    assert row["without_estimate"] == pytest.approx(without[most], abs=1e-12)


def test_leave_one_out_names_what_it_cannot_do():
    df = pd.DataFrame({"a": [0, 0, 0, 0, 1], "b": [1, 3, 2, 5, 4], "l": list("vwxyz")})
    found = leave_one_out(df, x="a", y="b", label="l")
    assert (found["notes"] == "without z a column is constant").all()
    assert found["lowest"].notna().all()
    line = pd.DataFrame({"a": range(6), "b": range(6)})
    assert (leave_one_out(line, x="a", y="b").query("method == 'kendall'")["without"] == "").all()
    with pytest.raises(UsageError, match="1,000"):
        leave_one_out(table(panels=1, n=1_001), x="a", y="b")
