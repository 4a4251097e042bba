"""T. stddev of every scheme with its interval: a dot and a line each, with identity and the null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdstats.errors import UsageError
from kdstats.figures.style import COLUMN, marks, plain, style


@dataclass(frozen=True, slots=True)
class RankingFacts:
    """What the figure shows, for its caption.

    Attributes:
        schemes: Scheme → (value, low, high), lowest first.
        null: T. stddev of a fully confident, class-balanced teacher.
        null_inputs: Independent images behind the null.
        confidence: Nominal coverage of the intervals.
    """

    schemes: dict[str, tuple[float, float, float]]
    null: float
    null_inputs: int
    confidence: float

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        reference = " Dashed: identity." if "identity" in self.schemes else ""
        return (
            f"T. stddev with {100 * self.confidence:g} % intervals, the lowest on top.{reference} Dotted: "
            f"{self.null:.3g}, a fully confident, class-balanced teacher on {self.null_inputs} independent "
            "images."
        )


def ranking_figure(
    results: Sequence[Mapping[str, Any]], *, null: float, null_inputs: int, confidence: float
) -> tuple[Figure, RankingFacts]:
    """Horizontal dots and intervals, 3.25 in wide, and the facts for the caption.

    Args:
        results: One a scheme: ``scheme``, ``t_stddev``, ``low``, ``high``; sorted here.
        null: Drawn as a dotted line.
        null_inputs: Independent images behind ``null``.
        confidence: Nominal coverage of the intervals.

    Raises:
        UsageError: No results.
    """
    if not results:
        raise UsageError("a ranking needs at least one scheme")
    rows = sorted(results, key=lambda r: float(r["t_stddev"]))
    values = {r["scheme"]: (float(r["t_stddev"]), float(r["low"]), float(r["high"])) for r in rows}
    looks = marks(values)
    with style():
        figure = Figure(figsize=(COLUMN, 0.235 * len(values) + 0.72), layout="constrained")
        ax = figure.add_subplot()
        for row, (name, (value, low, high)) in enumerate(values.items()):
            look = looks[name]
            ax.plot([low, high], [row, row], color=look.color, linewidth=1.6, solid_capstyle="butt", zorder=2)
            ax.plot([value], [row], look.marker, color=look.color, markersize=4.5, zorder=3)
        if "identity" in values:
            ax.axvline(values["identity"][0], color="#4d4d4d", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
        ax.axvline(null, color="#4d4d4d", linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
        ax.annotate(
            "null",
            xy=(null, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.0,
            color="#4d4d4d",
        )
        ax.set_yticks(range(len(values)), [plain(looks[name].text) for name in values])
        ax.set_ylim(len(values) - 0.5, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.margins(x=0.04)
        ax.set_xlabel("T. stddev")
    return figure, RankingFacts(values, null, null_inputs, confidence)
