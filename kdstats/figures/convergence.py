"""How the estimate of T. stddev settles as batches are spent, one line a scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from kdstats.errors import UsageError
from kdstats.figures.style import COLUMN, Mark, marks, plain, style

# Batches, values, lower ends, upper ends.
Path = tuple[Sequence[int], Sequence[float], Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class ConvergenceFacts:
    """What the figure shows, for its caption.

    Attributes:
        schemes: Scheme → (value, low, high) at the end.
        batches: Batches at the end.
        confidence: Nominal coverage of the intervals.
    """

    schemes: dict[str, tuple[float, float, float]]
    batches: int
    confidence: float

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        return (
            f"T. stddev as estimated from the first batches of the probe, up to {self.batches:,} (log "
            "scale). Bands: "
            f"{100 * self.confidence:g} % intervals. Points along a line share batches and are not "
            "independent."
        )


def convergence_figure(paths: Mapping[str, Path], *, confidence: float) -> tuple[Figure, ConvergenceFacts]:
    """A figure one column (3.25 in) wide, labels at the line ends, and the facts for its caption.

    Args:
        paths: Scheme → (batches, values, lows, highs) along the probe.
        confidence: Nominal coverage of ``lows … highs``.

    Raises:
        UsageError: No paths, or one without points.
    """
    if not paths or any(len(path[0]) == 0 for path in paths.values()):
        raise UsageError("a convergence figure needs at least one scheme with at least one look")
    looks = marks(paths)
    end = max(path[0][-1] for path in paths.values())
    with style():
        figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
        ax = figure.add_subplot()
        # Many bands lie over each other: fainter, they still show where a line could be.
        strength = 0.2 if len(paths) <= 3 else 0.12
        for name, path in paths.items():
            at, value, low, high = (np.asarray(column, dtype=float) for column in path)
            ax.fill_between(at, low, high, color=looks[name].color, alpha=strength, linewidth=0, zorder=2)
            ax.plot(at, value, color=looks[name].color, linewidth=1.1, zorder=3, solid_capstyle="round")
        ax.set_xscale("log")
        _limits(ax, paths)
        _batch_ticks(ax, min(path[0][0] for path in paths.values()), end)
        ax.set_xlabel("batches")
        ax.set_ylabel("T. stddev")
        _end_labels(ax, paths, looks, end, figure)
    ends = {name: (path[1][-1], path[2][-1], path[3][-1]) for name, path in paths.items()}
    return figure, ConvergenceFacts(ends, int(end), confidence)


def _limits(ax: Axes, paths: Mapping[str, Path]) -> None:
    # The first looks, at few batches, are wild: the scale is set by values after a third of the path (in log
    # steps) and by intervals after two thirds.
    late = [value for path in paths.values() for value in path[1][len(path[0]) // 3 :]]
    ends = [end for path in paths.values() for column in path[2:] for end in column[2 * len(path[0]) // 3 :]]
    low, high = min(late + ends), max(late + ends)
    pad = 0.06 * (high - low) or 0.1 * high
    ax.set_ylim(max(0.0, low - pad), high + pad)


def _batch_ticks(ax: Axes, start: float, end: float) -> None:
    for multiples in (
        (1, 2, 5),
        (1, 3),
        (1,),
    ):  # evenly spaced to the eye on a log scale, the finest that fits
        steps = [m * 10**e for e in range(8) for m in multiples]
        inside = [step for step in steps if 0.95 * start <= step <= 1.02 * end]
        if len(inside) <= 6:
            break
    ax.set_xticks(inside)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(0.95 * start, 1.05 * end)


def _end_labels(
    ax: Axes, paths: Mapping[str, Path], looks: Mapping[str, Mark], end: float, figure: Figure
) -> None:
    """Names at the right, moved apart where lines end close together, each with a thin line to its end."""
    low, high = ax.get_ylim()
    gap = (high - low) * 7.5 / (72 * 2.5 * 0.8)
    names = sorted(paths, key=lambda name: paths[name][1][-1])
    wanted = np.array([paths[name][1][-1] for name in names])
    placed = spread_out(wanted, gap, low + gap / 2, high - gap / 2)
    for name, value, y in zip(names, wanted, placed, strict=True):
        # Hung on the axes' right edge, at the height of the data, so nothing moves with the scale of x.
        ax.annotate(
            plain(looks[name].text),
            xy=(1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(1.07, y),
            textcoords=("axes fraction", "data"),
            color=looks[name].color,
            fontsize=6.5,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": looks[name].color,
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    ax.spines["right"].set_visible(False)


def spread_out(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions at least ``gap`` apart, in the order of ``wanted`` (ascending) and near to it.

    Args:
        wanted: Ascending positions.
        gap: Least distance; made smaller where ``low … high`` cannot hold all.
        low: Lower end.
        high: Upper end.
    """
    n = len(wanted)
    gap = min(gap, (high - low) / max(n - 1, 1))
    # With the k-th position lowered by k gaps, "gap apart" becomes "not descending": least squares under that
    # order is isotonic regression, by pooling neighbours that are out of order.
    groups: list[tuple[float, int]] = []
    for k, value in enumerate(wanted):
        groups.append((float(value) - k * gap, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, m), (b, k2) = groups[-2], groups[-1]
            groups[-2:] = [((a * m + b * k2) / (m + k2), m + k2)]
    flat = np.concatenate([np.full(count, value) for value, count in groups])
    return np.asarray(np.clip(flat, low, high - (n - 1) * gap) + gap * np.arange(n))
