"""Means over seeds as a table: numbers against pandas, marks by hand, and every format parsed again."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstats.errors import CheckError, UsageError
from kdstats.tables import decimals_of, summarise, with_decimals, write_summary


def runs_of(cells, column="loss"):
    """``{(scheme, pair): values}`` → one row a run."""
    return pd.DataFrame(
        [
            {"scheme": s, "pair": p, "seed": k, column: v}
            for (s, p), values in cells.items()
            for k, v in enumerate(values)
        ]
    )


CELLS = {
    ("identity", "a"): [1.10, 1.12, 1.14],
    ("mix_up", "a"): [1.00, 1.02, 1.04],
    ("cutmix", "a"): [1.01, 1.03, 1.05],
    ("identity", "b"): [2.0, 2.5],
    ("mix_up", "b"): [1.5],
}


def test_numbers_are_pandas_and_nothing_is_rounded():
    found = summarise(runs_of(CELLS), value="loss", by=["scheme", "pair"], better="lowest")
    expected = runs_of(CELLS).groupby(["scheme", "pair"])["loss"].agg(["mean", "std", "count"])
    for cell in found.cells:
        mean, sd, n = expected.loc[(cell.row, *cell.column)]
        assert (cell.mean, cell.sd, cell.n) == pytest.approx((mean, sd, n), nan_ok=True)
        assert cell.se == pytest.approx(sd / math.sqrt(n), nan_ok=True)
    assert found.rows == ("identity", "mix_up", "cutmix")
    assert found.columns == (("a",), ("b",))
    assert found.cell("cutmix", ("b",)) is None


def test_best_second_and_ties():
    found = summarise(runs_of(CELLS), value="loss", by=["scheme", "pair"], better="lowest")
    marks = {(c.row, *c.column): (c.place, c.tied) for c in found.cells}
    # mix_up's standard error is 0.02/sqrt(3) = 0.0115, and cutmix lies 0.01 above it.
    assert marks["mix_up", "a"] == (1, False)
    assert marks["cutmix", "a"] == (2, True)
    assert marks["identity", "a"] == (3, False)
    # The best has one run: the other's own standard error (0.25) decides, and 2.25 is 0.75 away.
    assert marks["identity", "b"] == (2, False)
    highest = summarise(runs_of(CELLS), value="loss", by=["scheme", "pair"], better="highest")
    assert highest.cell("identity", ("a",)).place == 1
    lone = summarise(
        runs_of({("a", "x"): [1.0], ("b", "x"): [1.0]}), value="loss", by=["scheme"], better="lowest"
    )
    assert [(c.place, c.tied) for c in lone.cells] == [(1, False), (1, False)]


def test_notes():
    runs = runs_of(CELLS).assign(excluded=[True] + [False] * 11, epochs=[240] * 11 + [480])
    found = summarise(runs, value="loss", by=["scheme", "pair"], better="lowest")
    assert found.excluded == 1
    assert found.cell("identity", ("a",)).n == 2
    assert found.notes == (
        "1 excluded runs left out",
        "n = 1 in 1 of 5 cells: no spread, so no ties",
        "cells rest on unlike numbers of seeds",
        "runs that are compared differ in epochs",
    )
    # Pairs that are never compared may differ.
    apart = runs_of(CELLS).assign(epochs=lambda d: d["pair"].map({"a": 240, "b": 480}))
    notes = summarise(apart, value="loss", by=["scheme", "pair"], better="lowest").notes
    assert not any("epochs" in note for note in notes)


def test_printed_forms():
    found = summarise(runs_of(CELLS), value="loss", by=["scheme", "pair"], better="lowest")
    text, md, latex = (write_summary(found, fmt) for fmt in ("table", "md", "latex"))
    assert "1.020 ± 0.020 * (3)" in text
    assert "1.030 ± 0.020 (3) †" in text
    assert "| mix_up | **1.020 ± 0.020** (3) | **1.50** (1) |" in md
    assert "| cutmix | *1.030 ± 0.020* (3) † |  |" in md
    assert r"mix\_up & \textbf{1.020 $\pm$ 0.020} (3) & \textbf{1.50} (1) \\" in latex
    assert r"cutmix & \underline{1.030 $\pm$ 0.020} (3)$^{\dagger}$ &  \\" in latex
    assert latex.startswith("\\begin{tabular}{lrr}\n\\toprule\nscheme & a & b \\\\\n\\midrule")
    for words in (text, md):
        assert "n = 1 to 3, as given" in words
        assert "within one standard error of the best" in words
    assert "Mean" not in write_summary(found, "md", caption=False)
    percent = write_summary(found, "md", scale=100, decimals=1, labels={"mix_up": "Mixup", "a": "pair A"})
    assert "| Mixup | **102.0 ± 2.0** (3) |" in percent
    assert "| scheme | pair A | b |" in percent


def test_csv_and_json_hold_every_digit():
    runs = runs_of({("a", "x"): [1 / 3, 2 / 7], ("b", "x"): [0.1]})
    found = summarise(runs, value="loss", by=["scheme"], better="lowest")
    rows = list(csv.DictReader(io.StringIO(write_summary(found, "csv", scale=100))))
    assert float(rows[0]["mean"]) == found.cells[0].mean == np.mean([1 / 3, 2 / 7])
    assert rows[1]["sd"] == ""
    document = json.loads(write_summary(found, "json"))
    assert document["cells"][0]["sd"] == found.cells[0].sd
    assert document["cells"][1]["se"] is None
    assert (document["value"], document["better"], document["by"]) == ("loss", "lowest", ["scheme"])
    assert "| scheme | loss |" in write_summary(found, "md")


def test_decimals_follow_the_standard_error():
    assert decimals_of([0.0123]) == 3
    assert decimals_of([0.0996]) == 2  # printed as 0.10
    assert decimals_of([12.0, math.nan, 0.0]) == 0
    assert decimals_of([1e-30]) == 12
    assert decimals_of([], fallback=2) == 2
    assert decimals_of([0.0123], digits=1) == 2
    with pytest.raises(UsageError, match="significant digit"):
        decimals_of([1.0], digits=0)
    assert with_decimals(-0.0004, 3) == "0.000"


@given(st.floats(1e-8, 1e6))
def test_the_standard_error_keeps_two_digits(se):
    places = decimals_of([se])
    shown = re.sub(r"^0+", "", with_decimals(se, places).replace(".", "")).strip("−")
    assert len(shown) >= 2
    assert abs(float(with_decimals(se, places)) - se) <= 0.05 * se * (1 + 1e-9)


def test_what_is_refused():
    runs = runs_of(CELLS)
    rest = {"value": "loss", "by": ["scheme", "pair"], "better": "lowest"}
    for change, error, match in (
        ({"value": "los"}, UsageError, "'loss'"),
        ({"by": ["scheme", "pairs"]}, UsageError, "'pair'"),
        ({"by": []}, UsageError, "at least one column"),
        ({"better": "lower"}, UsageError, "'lowest'"),
        ({"by": ["pair"]}, CheckError, "twice for a"),
    ):
        with pytest.raises(error, match=match):
            summarise(runs, **{**rest, **change})
    with pytest.raises(CheckError, match=r"row 2 \(1 rows\)"):
        summarise(runs.assign(loss=runs["loss"].where(runs.index != 2)), **rest)
    with pytest.raises(CheckError, match="no scheme or pair"):
        summarise(runs.assign(pair=runs["pair"].where(runs.index != 2)), **rest)
    with pytest.raises(UsageError, match="marked as excluded"):
        summarise(runs.assign(excluded=True), **rest)
    found = summarise(runs, **rest)
    with pytest.raises(UsageError, match="output format"):
        write_summary(found, "html")
    with pytest.raises(UsageError, match="scale"):
        write_summary(found, "md", scale=0)
