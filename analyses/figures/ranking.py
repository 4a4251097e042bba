"""The picture of a ranking: every seed, every mean, every interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.words import CONFIDENCE, count, sizes
from kdstats.figures.style import PAGE, marks, plain, style


@dataclass(frozen=True, slots=True)
class RankingFacts:
    """What the ranking figure shows, for its caption."""

    pairs: tuple[str, ...]
    schemes: int
    seeds: tuple[int, int]
    intervals: bool

    def caption(self) -> str:
        """The caption, from the fields."""
        where = f" of {self.pairs[0]}" if len(self.pairs) == 1 else f" of {len(self.pairs)} pairs"
        bars = (
            f" Bars: {100 * CONFIDENCE:g} % intervals of the means; they hold the common effect of shared seeds."
            if self.intervals
            else " No intervals: one seed a scheme gives no spread."
        )
        return (
            f"Student test loss after the last epoch{where}, {count(self.schemes, 'scheme')}, lowest first. "
            f"Small dots: seeds (n = {sizes(self.seeds)} a scheme); large marks: means.{bars}"
        )


def draw_ranking(table: pd.DataFrame, used: pd.DataFrame) -> tuple[Figure, RankingFacts]:
    """Seeds, means and intervals, one row a scheme, one panel a pair.

    Args:
        table: Of the ranking, in its order.
        used: Table ``runs`` without excluded rows.
    """
    looks = marks(table["scheme"])
    names = [str(pair) for pair in dict.fromkeys(table["pair"])]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    most = int(table.groupby("pair").size().max())
    with style():
        figure = Figure(
            figsize=(PAGE * (0.62 if columns == 1 else 1), rows * (0.75 + 0.19 * most)), layout="constrained"
        )
        for at, pair in enumerate(names):
            ax = figure.add_subplot(rows, columns, at + 1)
            here = table[table["pair"] == pair].to_dict("records")
            for y, row in enumerate(here):
                look = looks[row["scheme"]]
                runs = used[(used["pair"] == pair) & (used["scheme"] == row["scheme"])]
                ax.plot(
                    runs["test_loss_last"],
                    [y + 0.22] * len(runs),
                    ".",
                    color=look.color,
                    markersize=2.5,
                    alpha=0.7,
                )
                if not math.isnan(row["test_loss_low"]):
                    ax.plot(
                        [row["test_loss_low"], row["test_loss_high"]], [y, y], color=look.color, linewidth=1.1
                    )
                ax.plot(
                    row["test_loss"], y, look.marker, color=look.color, markersize=5, markeredgecolor="white"
                )
            ax.set_yticks(range(len(here)), [plain(looks[row["scheme"]].text) for row in here])
            ax.set_ylim(len(here) - 0.5, -0.6)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color="#e6e6e6", linewidth=0.5)
            ax.set_axisbelow(True)
            ax.set_xlabel("student test loss, last epoch (nats)")
            if len(names) > 1:
                ax.set_title(plain(pair))
    return figure, RankingFacts(
        pairs=tuple(names),
        schemes=int(table["scheme"].nunique()),
        seeds=(int(table["seeds"].min()), int(table["seeds"].max())),
        intervals=bool(table["test_loss_low"].notna().any()),
    )
