"""The picture of two studies: the difference under every scheme, and one study's losses against the other's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.figure import Figure

from analyses.inference.two_studies import PairComparison
from analyses.words import CONFIDENCE, count, estimate, records, sizes
from kdstats.figures.style import PAGE, marks, plain, style
from kdstats.pages.hover import Point
from reports.drawing import Drawing, draw
from reports.table_view import significant


@dataclass(frozen=True, slots=True)
class ComparisonFacts:
    """What the figure shows, for its caption.

    Attributes:
        names: Of the studies.
        schemes: Drawn.
        seeds: Smallest and largest number a scheme and study.
        differences: Whether the left panel is there: it is not where test losses must not be subtracted.
        intervals: Whether differences have intervals.
    """

    names: tuple[str, str]
    schemes: int
    seeds: tuple[int, int]
    differences: bool
    intervals: bool

    def caption(self) -> str:
        """The caption, from the fields."""
        level = f"{100 * CONFIDENCE:g} %"
        left = (
            f"Left: test loss in {self.names[1]} minus that in {self.names[0]}, nats"
            + (
                f", {level} intervals that hold together. "
                if self.intervals
                else "; one seed gives no interval. "
            )
            if self.differences
            else ""
        )
        right = "Right: m" if self.differences else "M"
        line = " The line is equality." if self.differences else ""
        return (
            f"{left}{right}ean test loss of each study ({count(self.schemes, 'scheme')}, "
            f"n = {sizes(self.seeds)} a scheme and study).{line}"
        )


def comparison_drawing(name: str, found: PairComparison, names: tuple[str, str]) -> Drawing:
    """The figure of one pair.

    Args:
        name: Its id.
        found: The comparison.
        names: Of the studies.
    """
    rows = records(found.table)
    looks = marks([row["scheme"] for row in rows])
    shown = not found.terms.outcome
    points = []
    with style():
        height = 0.9 + 0.2 * max(len(rows), 6)
        figure = Figure(figsize=(PAGE if shown else PAGE * 0.55, height), layout="constrained")
        axes = list(figure.subplots(1, 2)) if shown else [figure.add_subplot()]
        if shown:
            left = axes[0]
            left.axvline(0, color="#555555", linewidth=0.6)
            for y, row in enumerate(rows):
                look = looks[row["scheme"]]
                if not math.isnan(row["test_loss_low"]):
                    left.plot(
                        [row["test_loss_low"], row["test_loss_high"]], [y, y], color=look.color, linewidth=1.1
                    )
                left.plot(
                    row["test_loss_difference"],
                    y,
                    look.marker,
                    color=look.color,
                    markersize=5,
                    markeredgecolor="white",
                )
                said = estimate(row["test_loss_difference"], row["test_loss_low"], row["test_loss_high"])
                points.append(
                    Point(0, row["test_loss_difference"], y, f"{row['scheme']}\nsecond − first {said} nats")
                )
            left.set_yticks(range(len(rows)), [plain(looks[row["scheme"]].text) for row in rows])
            left.set_ylim(len(rows) - 0.5, -0.6)
            left.tick_params(axis="y", length=0)
            left.set_xlabel("difference of test loss, second − first (nats)")
        right = axes[-1]
        if shown:
            ends = [row[key] for row in rows for key in ("test_loss_first", "test_loss_second")]
            right.plot([min(ends), max(ends)], [min(ends), max(ends)], color="#555555", linewidth=0.6)
        for row in rows:
            look = looks[row["scheme"]]
            x, y_ = row["test_loss_first"], row["test_loss_second"]
            right.plot(
                x,
                y_,
                look.marker,
                color=look.color,
                markersize=5,
                markeredgecolor="white",
                label=plain(look.text),
            )
            text = f"{row['scheme']}\nfirst {significant(x)}, second {significant(y_)} nats"
            points.append(Point(len(axes) - 1, x, y_, text))
        right.margins(0.08)
        right.set(xlabel="first study: test loss (nats)", ylabel="second study: test loss (nats)")
        if not shown:
            figure.legend(loc="outside lower center", ncols=3)
    seeds = [int(row[key]) for row in rows for key in ("seeds_first", "seeds_second")]
    facts = ComparisonFacts(
        names,
        len(rows),
        (min(seeds), max(seeds)),
        shown,
        any(not math.isnan(row["test_loss_low"]) for row in rows),
    )
    values = "; ".join(
        f"{r['scheme']} {significant(r['test_loss_first'])} and {significant(r['test_loss_second'])}"
        for r in rows
    )
    return draw(
        name,
        figure,
        facts.caption(),
        f"Mean test losses of the first and second study: {values}.",
        found.table,
        points,
    )
