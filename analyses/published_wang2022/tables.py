"""The tables of the published study, as cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.published_wang2022.accuracy import dataset_name
from analyses.published_wang2022.claims import claims
from analyses.words import interval, number, p_value, records
from kdstats.association.coefficients import SYMBOLS
from kdstats.tables import Table

if TYPE_CHECKING:
    from analyses.published_wang2022.reanalysis import Published


def claim_table(result: Published) -> Table:
    """What the paper says, and what the numbers say to that."""
    rows = [{"statement": c.statement, "verdict": c.verdict, "evidence": c.evidence} for c in claims(result)]
    return Table(rows, ["statement", "verdict", "evidence"], {"statement": "the paper"})


def panel_table(result: Published) -> Table:
    """Coefficients of every panel, and how far its r may be put into words."""
    names = result.study.names()
    rows: list[dict[str, str]] = []
    for row in records(result.every.correlations):
        if row["method"] == "pearson":
            reading = result.every.readings[row["panel"]]
            rows.append(
                {
                    "panel": names[row["panel"]],
                    "holm": p_value(row["p_holm"]).removeprefix("p ").removeprefix("= "),
                    "without": reading.rest().removeprefix("without "),
                    "reading": reading.kind,
                }
            )
        rows[-1][row["method"]] = _cell(row)
    heads = {"pearson": "r", "spearman": "ρ", "kendall": "τ", "holm": "p (Holm)", "without": "r without"}
    return Table(rows, ["panel", "pearson", "spearman", "kendall", "holm", "without", "reading"], heads)


def mean_table(result: Published) -> Table:
    """Random-effects means over panels, and what a further panel may have."""
    rows = [
        {
            "subset": row["subset"],
            "panels": str(row["k"]),
            "coefficient": SYMBOLS[row["coefficient"]],
            "mean": _cell(row),
            "further": interval(row["prediction_low"], row["prediction_high"], 3),
            "i2": f"{100 * row['i2']:.0f} %",
        }
        for row in records(result.means)
    ]
    heads = {"further": "a further panel", "i2": "I²"}
    return Table(rows, ["subset", "panels", "coefficient", "mean", "further", "i2"], heads)


def error_table(result: Published) -> Table:
    """Correlation and slope of every panel, corrected for errors of the test loss."""
    names = result.study.names()
    rows = [
        {
            "panel": names[row["panel"]],
            "observed": number(row["observed"], 3),
            "corrected": _cell(row),
            "reliability": number(row["reliability_y"], 3),
            "naive": f"{row['naive_slope']:.3g}",
            "deming": f"{row['slope']:.3g} [{row['slope_low']:.3g}, {row['slope_high']:.3g}]",
        }
        for row in records(result.corrected)
    ]
    heads = {
        "observed": "r",
        "corrected": "r corrected",
        "reliability": "reliability of the loss",
        "naive": "slope",
        "deming": "slope (Deming)",
    }
    return Table(rows, ["panel", "observed", "corrected", "reliability", "naive", "deming"], heads)


def accuracy_table(result: Published, dataset: str) -> Table:
    """Top-1 in percent of every method and pair of a data set."""
    table = result.accuracy.table[result.accuracy.table["dataset"] == dataset]
    cells: dict[str, dict[str, str]] = {}
    for row in records(table):
        spread = "" if row["std"] != row["std"] else f" ± {row['std']:.2f}"
        pair = f"{row['teacher']}/{row['student']}"
        cells.setdefault(row["method"], {"method": row["method"]})[pair] = f"{row['top1']:.2f}{spread}"
    rows = list(cells.values())
    return Table(rows, list(rows[0]))


def contrast_table(result: Published) -> Table:
    """Differences between methods, in points of accuracy."""
    rows = [
        {
            "contrast": row["contrast"],
            "dataset": dataset_name(row["dataset"]),
            "difference": f"{number(row['difference'], 2)} {interval(row['low'], row['high'], 2)}",
            "p_holm": p_value(row["p_holm"]).removeprefix("p ").removeprefix("= "),
            "positive": f"{row['positive']} of {row['pairs']}",
            "alone": "" if row["alone"] != row["alone"] or row["alone"] is None else f"{row['alone']:.0f}",
            "teachers": interval(row["teacher_low"], row["teacher_high"], 2),
        }
        for row in records(result.accuracy.contrasts)
    ]
    heads = {
        "dataset": "data",
        "p_holm": "p (Holm)",
        "positive": "pairs above 0",
        "teachers": "by teachers",
    }
    return Table(rows, list(rows[0]), heads)


def _cell(row: dict[str, Any], places: int = 3) -> str:
    return f"{number(row['estimate'], places)} {interval(row['low'], row['high'], places)}"
