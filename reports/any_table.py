"""Tables of analyses that have no table of their own here: columns are printed by what their names mean.

Names follow one habit in all analyses: ``x, x_low, x_high`` are an estimate with its interval, ``x_sd`` its spread over
seeds, ``p`` and ``p_…`` probabilities; ``difference, low, high`` stand together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analyses.words import (
    CONFIDENCE,
    LEVEL,
    capital,
    count,
    estimate,
    listed,
    number,
    p_value,
    probability,
    sizes,
)
from reports.table_view import Column, Row, TableView, missing, significant

_LEVEL = LEVEL.replace(" ", "\u00a0")  # in a narrow head it stays in one line
# Printed names that mean the same in every analysis, with units; an analysis states others as ``HEADS`` of its own.
HEADS = {
    "acc": "accuracy (fraction)",
    "accuracy": "accuracy (fraction)",
    "acc_gap": "accuracy, best − last (fraction)",
    "df": "residual df",
    "ece": "ECE",
    "ece_null": "ECE if calibrated",
    "entropy": "entropy (nats)",
    "epsilon": "ε",
    "f": "F",
    "kl": "KL (nats)",
    "label_entropy": "label entropy (nats)",
    "logit_sd": "sd of logits",
    "loss_gap": "test loss, last − best (nats)",
    "mean_covariance": "mean covariance (nats²)",
    "p_best": "P(best)",
    "p_equal": "p (all equal)",
    "p_holm": "p (Holm)",
    "r": "r",
    "regret": "regret (nats)",
    "rms": "RMS calibration error",
    "stratum": "runs compared",
    "t_stddev": "T. stddev",
    "tau": "Kendall τ",
    "test_loss": "test loss (nats)",
}
MOST_NAMED = 4  # columns that a caption names; with more it names the table
_CHANCES = ("p_best",)
_ALONE = ("pair", "role", "teacher")  # left out where there is only one


def view(name: str, frame: pd.DataFrame, what: str, heads: Mapping[str, str] | None = None) -> TableView:
    """A printed table of any frame of an analysis; the CSV keeps the frame.

    Args:
        name: File stem and id.
        frame: At least one row.
        what: What its rows are, for the caption; from the columns where it is empty.
        heads: Printed names of columns, where :data:`HEADS` has none or another one.
    """
    columns = [str(column) for column in frame.columns]
    ends = _ends(columns)
    taken = {end for pair in ends.values() for end in pair}
    spread = {column for column in columns if f"{column}_sd" in columns}
    taken |= {f"{column}_sd" for column in spread}
    shown = [c for c in columns if c not in taken and not _said_by_the_page(frame, c)] or columns[:1]
    keys = ("scheme", "level", "stratum")
    named = [c for c in keys if c in shown] or [c for c in shown if _wordy(frame[c]) and c not in _ALONE]
    named = (
        named or [c for c in _ALONE if c in columns] or shown
    )  # a row needs a name, even where there is only one
    first = named[0]
    order = [first, *(c for c in shown if c != first)]
    named_as = {column: header(column, heads or {}) for column in order}
    printed = tuple(_column(frame, c, named_as[c], ends.get(c), c in spread) for c in order)
    printed = (dataclasses.replace(printed[0], word=True), *printed[1:])
    if not what:
        values = [
            column.header.split(" [")[0].removesuffix(" ± sd") for column in printed[1:] if not column.word
        ]
        values = [value for value in values if value != "seeds"]
        short = 0 < len(values) <= MOST_NAMED
        what = (
            f"{listed(values) if short else name.rsplit('-', 1)[-1].replace('_', ' ')} by {printed[0].header}"
        )
    return TableView(name, caption(frame, what, bool(ends)), frame, printed, _style)


def caption(frame: pd.DataFrame, what: str, intervals: bool) -> str:
    """What the table holds, from the frame."""
    parts = [count(len(frame), "row")]
    if "seeds" in frame:
        # Some count the seeds of both sides of a comparison.
        given = [value if isinstance(value, tuple) else (value,) for value in frame["seeds"]]
        ns = [int(n) for values in given for n in values if not missing(n)]
        if ns:
            parts.append(f"n = {sizes(ns)} each")
    # A symbol such as r keeps its small letter.
    text = f"{capital(what) if what[:2].isalpha() else what} ({', '.join(parts)})."
    return f"{text} Brackets: {_LEVEL} intervals." if intervals else text


def header(column: str, heads: Mapping[str, str]) -> str:
    """The printed name of a column: as the analysis has it, as all have it, or as it is called."""
    return heads.get(column) or HEADS.get(column) or column.replace("_", " ")


def _ends(columns: list[str]) -> dict[str, tuple[str, str]]:
    """Column → the columns of its interval."""
    out = {
        column: (f"{column}_low", f"{column}_high")
        for column in columns
        if {f"{column}_low", f"{column}_high"} <= set(columns)
    }
    if {"low", "high"} <= set(columns):
        before = columns[: columns.index("low")]
        if before:
            out[before[-1]] = ("low", "high")
    return out


def _wordy(values: pd.Series) -> bool:
    return bool(values.map(lambda v: isinstance(v, str | tuple)).any())


def _said_by_the_page(frame: pd.DataFrame, column: str) -> bool:
    """The only pair there is, the level of every interval, and columns in which nothing stands."""
    if len(frame.columns) == 1:
        return False
    if column == "confidence" and (frame[column] == CONFIDENCE).all():
        return True
    empty = frame[column].map(lambda value: isinstance(value, str) and not value)
    return bool(empty.all()) or (column in _ALONE and frame[column].nunique(dropna=False) == 1)


def _style(row: Row) -> str:
    if row.get("lowest") is True:
        return "best"
    return "reference" if row.get("scheme") == "identity" else ""


def _column(frame: pd.DataFrame, name: str, head: str, ends: tuple[str, str] | None, spread: bool) -> Column:
    values = frame[name]
    if ends is not None:
        return Column(f"{head} [{_LEVEL}]", _interval(name, *ends))
    if _wordy(values):
        return Column(head, lambda row: _plain(row[name]), True)
    if values.map(lambda v: isinstance(v, bool) or type(v).__name__ == "bool").all():
        return Column(head, lambda row: "yes" if row[name] else "", True)
    if spread:
        return Column(f"{head} ± sd", _spread(name))
    return Column(head, _number(name))


def _interval(name: str, low: str, high: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        if missing(row[name]):
            return ""
        if missing(row[low]) or missing(row[high]):
            return significant(float(row[name]))
        # Numbers below 0.001 would leave no digit beside their interval.
        small = max(abs(float(row[key])) for key in (name, low, high)) < 1e-3
        if small:
            return f"{_tiny(row[name])} [{_tiny(row[low])}, {_tiny(row[high])}]"
        return estimate(float(row[name]), float(row[low]), float(row[high]))

    return cell


def _tiny(value: Any) -> str:
    return significant(float(value), 3)


def _spread(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        if missing(row[name]):
            return ""
        sd = row[f"{name}_sd"]
        text = significant(float(row[name]))
        return text if missing(sd) else f"{text} ± {significant(float(sd), 2)}"

    return cell


def _number(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row[name]
        if missing(value):
            return ""
        if name in _CHANCES:
            return probability(float(value))
        if name == "p" or name.startswith("p_"):
            return p_value(float(value)).removeprefix("p = ").removeprefix("p ")
        if float(value).is_integer() and abs(float(value)) < 1e9:
            return f"{int(value):,}" if abs(float(value)) >= 1e4 else number(float(value), 0)
        return significant(float(value))

    return cell


def _plain(value: Any) -> str:
    if missing(value):
        return ""
    if isinstance(value, tuple):
        return " and ".join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
