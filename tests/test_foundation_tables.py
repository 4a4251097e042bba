from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from kdstats import tables
from kdstats.errors import UsageError

ROWS = [
    {"scheme": "cutmix", "value": 0.0123456789012345, "n": 3},
    {"scheme": "a|b & 50%_x", "value": float("nan"), "n": None},
    {"scheme": "ρ\nτ", "value": -1.0},
]
COLUMNS = ["scheme", "value", "n"]


def test_text_is_aligned_and_numbers_are_to_the_right():
    text = tables.to_text(ROWS[:2], COLUMNS, {"value": "T. stddev"}, {"value": lambda v: f"{v:.4f}"})
    lines = text.splitlines()
    assert lines[0].split("  ")[0] == "scheme"
    assert lines[1] == "cutmix          0.0123  3"
    assert "nan" not in text
    assert (
        len({line.index(c) + len(c) for line, c in zip(lines[:2], ("T. stddev", "0.0123"), strict=True)}) == 1
    )


def test_csv_and_json_keep_every_digit():
    read = list(csv.DictReader(io.StringIO(tables.to_csv(ROWS, COLUMNS))))
    assert float(read[0]["value"]) == ROWS[0]["value"]
    assert read[1]["scheme"] == "a|b & 50%_x"
    assert read[2]["scheme"] == "ρ\nτ"
    assert read[1]["n"] == ""
    document = json.loads(tables.write("json", ROWS, COLUMNS))
    assert document[0]["value"] == ROWS[0]["value"]
    assert document[1]["value"] is None


def test_json_has_no_nan_and_takes_numpy():
    text = tables.to_json(
        {
            "a": np.float64("nan"),
            "b": [math.inf, np.int64(3)],
            "c": (np.float32(0.5),),
            4: "ü",
            "d": np.bool_(True),
        }
    )
    assert json.loads(text) == {"a": None, "b": [None, 3], "c": [0.5], "4": "ü", "d": True}
    assert "ü" in text
    assert text.endswith("\n")


def test_markdown_escapes_pipes_and_line_ends():
    lines = tables.to_markdown(ROWS, COLUMNS).splitlines()
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[3].startswith(r"| a\|b & 50%\_x |")
    assert len(lines) == 5
    assert all(line.replace(r"\|", "").count("|") == 4 for line in lines)


def test_latex_is_escaped():
    text = tables.to_latex(ROWS, COLUMNS)
    assert r"a|b \& 50\%\_x" in text
    assert r"\begin{tabular}{lrr}" in text
    assert text.count(r"\\") == 4
    assert tables.escape_latex("\\{}~^$#<>λ−") == (
        r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\$\#$<$$>$$\lambda$$-$"
    )


def test_write_and_formats():
    for name in tables.FORMATS:
        assert "cutmix" in tables.write(name, ROWS, COLUMNS)
    with pytest.raises(UsageError, match="'latex'"):
        tables.write("latx", ROWS, COLUMNS)
    with pytest.raises(UsageError, match="output format"):
        tables.check_format("yaml")


def test_no_rows():
    assert tables.to_text([], COLUMNS) == "scheme  value  n\n"
    assert tables.to_csv([], COLUMNS) == "scheme,value,n\n"
    assert json.loads(tables.write("json", [], COLUMNS)) == []


def test_a_table_is_written_like_its_rows_and_bare_in_a_terminal_only() -> None:
    rows = [{"a": "x", "b": 1.5}, {"a": "longer", "b": 22.0}]
    headers, formats = {"a": "a long head over short cells"}, {"b": lambda value: f"{value:.2f}"}
    table = tables.Table(rows, ["a", "b"], headers, formats)
    for fmt in ("table", "md", "latex", "csv"):
        assert table.write(fmt) == tables.write(fmt, rows, ["a", "b"], headers, formats)
    assert table.heads == ["a long head over short cells", "b"]
    assert table.cells == [["x", "1.50"], ["longer", "22.00"]]
    bare = replace(table, bare=True)
    assert bare.write("md") == table.write("md")
    # Heads that are not shown do not push the columns apart.
    assert bare.write("table").splitlines() == ["  x        1.50", "  longer  22.00"]
