"""The picture of a choice: what each way of choosing gains over the default, and which scheme may be the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.words import LEVEL, count, records
from kdstats.figures.style import PAGE, marks, plain, style


@dataclass(frozen=True, slots=True)
class ChoiceFacts:
    """What the three panels show, for their caption."""

    pair: str
    default: str | None
    ways: int
    seeds: int
    schemes: int

    def caption(self) -> str:
        """The caption, from the fields."""
        left = (
            f"Gain over {self.default} of {count(self.ways, 'way')} of choosing, on seeds that had no part in the "
            f"choice, in test loss (lower is better) and accuracy; bars: {LEVEL} intervals, those of a panel hold "
            "together with the difference between the ways. "
            if self.default
            else "No default to gain over. "
        )
        return (
            f"{left}Right: probability that each of {count(self.schemes, 'scheme')} is truly the best ({self.pair}, n = "
            f"{count(self.seeds, 'seed')}, flat prior)."
        )


def draw_choices(pair: str, choices: pd.DataFrame, p_best: pd.DataFrame) -> tuple[Figure, ChoiceFacts]:
    """Loss and accuracy gained by each way, and P(best) of each scheme."""
    rows = records(choices[choices["pair"] == pair])
    compared = [row for row in rows if not math.isnan(row["gain"])]
    default = [row["chosen"] for row in rows if row["way"] == "default"]
    here = records(p_best[p_best["pair"] == pair])
    looks = marks([row["scheme"] for row in here])
    with style():
        figure = Figure(figsize=(PAGE, max(1.5, 0.6 + 0.19 * len(here))), layout="constrained")
        loss, accuracy, best = figure.subplots(1, 3)
        for ax, name, label in (
            (loss, "gain", "test loss against default (nats)"),
            (accuracy, "gain_acc", "accuracy against default (points)"),
        ):
            for y, row in enumerate(compared):
                color = looks[row["chosen"]].color
                ax.plot([row[f"{name}_low"], row[f"{name}_high"]], [y, y], color=color, linewidth=1.2)
                ax.plot(row[name], y, looks[row["chosen"]].marker, color=color, markersize=5)
            ax.axvline(0, color="#555555", linewidth=0.6)
            ax.set_yticks(
                range(len(compared)), [f"{row['way']}:\n{plain(row['chosen'])}" for row in compared]
            )
            ax.set_ylim(len(compared) - 0.4, -0.6)
            ax.set_xlabel(label)
            ax.locator_params(axis="x", nbins=4)
        accuracy.set_yticklabels([])
        for y, row in enumerate(here):
            best.barh(y, 0 if math.isnan(row["p_best"]) else row["p_best"], color=looks[row["scheme"]].color)
        best.set_yticks(range(len(here)), [plain(looks[row["scheme"]].text) for row in here])
        best.set_ylim(len(here) - 0.4, -0.6)
        best.set_xlim(0, 1)
        best.set_xlabel("P(best)")
        best.tick_params(axis="y", length=0)
    seeds = int(rows[0]["seeds"])
    return figure, ChoiceFacts(pair, default[0] if default else None, len(compared), seeds, len(here))
