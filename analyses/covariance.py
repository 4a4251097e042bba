"""Does a good scheme keep the covariance of the teacher–student cross-entropy low?

The covariance is taken from training where the study recorded it (table ``study``), and from the teacher-only
passes, where the teacher may stand in for the student, otherwise; the two are never put into one column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analyses.inference.association import ONE_SCHEME, UNCLEAR, read_association
from analyses.study import Study
from analyses.words import LEVEL, count, interval, number, p_value, records
from kdstats.association.correlate import correlate
from kdstats.association.panels import SMALLEST_N
from kdstats.figures.style import PAGE, marks, plain, style

QUESTION = "Does a good scheme keep the covariance of the teacher–student cross-entropy low?"
TRAINING = "training"
SOURCES = {
    TRAINING: "student in training",
    "student": "trained student, teacher-only passes",
    "teacher": "teacher in the student's place, teacher-only passes",
}
LINKS = {
    "t_stddev": ("t_stddev", "mean_covariance", "T. stddev goes with the covariance"),
    "test_loss": ("mean_covariance", "test_loss", "the covariance goes with the test loss"),
}


@dataclass(frozen=True, slots=True)
class CovarianceFacts:
    """What the two scatters show, for their caption."""

    pair: str
    n: int
    source: str
    coefficients: dict[str, tuple[float, float, float]]
    bars: int

    def caption(self) -> str:
        """The caption, from the fields."""
        said = [
            f"{'left' if link == 't_stddev' else 'right'} r {number(r, 2)} {interval(low, high, 2)}"
            for link, (r, low, high) in self.coefficients.items()
        ]
        bars = f" Bars: ± 1 standard error over seeds ({self.bars} of {self.n} schemes)." if self.bars else ""
        tail = (
            f" Pearson with {LEVEL} interval: {', '.join(said)}."
            if said
            else " Too few schemes for a correlation."
        )
        return (
            "Mean covariance of the teacher–student cross-entropy of two inputs of a batch "
            f"({self.source}) against "
            f"T. stddev and against the student's test loss, {self.pair}, n = "
            f"{count(self.n, 'scheme')}.{tail}{bars}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Covariance:
    """The result: ``table`` has one row per pair and scheme, unrounded (nats², nats).

    Columns: ``pair, scheme, source`` (a key of :data:`SOURCES`), ``mean_covariance``, its ``se`` over seeds
    (NaN for teacher-only passes) or ``low`` and ``high`` (NaN for training), ``risk_variance, design_effect,
    wang2022_v3, t_stddev, test_loss``. ``correlations`` has a row per pair and link.
    """

    table: pd.DataFrame
    correlations: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self, pair: str) -> tuple[Figure, CovarianceFacts] | None:
        """Two scatters of one pair; None where there is nothing to draw."""
        rows = self.table[self.table["pair"] == pair] if len(self.table) else self.table
        rows = rows.dropna(subset=["mean_covariance", "t_stddev", "test_loss"]) if len(rows) else rows
        return _draw(pair, rows, self.correlations) if len(rows) > 1 else None


def run(study: Study) -> Covariance:
    """The covariance of every pair and scheme, and its two correlations."""
    frames = [frame for pair in study.pairs if len(frame := _table(study, pair))]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    rows = [row for pair in study.pairs for row in _links(table, pair, study.seed)]
    correlations = pd.DataFrame(rows)
    findings = tuple(text for pair in study.pairs for text in _findings(pair, table, correlations))
    return Covariance(table, correlations, findings)


def _table(study: Study, pair: str) -> pd.DataFrame:
    rows = study.outcomes[study.outcomes["pair"] == pair].to_dict("records")
    trained = [r for r in rows if not math.isnan(r.get("mean_covariance", math.nan) or math.nan)]
    measured = study.measured(pair)
    out: list[dict[str, Any]] = []
    for row in trained or rows:
        base = {
            "pair": pair,
            "scheme": row["scheme"],
            "t_stddev": row["t_stddev"],
            "test_loss": row["test_loss"],
        }
        if trained:
            out.append(
                {**base, "source": TRAINING, "low": math.nan, "high": math.nan}
                | _of(row, "mean_covariance_se")
            )
        elif row["scheme"] in measured and "covariance" in measured[row["scheme"]].row:
            given = measured[row["scheme"]].row["covariance"]
            ends = {"low": given.get("mean_covariance_low"), "high": given.get("mean_covariance_high")}
            out.append({**base, "source": given.get("source", "teacher"), **ends} | _of(given, None))
    frame = pd.DataFrame(out)
    return frame.sort_values(["mean_covariance", "scheme"], ignore_index=True) if len(frame) else frame


def _of(row: Any, se: str | None) -> dict[str, Any]:
    wanted = ("mean_covariance", "risk_variance", "design_effect", "wang2022_v3")
    numbers = {name: math.nan if row.get(name) is None else float(row[name]) for name in wanted}
    given = row.get(se) if se else None
    return numbers | {"se": math.nan if given is None else float(given)}


def _links(table: pd.DataFrame, pair: str, seed: int) -> list[dict[str, Any]]:
    if table.empty:
        return []
    rows = _complete(table, pair)
    if len(rows) < SMALLEST_N or rows["source"].nunique() > 1:
        return []
    out = []
    for link, (x, y, _) in LINKS.items():
        if min(rows[x].nunique(), rows[y].nunique()) < 2:
            continue
        found = correlate(rows, x=x, y=y, label="scheme", seed=seed)
        out += [{"pair": pair, "link": link, "x": x, "y": y, **row} for row in records(found)]
    return out


def _findings(pair: str, table: pd.DataFrame, correlations: pd.DataFrame) -> list[str]:
    if table.empty or pair not in set(table["pair"]):
        return [f"{pair}: no covariance of the teacher–student cross-entropy was recorded."]
    rows = table[table["pair"] == pair]
    kinds = rows["source"].unique()
    source = " and ".join(SOURCES[kind] for kind in kinds)
    if correlations.empty or pair not in set(correlations["pair"]):
        why = (
            "two kinds of covariance, which are not compared"
            if len(kinds) > 1
            else f"{count(len(rows), 'scheme')}, too few for a correlation"
        )
        return [f"{pair}: {why} ({source})."]
    out = []
    here = correlations[(correlations["pair"] == pair) & (correlations["method"] == "pearson")]
    for row in records(here):
        claim = LINKS[row["link"]][2]
        found = read_association(_complete(table, pair), row["x"], row["y"], row)
        tail = (
            f"r {number(found.r, 2)} {interval(found.low, found.high, 2)}, permutation "
            f"{p_value(found.p_permutation)}, n = {count(found.n, 'scheme')}, {source}"
        )
        way = "rising" if found.r > 0 else "falling"
        if found.kind == UNCLEAR:
            out.append(f"{pair}: this study cannot tell whether {claim} ({tail}).")
        elif found.kind == ONE_SCHEME:
            out.append(f"{pair}: {claim}, {way} with it ({tail}), but {found.caveat()}.")
        else:
            out.append(f"{pair}: {claim}, {way} with it ({tail}); weakest {found.rest()}.")
    return out


def _complete(table: pd.DataFrame, pair: str) -> pd.DataFrame:
    return table[table["pair"] == pair].dropna(subset=["mean_covariance", "t_stddev", "test_loss"])


def _draw(pair: str, rows: pd.DataFrame, correlations: pd.DataFrame) -> tuple[Figure, CovarianceFacts]:
    looks = marks(rows["scheme"])
    coefficients = {}
    if len(correlations):
        here = correlations[(correlations["pair"] == pair) & (correlations["method"] == "pearson")]
        coefficients = {r["link"]: (r["estimate"], r["low"], r["high"]) for r in here.to_dict("records")}
    bars = int(rows["se"].notna().sum())
    with style():
        figure = Figure(figsize=(PAGE, 2.75), layout="constrained")
        left, right = figure.subplots(1, 2)
        for row in rows.to_dict("records"):
            look = looks[row["scheme"]]
            se = None if math.isnan(row["se"]) else row["se"]
            common = {"fmt": look.marker, "color": look.color, "elinewidth": 0.7}
            common |= {"markeredgecolor": "white", "markeredgewidth": 0.35}
            left.errorbar(row["t_stddev"], row["mean_covariance"], yerr=se, **common)
            right.errorbar(
                row["mean_covariance"], row["test_loss"], xerr=se, label=plain(look.text), **common
            )
        left.set(xlabel="T. stddev", ylabel="mean covariance (nats²)")
        right.set(xlabel="mean covariance (nats²)", ylabel="student test loss (nats)")
        for ax, link in ((left, "t_stddev"), (right, "test_loss")):
            ax.margins(0.08)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.ticklabel_format(axis="both", style="sci", scilimits=(-2, 4), useMathText=True)
            if link in coefficients:
                r, low, high = coefficients[link]
                ax.set_title(f"r {number(r, 2)} {interval(low, high, 2)}", loc="right")
        handles = [h[0] for h in right.get_legend_handles_labels()[0]]
        figure.legend(
            handles,
            right.get_legend_handles_labels()[1],
            loc="outside lower center",
            ncols=5,
            handletextpad=0.3,
        )
    source = SOURCES[str(rows["source"].iloc[0])] if rows["source"].nunique() == 1 else "two sources"
    return figure, CovarianceFacts(pair, len(rows), source, coefficients, bars)
