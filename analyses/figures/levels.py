"""Means and intervals over the values of one setting."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.words import LEVEL, count, sizes
from kdstats.figures.style import PAGE, plain, style

_COLOR = "#0173b2"


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """What the panels show, for their caption."""

    noun: str
    strata: tuple[str, ...]
    levels: int
    seeds: tuple[int, int]
    spread: bool

    def caption(self) -> str:
        """The caption, from the fields."""
        where = self.strata[0] if len(self.strata) == 1 else f"{len(self.strata)} groups of like runs"
        bars = f"Bars: {LEVEL} intervals of the mean" if self.spread else "No intervals: one seed each"
        return (
            f"Student test loss after the last epoch over the {self.noun} ({where}, {count(self.levels, 'value')}, "
            f"{sizes(self.seeds)} each). {bars}. Runs of a panel are alike in everything else."
        )


def draw_levels(table: pd.DataFrame, noun: str) -> tuple[Figure, LevelFacts]:
    """One panel a stratum; numeric levels on a scale (logarithmic over a factor of 4), names at equal steps."""
    names = tuple(dict.fromkeys(table["stratum"]))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    with style():
        figure = Figure(
            figsize=(PAGE * (0.62 if columns == 1 else 1), 2.1 * rows + 0.3), layout="constrained"
        )
        for at, name in enumerate(names):
            ax = figure.add_subplot(rows, columns, at + 1)
            part = table[table["stratum"] == name]
            levels = list(part["level"])
            numeric = not any(isinstance(level, str) for level in levels)
            x = levels if numeric else list(range(len(levels)))
            mean = part["test_loss"].to_numpy(dtype=float)
            half = part["test_loss_high"].to_numpy(dtype=float) - mean
            ax.errorbar(x, mean, half, fmt="o-" if numeric else "o", color=_COLOR, elinewidth=0.8, capsize=2)
            if numeric and min(levels) > 0 and max(levels) / min(levels) >= 4:
                ax.set_xscale("log")
            ax.set_xticks(x, [f"{v:g}" if numeric else plain(str(v)) for v in levels])
            ax.minorticks_off()
            ax.margins(x=0.1)
            ax.set(xlabel=noun, ylabel="student test loss (nats)")
            if len(names) > 1:
                ax.set_title(plain(name))
    counts = [int(n) for n in table["seeds"]]
    return figure, LevelFacts(
        noun,
        names,
        int(table["level"].nunique()),
        (min(counts), max(counts)),
        bool(table["test_loss_low"].notna().any()),
    )
