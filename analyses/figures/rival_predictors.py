"""The picture of rival predictors: correlations with the outcome, and what is left of them given each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.study.teacher_numbers import T_STDDEV, WORDS
from analyses.words import LEVEL, count, records
from kdstats.figures.style import PAGE, plain, style

_OWN, _OTHER = "#0173b2", "#d55e00"


@dataclass(frozen=True, slots=True)
class RivalFacts:
    """What the two panels show, for their caption."""

    pair: str
    n: int
    predictors: int
    partials: int

    def caption(self) -> str:
        """The caption, from the fields."""
        text = (
            f"Left: Pearson's r of {count(self.predictors, 'number')} of the teacher alone with the students' mean test "
            f"loss ({self.pair}, n = {count(self.n, 'scheme')}), {LEVEL} BCa intervals over schemes."
        )
        if self.partials:
            text += (
                " Right: partial correlation with the test loss, filled: T. stddev given the rival, open: the rival "
                f"given T. stddev; {LEVEL} intervals, each by itself."
            )
        return text


def draw_rivals(pair: str, correlations: pd.DataFrame, partials: pd.DataFrame) -> tuple[Figure, RivalFacts]:
    """Two panels of intervals, a row for each number of the teacher."""
    here = records(correlations[correlations["pair"] == pair])
    also = records(partials[partials["pair"] == pair]) if len(partials) else []
    names = [row["predictor"] for row in here]
    with style():
        figure = Figure(figsize=(PAGE, 0.75 + 0.27 * len(names)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for row in here:
            own = row["predictor"] == T_STDDEV
            _bar(left, row, names.index(row["predictor"]), _OWN if own else _OTHER, "o" if own else "s", True)
        for row in also:
            own = row["predictor"] == T_STDDEV
            y = names.index(row["given"] if own else row["predictor"]) + (-0.14 if own else 0.14)
            _bar(right, row, y, _OWN if own else _OTHER, "o" if own else "s", own)
        for ax, label in ((left, "r with the test loss"), (right, "partial r with the test loss")):
            ax.axvline(0, color="#555555", linewidth=0.6)
            ax.set_xlim(-1.05, 1.05)
            ax.set_xlabel(label)
            ax.tick_params(axis="y", length=0)
        left.set_yticks(range(len(names)), [plain(WORDS[name]) for name in names])
        left.set_ylim(len(names) - 0.5, -0.5)
        if not also:
            right.text(0, (len(names) - 1) / 2, "none", ha="center", va="center")
    return figure, RivalFacts(pair, int(here[0]["n"]), len(here), len(also))


def _bar(ax: Axes, row: dict[str, Any], y: float, color: str, marker: str, filled: bool) -> None:
    ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.1)
    ax.plot(row["r"], y, marker, color=color, markerfacecolor=color if filled else "white", markersize=4.5)
