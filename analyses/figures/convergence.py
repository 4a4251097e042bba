"""How wide the interval of T. stddev is after so many batches, and how much of the schemes' order stands by then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analyses.words import LEVEL, count
from kdstats.figures.style import PAGE, style

_LOOKS = {"wang2022": ("#0173b2", "o"), "efficient": ("#de8f05", "s")}
_LINES = {"train": "-", "test": "--"}


@dataclass(frozen=True, slots=True)
class ConvergenceFacts:
    """What the curves show, for their caption."""

    teacher: str
    schemes: int
    repeats: int
    batches: int
    pairs: bool

    def caption(self) -> str:
        """The caption, from the fields."""
        right = (
            " Right: least share over repeats of the pairs of schemes told apart at the end that stand in that order "
            "already."
            if self.pairs
            else " No two schemes are told apart at the end."
        )
        return (
            f"Half-width of the {LEVEL} interval of T. stddev, relative to it, after so many batches ({self.teacher}; "
            f"geometric mean over {count(self.schemes, 'scheme')} and {count(self.repeats, 'repeat')} of up to "
            f"{self.batches:,} batches; solid: training images, dashed: test images).{right} Points of a line share "
            "batches."
        )


def draw_convergence(curves: pd.DataFrame, order: pd.DataFrame) -> tuple[Figure, ConvergenceFacts]:
    """Two panels of the first teacher; ``curves`` and ``order`` as in :mod:`analyses.convergence`."""
    teacher = str(curves["teacher"].iloc[0])
    here = curves[curves["teacher"] == teacher]
    stood = order[(order["teacher"] == teacher) & order["in_order"].notna()] if len(order) else order
    with style():
        figure = Figure(figsize=(PAGE * 0.8, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (split, protocol), own in here.groupby(["split", "protocol"], sort=False):
            color, marker = _LOOKS[str(protocol)]
            look = {"color": color, "linestyle": _LINES[str(split)], "marker": marker, "markersize": 2.5}
            # A scheme with a history has its looks elsewhere: only where all schemes have one is a mean a mean.
            wide = own.pivot_table(
                index="batches", columns=["scheme", "repeat"], values="half_width"
            ).dropna()
            means = np.exp(np.log(wide).mean(axis=1))
            left.plot(wide.index, 100 * means, label=f"{protocol}, {split}", **look)
            if len(stood):
                part = stood[(stood["split"] == split) & (stood["protocol"] == protocol)].sort_values(
                    "batches"
                )
                right.plot(part["batches"], part["in_order"], **look)
        left.set(xscale="log", yscale="log", xlabel="batches", ylabel="half-width of the interval (%)")
        right.set(xscale="log", xlabel="batches", ylabel="share of pairs in final order", ylim=(-0.02, 1.04))
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_locator(NullLocator())
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    facts = ConvergenceFacts(
        teacher,
        int(here["scheme"].nunique()),
        int(here["repeat"].nunique()),
        int(here["batches"].max()),
        bool(len(stood)),
    )
    return figure, facts
