"""The tables of every page: ranking, correlation, covariance, dependence, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from analyses.covariance import SOURCES, Covariance
from analyses.dependence import Dependence
from analyses.left_out import LeftOut
from analyses.prediction import Prediction
from analyses.ranking import Ranking
from analyses.study import Study
from analyses.words import LEVEL, interval, number, p_value, probability
from kdstats.association.coefficients import SYMBOLS
from reports import captions
from reports.table_view import Column, Row, TableView, missing, significant


def _or_blank(value: Any, text: Callable[[Any], str]) -> str:
    return "" if missing(value) else text(value)


def _spread(row: Row, key: str, places: int, scale: float = 1.0) -> str:
    sd = row[f"{key}_sd"]
    mean = number(scale * row[key], places)
    return (
        f"{mean} ({row['seeds']})"
        if missing(sd)
        else f"{mean} ± {number(scale * sd, places)} ({row['seeds']})"
    )


def _range(row: Row, low: str, high: str, places: int) -> str:
    return "" if missing(row[low]) or missing(row[high]) else interval(row[low], row[high], places)


def _pair_column(frame: pd.DataFrame) -> tuple[Column, ...]:
    return (Column("pair", lambda r: r["pair"], True),) if frame["pair"].nunique() > 1 else ()


def exponent(frame: pd.DataFrame, column: str) -> int:
    """The power of ten that leaves the largest magnitude of a column between 1 and 10."""
    top = float(frame[column].abs().max())
    return 0 if not top or math.isnan(top) else math.floor(math.log10(top))


def ranking(result: Ranking, study: Study) -> TableView:
    """Schemes by test loss."""

    def note(row: Row) -> str:
        return {1: "best", 2: "second"}.get(row["rank"], "") + (" tie" if row["tied"] else "")

    return TableView(
        "ranking",
        captions.ranking_table(result, study),
        result.table,
        (
            Column("scheme", lambda r: r["scheme"], True),
            *_pair_column(result.table),
            Column("", lambda r: note(r).strip().replace("second tie", "second, tie"), True),
            Column("test loss (nats)", lambda r: _spread(r, "test_loss", 4)),
            Column(f"{LEVEL} interval", lambda r: _range(r, "test_loss_low", "test_loss_high", 4)),
            Column(
                "against identity",
                lambda r: " ".join(
                    [
                        _or_blank(r["difference"], lambda v: number(v, 4)),
                        _range(r, "difference_low", "difference_high", 4),
                    ]
                ).strip(),
            ),
            Column("P(best)", lambda r: _or_blank(r["p_best"], probability)),
            Column("accuracy (%)", lambda r: _spread(r, "acc", 2, 100.0)),
        ),
        lambda r: "best" if r["rank"] == 1 else "reference" if r["scheme"] == "identity" else "",
    )


def correlation(result: Prediction) -> TableView | None:
    """The three coefficients of every pair, with leave-one-out; None where there are none."""
    if result.correlations.empty:
        return None
    left = result.leave_one_out.drop(columns=["estimate", "n", "notes"])
    frame = result.correlations.merge(left, on=["pair", "method"])
    names = {m: f"{m.capitalize()} {s}" for m, s in SYMBOLS.items()}
    many = frame["pair"].nunique() > 1
    holm = (
        (Column("p (Holm)", lambda r: p_value(r["p_holm"]).removeprefix("p = ").removeprefix("p ")),)
        if many
        else ()
    )
    return TableView(
        "correlation",
        captions.correlation_table(result.correlations),
        frame,
        (
            Column("coefficient", lambda r: names[r["method"]], True),
            *_pair_column(frame),
            Column("estimate", lambda r: number(r["estimate"], 2)),
            Column(f"{LEVEL} interval", lambda r: interval(r["low"], r["high"], 2)),
            Column("p", lambda r: p_value(r["p_value"]).removeprefix("p = ").removeprefix("p ")),
            Column(
                "permutation p", lambda r: p_value(r["p_permutation"]).removeprefix("p = ").removeprefix("p ")
            ),
            *holm,
            Column("n", lambda r: str(r["n"])),
            Column("leaving one out", lambda r: f"{number(r['lowest'], 2)} to {number(r['highest'], 2)}"),
            Column("moves most without", lambda r: r["without"], True),
        ),
    )


def covariance(result: Covariance) -> TableView | None:
    """The covariance of every scheme; None where none was recorded."""
    if result.table.empty:
        return None
    power = exponent(result.table, "mean_covariance")
    power = 0 if power > -4 else power
    unit = 10.0**-power
    name = "mean covariance (nats²)" if power == 0 else f"mean covariance (1e{power} nats²)"

    def value(row: Row) -> str:
        text = significant(unit * row["mean_covariance"], 3)
        if not missing(row["se"]):
            return f"{text} ± {significant(unit * row['se'], 2)}"
        if not missing(row["low"]):
            return f"{text} [{significant(unit * row['low'], 3)}, {significant(unit * row['high'], 3)}]"
        return text

    return TableView(
        "covariance",
        captions.covariance_table(result.table, SOURCES),
        result.table,
        (
            Column("scheme", lambda r: r["scheme"], True),
            *_pair_column(result.table),
            Column(name, value),
            Column("risk variance (nats²)", lambda r: _or_blank(r["risk_variance"], lambda v: f"{v:.3g}")),
            Column("design effect", lambda r: _or_blank(r["design_effect"], lambda v: number(v, 2))),
            Column("T. stddev", lambda r: _or_blank(r["t_stddev"], significant)),
            Column("test loss (nats)", lambda r: number(r["test_loss"], 4)),
        ),
        lambda r: "reference" if r["scheme"] == "identity" else "",
    )


def dependence(result: Dependence) -> TableView | None:
    """T. stddev and what its variance is made of; None where nothing was measured."""
    if result.table.empty:
        return None
    many = result.table["teacher"].nunique() > 1

    def points(key: str) -> Callable[[Row], str]:
        return lambda row: _or_blank(row[key], lambda v: number(100 * v, 1))

    return TableView(
        "dependence",
        captions.dependence_table(result.table),
        result.table,
        (
            Column("scheme", lambda r: r["scheme"], True),
            *((Column("teacher", lambda r: r["teacher"], True),) if many else ()),
            Column("T. stddev", lambda r: significant(r["t_stddev"])),
            Column(
                f"{LEVEL} interval",
                lambda r: f"[{significant(r['t_stddev_low'])}, {significant(r['t_stddev_high'])}]",
            ),
            Column("variance, % change", points("change")),
            Column("from softer views", points("softer")),
            Column("from dependence", points("dependence")),
            Column("effective inputs", lambda r: _or_blank(r["effective_inputs"], lambda v: f"{v:,.0f}")),
            Column("teacher entropy (nats)", lambda r: _or_blank(r["pool_entropy"], lambda v: number(v, 3))),
        ),
        lambda r: "reference" if r["scheme"] == "identity" else "",
    )


def left_out(result: LeftOut) -> TableView | None:
    """Everything left out; None when nothing was."""
    if result.table.empty:
        return None
    return TableView(
        "left-out",
        " ".join(result.findings),
        result.table,
        (
            Column("scheme", lambda r: r["scheme"], True),
            Column("what", lambda r: r["kind"], True),
            Column("pair", lambda r: r["pair"], True),
            Column("seed", lambda r: _or_blank(r["seed"], lambda v: str(int(v)))),
            Column("why", lambda r: r["why"], True),
        ),
    )
