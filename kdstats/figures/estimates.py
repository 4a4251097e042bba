"""Estimates from records: mean covariance and its components per scheme, or along the epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdstats.errors import UsageError
from kdstats.figures.style import COLUMN, PAGE, Mark, marks, plain, style

if TYPE_CHECKING:
    import pandas as pd

QUANTITY = "mean_covariance"
# From what stays with an image to what is fresh in every row; in grey they differ by lightness.
PARTS = {
    "image": "#0173b2",
    "view": "#56b4e9",
    "image_epoch": "#029e73",
    "batch": "#d55e00",
    "batch_view": "#de8f05",
    "residual": "#d9d9d9",
}


@dataclass(frozen=True, slots=True)
class EstimatesFacts:
    """What the figure shows, for its caption.

    Attributes:
        names: Schemes or runs, in the order drawn.
        runs: Fewest and most runs behind a point.
        epochs: First and last epoch drawn, None where epochs are together.
        components: Whether the components are drawn.
        confidence: Nominal coverage of the intervals.
    """

    names: tuple[str, ...]
    runs: tuple[int, int]
    epochs: tuple[int, int] | None
    components: bool
    confidence: float

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        low, high = self.runs
        count = f"{low} run{'s' if low > 1 else ''}" if low == high else f"{low} to {high} runs"
        what = "Mean covariance of the teacher–student cross-entropy of two inputs of a step"
        along = f" along epochs {self.epochs[0]} to {self.epochs[1]}" if self.epochs else ""
        right = " Right: components of the variance of one loss; negative estimates are drawn as nothing."
        return (
            f"{what}{along}, with {100 * self.confidence:g} % intervals, {len(self.names)} "
            f"scheme{'s' if len(self.names) > 1 else ''}, {count} each.{right if self.components else ''}"
        )


def schemes_figure(frame: pd.DataFrame, *, confidence: float) -> tuple[Figure, EstimatesFacts]:
    """Dots with intervals, lowest on top, and beside them stacked components.

    Args:
        frame: Tidy rows with ``name, scheme, quantity, value, low, high, runs``.
        confidence: Nominal coverage of the intervals.

    Raises:
        UsageError: No mean covariance among the rows.
    """
    rows = _rows(frame).sort_values("value", ignore_index=True)
    order, looks = list(rows["name"]), _looks(rows)
    parts = frame[frame["quantity"].isin([f"variance {part}" for part in PARTS])]
    with style():
        width = PAGE if len(parts) else COLUMN
        figure = Figure(figsize=(width, 0.235 * len(order) + 0.85), layout="constrained")
        axes = figure.subplots(1, 2 if len(parts) else 1, sharey=True, squeeze=False)[0]
        ax = axes[0]
        for at, row in rows.iterrows():
            look = looks[row["name"]]
            ax.plot(
                [row["low"], row["high"]], [at, at], color=look.color, linewidth=1.6, solid_capstyle="butt"
            )
            ax.plot([row["value"]], [at], look.marker, color=look.color, markersize=4.5)
        ax.set_yticks(range(len(order)), [plain(name) for name in order])
        ax.set_ylim(len(order) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("mean covariance (nats²)")
        if len(parts):
            table = parts.pivot_table(index="name", columns="quantity", values="value").reindex(order)
            left = np.zeros(len(order))
            for part, color in PARTS.items():
                column = f"variance {part}"
                if column in table:
                    width_of = np.maximum(table[column].fillna(0.0).to_numpy(), 0.0)
                    label = part.replace("_", " x ")
                    axes[1].barh(range(len(order)), width_of, left=left, color=color, height=0.6, label=label)
                    left += width_of
            axes[1].set_xlabel("variance of one loss (nats²)")
            figure.legend(loc="outside upper right", ncols=6, fontsize=5.6, handlelength=1.0)
    runs = (int(rows["runs"].min()), int(rows["runs"].max()))
    return figure, EstimatesFacts(tuple(order), runs, None, bool(len(parts)), confidence)


def epochs_figure(frame: pd.DataFrame, *, confidence: float) -> tuple[Figure, EstimatesFacts]:
    """Mean covariance along the epochs, a line and a band per scheme; arguments as :func:`schemes_figure`."""
    rows = _rows(frame)
    looks = _looks(rows)
    with style():
        figure = Figure(figsize=(COLUMN, 2.4), layout="constrained")
        ax = figure.add_subplot()
        for name, own in rows.groupby("name", sort=False):
            look = looks[str(name)]
            own = own.sort_values("epoch")
            low, high = own["low"].astype(float), own["high"].astype(float)
            ax.fill_between(own["epoch"], low, high, color=look.color, alpha=0.18, linewidth=0)
            ax.plot(
                own["epoch"],
                own["value"],
                color=look.color,
                marker=look.marker,
                markersize=3,
                label=plain(str(name)),
            )
        ax.set_xlabel("epoch")
        ax.set_ylabel("mean covariance (nats²)")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.legend(fontsize=5.6)
    runs = (int(rows["runs"].min()), int(rows["runs"].max()))
    span = (int(rows["epoch"].min()), int(rows["epoch"].max()))
    return figure, EstimatesFacts(tuple(looks), runs, span, False, confidence)


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["quantity"] == QUANTITY]
    if rows.empty:
        raise UsageError("nothing to draw: no run has enough full steps for a mean covariance")
    return rows


def _looks(rows: pd.DataFrame) -> dict[str, Mark]:
    """The scheme's own colour and marker where a name is a scheme; others follow from the name."""
    return marks(str(name) for name in dict.fromkeys(rows["name"]))
