"""Where text may stand on a scatter without covering it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kdstats.association.coefficients import Floats
from kdstats.association.panels import Panel


def print_statistics(
    ax: Axes, panel: Panel, content: str, errors: dict[str, Floats | None], small: bool
) -> None:
    """Writes ``content`` into a corner free of points, bars and line, and of the band if that costs little.

    Where no corner is free the y axis is extended upwards, in steps, until one is.

    Args:
        ax: Axes on which the least-squares line is the first line and its band the first collection.
        panel: The points drawn.
        content: The text.
        errors: Half-lengths of error bars for ``"x"`` and ``"y"``, (n,) with NaN for none, or None.
        small: Whether the axes are one of many.
    """
    corners = [(0.03, 0.97, "left", "top"), (0.97, 0.03, "right", "bottom")]
    corners += [(0.97, 0.97, "right", "top"), (0.03, 0.03, "left", "bottom")]
    text = ax.text(0, 0, content, transform=ax.transAxes, fontsize=5.4 if small else 6.5, linespacing=1.25)
    text.set_zorder(4)
    for step in range(20):
        drawn = _pixels(ax, panel, errors)
        band = np.vstack([ax.transData.transform(v) for v in ax.collections[0].get_paths()[0].to_polygons()])
        for avoided in [[*drawn, (band, band)]] + [drawn] * (step >= 4):
            for across, up, ha, va in corners:
                text.set(position=(across, up), ha=ha, va=va)
                if not _covered(text.get_window_extent(), avoided):
                    return
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.08 * (high - low))


def _pixels(ax: Axes, panel: Panel, errors: dict[str, Floats | None]) -> list[tuple[Floats, Floats]]:
    """Lower left and upper right pixel corners of what text must not cover: markers with bars, line."""
    reach = 2.8 * float(ax.figure.dpi) / 72
    half = {axis: np.zeros(panel.n) if e is None else np.nan_to_num(e) for axis, e in errors.items()}
    low = ax.transData.transform(np.column_stack([panel.x - half["x"], panel.y - half["y"]])) - reach
    high = ax.transData.transform(np.column_stack([panel.x + half["x"], panel.y + half["y"]])) + reach
    line = ax.transData.transform(ax.lines[0].get_xydata())
    return [(low, high), (line, line)]


def _covered(box: Any, drawn: list[tuple[Floats, Floats]]) -> bool:
    return any(
        bool(((lo[:, 0] < box.x1) & (hi[:, 0] > box.x0) & (lo[:, 1] < box.y1) & (hi[:, 1] > box.y0)).any())
        for lo, hi in drawn
    )
