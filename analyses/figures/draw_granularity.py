"""The picture of batch draws against sample draws: T. stddev, effective inputs, outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.words import LEVEL, count, records
from kdstats.figures.style import PAGE, marks, plain, style


@dataclass(frozen=True, slots=True)
class GranularityFacts:
    """What the panels show, for their caption."""

    measured: int
    compared: int
    groups: tuple[str, ...]
    seeds: int
    spread: bool

    def caption(self) -> str:
        """The caption, from the fields."""
        parts = [
            f"Sample draws against batch draws, {LEVEL} intervals that hold together within a teacher or group"
        ]
        if self.measured:
            parts.append(
                f"ratios of T. stddev and of effective inputs ({count(self.measured, 'measurement')}, taken as "
                "independent)"
            )
        if self.compared:
            where = self.groups[0] if len(self.groups) == 1 else f"{len(self.groups)} groups of like runs"
            parts.append(
                f"differences of the students' test loss within seeds ({where}, {count(self.compared, 'scheme')}, n = "
                f"{count(self.seeds, 'seed')} or fewer)"
            )
        bare = (
            " No intervals of the test loss: one seed gives no spread."
            if self.compared and not self.spread
            else ""
        )
        return "; ".join(parts) + "." + bare


def draw_granularities(measured: pd.DataFrame, outcome: pd.DataFrame) -> tuple[Figure, GranularityFacts]:
    """A row per scheme; the panels that have numbers."""
    panels = []
    if len(measured):
        rows = [row | {"name": _name(row, "teacher", measured)} for row in records(measured)]
        panels += [(rows, "ratio", 1.0, "T. stddev, sample / batch")]
        panels += [(rows, "inputs_ratio", 1.0, "effective inputs, sample / batch")]
    if len(outcome):
        rows = [row | {"name": _name(row, "group", outcome)} for row in records(outcome)]
        panels += [(rows, "difference", 0.0, "test loss, sample − batch (nats)")]
    most = max(len(rows) for rows, *_ in panels)
    with style():
        figure = Figure(figsize=(PAGE, 0.75 + 0.19 * most), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (rows, column, neutral, label) in zip(axes, panels, strict=True):
            _panel(ax, rows, column, neutral, label)
    groups = tuple(str(g) for g in dict.fromkeys(outcome["group"])) if len(outcome) else ()
    seeds = int(outcome["seeds"].max()) if len(outcome) else 0
    spread = bool(len(outcome)) and bool(outcome["low"].notna().any())
    return figure, GranularityFacts(len(measured), len(outcome), groups, seeds, spread)


def _panel(ax: Axes, rows: list[dict[str, Any]], column: str, neutral: float, label: str) -> None:
    looks = marks([str(row["scheme"]) for row in rows])
    ends = ("low", "high") if column == "difference" else (f"{column}_low", f"{column}_high")
    for y, row in enumerate(rows):
        look = looks[str(row["scheme"])]
        ax.plot([row[end] for end in ends], [y, y], color=look.color, linewidth=1.1)
        ax.plot([row[column]], [y], look.marker, color=look.color, markersize=4.5)
    ax.axvline(neutral, color="#555555", linewidth=0.6)
    ax.set_yticks(range(len(rows)), [plain(str(row["name"])) for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)


def _name(row: dict[str, Any], column: str, table: pd.DataFrame) -> str:
    text = marks([str(row["scheme"])])[str(row["scheme"])].text
    return f"{row[column]}: {text}" if table[column].nunique() > 1 else text
