from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats.association.repeats import average_repeats, repeats, spread_over_repeats
from kdstats.errors import UsageError

KNOWN = {
    "means": ["t", "loss"],
    "errors": {"t_se": "t", "loss_se": "loss"},
    "label": "scheme",
    "group": "pair",
}


def rows(seed: int = 0, counts: tuple[int, ...] = (3, 1, 2, 4)) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    out = []
    for pair in ("a", "b"):
        for scheme, count in enumerate(counts):
            t = rng.normal()
            for k in range(count):
                out.append(
                    {
                        "pair": pair,
                        "scheme": f"s{scheme}",
                        "seed": k,
                        "t": t,
                        "t_se": 0.1,
                        "loss": t + rng.normal(),
                        "loss_se": rng.uniform(0.1, 0.3),
                        "kind": f"k{scheme % 2}",
                    }
                )
    return pd.DataFrame(out)


def test_means_and_errors_follow_from_their_definitions():
    frame = rows()
    found = average_repeats(frame, **KNOWN)
    by = frame.groupby(["pair", "scheme"], sort=False)
    assert found.table["loss"].to_numpy() == pytest.approx(by["loss"].mean().to_numpy(), rel=1e-14)
    se = by["loss_se"].apply(lambda s: np.sqrt((s**2).sum()) / len(s)).to_numpy()
    assert found.table["loss_se"].to_numpy() == pytest.approx(se, rel=1e-14)
    assert (found.rows, found.points, found.fewest, found.most) == (20, 8, 1, 4)
    assert found.sentence("scheme") == "20 rows → 8 points, each the mean over 1 to 4 rows of one scheme"


def test_a_value_copied_beside_every_seed_is_one_measurement():
    found = average_repeats(rows(), **KNOWN).table
    assert found["t_se"].to_numpy() == pytest.approx(0.1, rel=1e-14)
    other = rows()
    other["t"] += np.arange(len(other)) * 1e-9  # measured anew each time
    assert average_repeats(other, **KNOWN).table["t_se"].iloc[0] == pytest.approx(0.1 / 3**0.5)


def test_what_is_one_value_a_point_stays_and_the_rest_goes():
    found = average_repeats(rows(), **KNOWN).table
    assert "seed" not in found
    assert list(found["kind"]) == ["k0", "k1", "k0", "k1"] * 2
    with pytest.raises(UsageError, match="column 'seed' differs between rows of one scheme"):
        average_repeats(rows(), **KNOWN, keep=["seed"])


def test_a_missing_error_leaves_that_of_its_point_missing():
    frame = rows()
    frame.loc[0, "loss_se"] = np.nan
    found = average_repeats(frame, **KNOWN).table
    assert found["loss_se"].isna().tolist() == [True] + [False] * 7


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(20)), exponent=st.sampled_from([-300, -160, 0, 160, 300]))
def test_neither_order_nor_scale_of_the_rows_matters(order, exponent):
    frame = rows()
    plain = average_repeats(frame, **KNOWN).table.set_index(["pair", "scheme"]).sort_index()
    for name in ("loss", "loss_se"):
        frame[name] *= 10.0**exponent
    found = average_repeats(frame.iloc[list(order)], **KNOWN).table.set_index(["pair", "scheme"]).sort_index()
    for name in ("t", "t_se"):
        assert found[name].to_numpy() == pytest.approx(plain[name].to_numpy(), rel=1e-12)
    for name in ("loss", "loss_se"):
        assert found[name].to_numpy() / 10.0**exponent == pytest.approx(plain[name].to_numpy(), rel=1e-12)


def test_the_index_names_the_first_row_of_a_point():
    frame = rows()
    frame.index = pd.RangeIndex(2, 22, name="line")
    found = average_repeats(frame, **KNOWN).table
    assert list(found.index) == [2, 5, 6, 8, 12, 15, 16, 18]
    assert found.index.name == "line"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"scheme": None}, UsageError, "label column 'scheme' has no value"),
        ({"pair": None}, UsageError, "group column 'pair' has no value"),
        ({"loss": np.nan}, UsageError, "'loss' has no value"),
        ({"loss": "x"}, UsageError, "'loss' is not numeric"),
    ],
)
def test_refusals(change, error, said):
    frame = rows().astype(object)
    for name, value in change.items():
        frame.loc[3, name] = value
    with pytest.raises(error, match=said):
        average_repeats(frame, **KNOWN)


def test_means_of_the_largest_numbers_fit():
    frame = pd.DataFrame({"s": ["a", "a"], "x": [1.7e308, 1.6e308]})
    assert average_repeats(frame, means=["x"], label="s").table["x"].iloc[0] == pytest.approx(1.65e308)


def test_repeats_are_seen_within_panels_only():
    frame = rows(counts=(1, 1, 1, 1))
    assert not repeats(frame, label="scheme", group="pair")
    assert repeats(frame, label="scheme")


def test_spread_is_the_residual_of_the_one_way_layout_of_each_panel():
    frame = rows()
    found = spread_over_repeats(frame, "loss", label="scheme", group="pair")
    for pair in ("a", "b"):
        part = frame[frame["pair"] == pair]
        left = part["loss"] - part.groupby("scheme")["loss"].transform("mean")
        sd = np.sqrt((left**2).sum() / (len(part) - part["scheme"].nunique()))
        assert found[(frame["pair"] == pair).to_numpy()] == pytest.approx(sd, rel=1e-12)
    with pytest.raises(UsageError, match="no scheme is repeated in panel 'a'"):
        spread_over_repeats(rows(counts=(1, 1)), "loss", label="scheme", group="pair")


def test_the_spread_gives_the_error_of_the_mean_that_was_planted():
    rng = np.random.default_rng(1)
    n, sd = 4, 0.3
    squares = []
    for _ in range(60):
        frame = pd.DataFrame({"s": np.repeat(np.arange(9), n), "y": rng.normal(0, sd, 9 * n)})
        frame = frame.assign(se=spread_over_repeats(frame, "y", label="s"))
        squares.append(average_repeats(frame, means=["y"], errors={"se": "y"}, label="s").table["se"] ** 2)
    # 27 degrees of freedom each: the mean of 60 variances has a relative error of sqrt(2/27/60) = 0.035.
    assert np.mean(squares) == pytest.approx(sd**2 / n, rel=0.12)
