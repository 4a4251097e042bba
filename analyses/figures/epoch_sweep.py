"""Test error over the number of epochs, with the optimum of every curve marked."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.words import LEVEL, count, records, sizes
from kdstats.figures.style import PAGE, marks, plain, style


@dataclass(frozen=True, slots=True)
class EpochFacts:
    """What the curves show, for their caption."""

    pairs: tuple[str, ...]
    curves: int
    epochs: tuple[int, ...]
    seeds: tuple[int, int]

    def caption(self) -> str:
        """The caption, from the fields."""
        where = self.pairs[0] if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        return (
            f"Student test error after the last epoch of runs of {self.epochs[0]} to {self.epochs[-1]} epochs ({where}, "
            f"{count(self.curves, 'curve')}, {sizes(self.seeds)} each). Bars: {LEVEL} intervals of the mean. Ring: the "
            "lowest mean, its bar the interval of it; line at the bottom: the interval of its place. Every number of "
            "epochs is a run of its own."
        )


def draw_epochs(table: pd.DataFrame, optima: pd.DataFrame) -> tuple[Figure, EpochFacts]:
    """One panel a pair; epochs on a logarithmic scale."""
    table = table[table["outcome"] == "error"]
    optima = optima[optima["outcome"] == "error"]
    pairs = tuple(dict.fromkeys(table["pair"]))
    looks = marks(table["curve"])
    with style():
        figure = Figure(figsize=(PAGE * (0.62 if len(pairs) == 1 else 1), 2.9), layout="constrained")
        axes = figure.subplots(1, len(pairs), squeeze=False)[0]
        for ax, pair in zip(axes, pairs, strict=True):
            here = table[table["pair"] == pair]
            for at, (name, part) in enumerate(here.groupby("curve", sort=False)):
                look = looks[str(name)]
                label = plain(str(name).removeprefix(f"{pair}, "))
                ax.errorbar(
                    part["epochs"],
                    part["mean"],
                    (part["mean"] - part["low"], part["high"] - part["mean"]),
                    color=look.color,
                    marker=look.marker,
                    linestyle="--" if (part["loss"] == "CE").all() else "-",
                    elinewidth=0.7,
                    capsize=1.5,
                    label=label,
                )
                best = records(optima[optima["curve"] == name])[0]
                ax.plot(best["best"], best["lowest"], "o", markersize=9, fillstyle="none", color=look.color)
                ax.plot(
                    [best["best_low"], best["best_high"]],
                    [0.02 + 0.025 * at] * 2,
                    color=look.color,
                    linewidth=2,
                    transform=ax.get_xaxis_transform(),
                    solid_capstyle="butt",
                )
            ax.set_xscale("log", base=2)
            tried = sorted(set(here["epochs"]))
            ax.set_xticks(tried, [str(n) for n in tried])
            ax.minorticks_off()
            ax.set(xlabel="epochs of the run", ylabel="student test error")
            ax.margins(y=0.15)
            ax.set_title(plain(str(pair)) if len(pairs) > 1 else "")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    counts = [int(n) for n in table["seeds"]]
    facts = EpochFacts(
        tuple(map(str, pairs)),
        int(table["curve"].nunique()),
        tuple(sorted({int(e) for e in table["epochs"]})),
        (min(counts), max(counts)),
    )
    return figure, facts
