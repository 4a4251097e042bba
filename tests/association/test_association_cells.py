from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdstats.association.cells import check_cells, trimmed, unlike_case
from kdstats.association.number_text import what_is_wrong
from kdstats.errors import UsageError


def frame(**columns: object) -> pd.DataFrame:
    out = pd.DataFrame({"pair": ["a", "b", "c"], "x": [1.0, 2.0, 3.0], "se": [0.1, np.nan, 0.1]} | columns)
    out.index = pd.RangeIndex(2, 5, name="line")
    return out


def test_every_cell_at_fault_is_in_one_message():
    bad = frame(x=[np.nan, 2.0, np.nan], y=["1", "2,5", "x"], z=[1.0, np.inf, 2.0], pair=["a", None, "c"])
    with pytest.raises(UsageError) as caught:
        check_cells(bad, values=["x", "y", "z"], names=["pair"], may_miss=["se"])
    said = str(caught.value)
    assert "'x' has no value in lines 2, 4" in said
    assert "'pair' has no value in line 3" in said
    assert "'y' is not numeric: line 3 holds '2,5', a decimal comma: write 2.5 (also line 4)" in said
    assert "'z' is infinite in line 3" in said
    assert said.endswith("fill them in or delete these rows")


def test_sound_cells_pass_and_standard_errors_may_be_missing():
    check_cells(frame(), values=["x"], names=["pair"], may_miss=["se"])
    check_cells(frame(x=["1", "2e3", " 3 "]), values=["x"], names=["pair"])
    with pytest.raises(UsageError, match="'se' has no value in line 3"):
        check_cells(frame(), values=["x", "se"], names=[])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("56.3%", "a percent sign: write 56.3"),
        ("56.3 %", "a percent sign: write 56.3"),
        ("1,023.45", "thousands separator: write 1023.45"),
        ("1,023,456", "thousands separator: write 1023456"),
        ("1.023,45", "thousands separator: write 1023.45"),
        ("1 023.5", "thousands separator: write 1023.5"),
        ("0,0512", "a decimal comma: write 0.0512"),
        ("-0,5e-3", "a decimal comma: write -0.5e-3"),
        ("1,023", "write 1.023 or 1023, as it is meant"),
        ("1.2 ± 0.1", "give them a column each"),
        ("−0.5", "a minus sign of print: write -0.5"),
    ],
)
def test_texts_that_look_like_numbers_get_a_remedy(text, said):
    assert said in what_is_wrong(text)


@pytest.mark.parametrize("text", ["", "pending", "a,b", "1.2.3.4.", "inf", "--", "1,2,3"])
def test_other_texts_get_none(text):
    assert what_is_wrong(text) == ""


def test_spaces_around_names_are_taken_off():
    found, changed = trimmed(frame(pair=["a ", " a", "  "]), ["pair", "x"])
    assert changed == ["pair"]
    assert found["pair"].iloc[:2].tolist() == ["a", "a"]
    assert found["pair"].isna().tolist() == [False, False, True]
    same, none = trimmed(frame(), ["pair"])
    assert none == []
    assert same["pair"].tolist() == ["a", "b", "c"]


def test_names_that_differ_in_capitals():
    assert unlike_case(frame(pair=["Mixup", "mixup", "cutmix"]), ["pair"]) == {"pair": ("Mixup", "mixup")}
    assert unlike_case(frame(), ["pair"]) == {}
