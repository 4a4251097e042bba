"""Scatter of a predictor against an outcome with its correlations, one panel per group."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import special

from kdstats.association.coefficients import METHODS, SYMBOLS, Floats
from kdstats.association.correlate import correlate
from kdstats.association.panels import Columns, Panel, group_columns, numbers, split
from kdstats.errors import UsageError
from kdstats.figures.placement import print_statistics
from kdstats.figures.style import COLUMN, PAGE, Mark, marks, plain, style
from kdstats.tables import inside_one

MOST_PANELS = 40
MOST_MARKS = 24  # labels beyond this are drawn alike: a longer legend cannot be read


@dataclass(frozen=True, slots=True)
class PanelFacts:
    """What one panel shows.

    Attributes:
        panel: Its name.
        n: Points drawn.
        coefficients: By method: estimate, low, high.
        slope: Of the least-squares line, outcome per predictor.
        intercept: Of that line.
        bars: Points with an error bar.
    """

    panel: str
    n: int
    coefficients: dict[str, tuple[float, float, float]]
    slope: float
    intercept: float
    bars: int


@dataclass(frozen=True, slots=True)
class CorrelationFacts:
    """What the figure shows, for its caption.

    Attributes:
        x: Name of the predictor as printed on the axis.
        y: Name of the outcome.
        panels: One entry a panel.
        confidence: Nominal coverage of the intervals and of the band.
        interval: How the intervals were formed, by method.
        bars: What an error bar is; empty when there is none.
        source: Where the numbers come from; empty when not given.
    """

    x: str
    y: str
    panels: tuple[PanelFacts, ...]
    confidence: float
    interval: dict[str, str]
    bars: str
    source: str

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        sizes = sorted({p.n for p in self.panels})
        n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
        where = f"{len(self.panels)} panels, {n} points each" if len(self.panels) > 1 else n
        parts = [
            f"{self.y} against {self.x} ({where}).",
            "r, ρ, τ: Pearson, Spearman, Kendall with "
            f"{100 * self.confidence:g} % intervals ({', '.join(dict.fromkeys(self.interval.values()))}).",
            f"Line: least squares with its pointwise {100 * self.confidence:g} % band.",
        ]
        if self.bars:
            total, drawn = sum(p.n for p in self.panels), sum(p.bars for p in self.panels)
            parts.append(f"Bars: {self.bars}" + ("." if drawn == total else f" ({drawn} of {total} points)."))
        if len(self.panels) > 1:
            parts.append("Panels are not pooled.")
        if self.source:
            parts.append(f"Source: {self.source}.")
        return " ".join(parts)


def correlation_figure(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns = None,
    label: str | None = None,
    x_se: str | None = None,
    y_se: str | None = None,
    results: pd.DataFrame | None = None,
    x_name: str = "",
    y_name: str = "",
    titles: dict[str, str] | None = None,
    bars: str = "± 1 standard error",
    source: str = "",
) -> tuple[Figure, CorrelationFacts]:
    """A camera-ready scatter figure.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell panels apart.
        label: Column that names the points and so chooses colour and marker.
        x_se: Column of error bars of x; a missing value draws none.
        y_se: Column of error bars of y.
        results: The frame of :func:`kdstats.correlate` over the same columns; computed when not given.
        x_name: What the x axis is called; the column's name otherwise.
        y_name: What the y axis is called.
        titles: Printed name of a panel, by panel name.
        bars: What an error bar is.
        source: Named in the caption.

    Returns:
        The figure (3.25 in wide for one panel, 6.75 in for more) and the facts for its caption.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also more than 40 panels, a negative error
        bar,
            or results that lack a panel.
        CheckError: A column is constant within a panel.
    """
    panels = split(df, x=x, y=y, group=group, label=label)
    if len(panels) > MOST_PANELS:
        raise UsageError(f"{len(panels)} panels do not fit a page; choose at most {MOST_PANELS}")
    if results is None:
        results = correlate(df, x=x, y=y, group=group, label=label)
    found = _by_panel(results, group_columns(group))
    errors = {axis: _errors(df, column) for axis, column in (("x", x_se), ("y", y_se))}
    names = dict.fromkeys(name for p in panels for name in p.labels) if label is not None else {}
    looks = marks(names) if 0 < len(names) <= MOST_MARKS else {}
    alone = len(panels) == 1
    with style():
        columns = 1 if alone else min(4, len(panels))
        rows = math.ceil(len(panels) / columns)
        inside = bool(looks) and rows * columns - len(panels) >= 2  # empty cells hold the legend
        below = 0.0 if inside or not looks else 0.17 * math.ceil(len(looks) / (3 if alone else 5)) + 0.08
        height = (2.6 if alone else {2: 2.7, 3: 2.1}.get(columns, 1.72) * rows + 0.15) + below
        floor = (below + (0 if alone else 0.17)) / height  # under it: legend and the shared label of x
        figure = Figure(
            figsize=(COLUMN if alone else PAGE, height),
            layout=ConstrainedLayoutEngine(rect=(0, floor, 1, 1 - floor)),
        )
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(panels))]
        facts = []
        heads = [(titles or {}).get(p.name, p.name) if p.key else "" for p in panels]
        heads = _wrapped(heads, (COLUMN if alone else PAGE) / columns - 0.35)
        for ax, panel, title in zip(axes, panels, heads, strict=True):
            if panel.key not in found:
                raise UsageError(f"the results hold no panel {panel.name!r}")
            bars_here = {axis: None if e is None else e[panel.rows] for axis, e in errors.items()}
            facts.append(draw_panel(ax, panel, found[panel.key], looks, bars_here, title))
        if alone:
            axes[0].set_xlabel(plain(x_name or x))
            axes[0].set_ylabel(plain(y_name or y))
        else:
            figure.supxlabel(plain(x_name or x), y=floor, va="top", fontsize=7.5).set_in_layout(False)
            figure.supylabel(plain(y_name or y), y=(1 + floor) / 2, fontsize=7.5)
        if looks:
            used = len(panels) - (rows - 1) * columns
            centre = ((used + columns) / (2 * columns), floor + 0.55 / rows) if inside else None
            _legend(figure, looks, centre, 3 if alone else 5)
        figure.draw_without_rendering()
        # Positions are final, so the free corners below stay free. None, because "none" leaves a placeholder for which
        # every saving draws the figure twice.
        figure.set_layout_engine(None)
        for ax, panel, fact in zip(axes, panels, facts, strict=True):
            bars_here = {axis: None if e is None else e[panel.rows] for axis, e in errors.items()}
            print_statistics(ax, panel, statistics_text(fact), bars_here, small=not alone)
    first = results.drop_duplicates("method").set_index("method")
    return figure, CorrelationFacts(
        x=x_name or x,
        y=y_name or y,
        panels=tuple(facts),
        confidence=float(results["confidence"].iloc[0]),
        interval={m: str(first.loc[m, "interval"]) for m in METHODS},
        bars=bars if x_se or y_se else "",
        source=source,
    )


def draw_panel(
    ax: Axes,
    panel: Panel,
    results: dict[str, dict[str, Any]],
    looks: dict[str, Mark],
    errors: dict[str, Floats | None],
    title: str = "",
) -> PanelFacts:
    """Points, error bars, least-squares line and its band on ``ax``.

    Args:
        ax: Where to draw.
        panel: The points.
        results: Rows of :func:`kdstats.correlate` of this panel, by method.
        looks: Colour and marker by label; points are drawn alike when empty.
        errors: Half-lengths of error bars for ``"x"`` and ``"y"``, (n,) with NaN for none, or None.
        title: Printed above.

    Returns:
        What was drawn.
    """
    x, y = panel.x, panel.y
    slope, intercept = _line(ax, x, y, float(results["pearson"]["confidence"]))
    members: dict[str, list[int]] = {}
    for i, name in enumerate(panel.labels):
        members.setdefault(name if name in looks else "", []).append(i)
    for name, rows in members.items():
        look = looks.get(name, Mark("#0173b2", "o", ""))
        bars = {axis: None if e is None else e[rows] for axis, e in errors.items()}
        if any(b is not None for b in bars.values()):
            ax.errorbar(
                x[rows],
                y[rows],
                xerr=bars["x"],
                yerr=bars["y"],
                fmt="none",
                ecolor=look.color,
                elinewidth=0.7,
            ).lines[2][0].set_zorder(2)
        (points,) = ax.plot(x[rows], y[rows], look.marker, color=look.color, zorder=3)
        points.set(markeredgecolor="white", markeredgewidth=0.35)
    ax.margins(0.08)
    ax.xaxis.set_major_locator(MaxNLocator(3 if title else 5))
    ax.yaxis.set_major_locator(MaxNLocator(4 if title else 5))
    ax.ticklabel_format(axis="both", style="sci", scilimits=(-2, 4), useMathText=True)
    if title:
        ax.set_title(plain(title), pad=4)
    barred = np.zeros(panel.n, dtype=bool)
    for e in errors.values():
        barred |= False if e is None else ~np.isnan(e)
    return PanelFacts(
        panel=panel.name,
        n=panel.n,
        coefficients={m: (results[m]["estimate"], results[m]["low"], results[m]["high"]) for m in METHODS},
        slope=slope,
        intercept=intercept,
        bars=int(barred.sum()),
    )


def _wrapped(titles: list[str], inches: float) -> list[str]:
    """Titles broken into lines that fit the width; when one needs two, all get two, so that rows align."""
    letters = max(8, int(inches / (0.58 * 7 / 72)))
    lines = [textwrap.wrap(title, letters, break_on_hyphens=False) for title in titles]
    if any(len(parts) > 1 for parts in lines):
        lines = [parts[0].rsplit(" ", 1) if len(parts) == 1 else parts for parts in lines]
    return ["\n".join(parts) for parts in lines]


def _by_panel(results: pd.DataFrame, groups: list[str]) -> dict[tuple[Any, ...], dict[str, dict[str, Any]]]:
    out: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in results.to_dict("records"):
        out.setdefault(tuple(row[g] for g in groups), {})[row["method"]] = {str(k): v for k, v in row.items()}
    return out


def _errors(df: pd.DataFrame, column: str | None) -> Floats | None:
    if column is None:
        return None
    if column not in df.columns:
        from kdstats.errors import unknown

        raise unknown("column", column, map(str, df.columns))
    values = numbers(df, column, missing=True)
    if (values < 0).any():
        raise UsageError(f"column {column!r} holds a negative error bar")
    return values


def _line(ax: Axes, x: Floats, y: Floats, confidence: float) -> tuple[float, float]:
    """Least squares with the pointwise confidence band of the mean, t with n - 2 degrees of freedom."""
    n, mean = x.size, float(x.mean())
    dx = x - mean
    sxx = float(dx @ dx)
    slope = float(dx @ y) / sxx
    intercept = float(y.mean()) - slope * mean
    residual = y - (intercept + slope * x)
    s2 = float(residual @ residual) / (n - 2)
    at = np.linspace(x.min(), x.max(), 60)
    fit = intercept + slope * at
    half = float(special.stdtrit(n - 2, 0.5 + confidence / 2)) * np.sqrt(
        s2 * (1 / n + (at - mean) ** 2 / sxx)
    )
    ax.fill_between(at, fit - half, fit + half, color="#000000", alpha=0.09, linewidth=0, zorder=0)
    ax.plot(at, fit, color="#555555", linewidth=0.9, zorder=1)
    return slope, intercept


def _legend(figure: Figure, looks: dict[str, Mark], centre: tuple[float, float] | None, columns: int) -> None:
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=look.marker,
            color=look.color,
            markeredgecolor="white",
            label=plain(look.text),
        )
        for look in looks.values()
    ]
    for handle in handles:
        handle.set_markeredgewidth(0.35)
    if centre is not None:
        legend = figure.legend(
            handles=handles,
            loc="center",
            bbox_to_anchor=centre,
            ncols=2,
            columnspacing=1.2,
            handletextpad=0.3,
        )
    else:
        legend = figure.legend(
            handles=handles, loc="lower center", ncols=columns, columnspacing=1.2, handletextpad=0.3
        )
    legend.set_in_layout(False)  # its room is kept by the layout's rectangle


def statistics_text(fact: PanelFacts) -> str:
    """The three coefficients with interval, and n, as printed on the axes."""
    lines = []
    for k, method in enumerate(METHODS):
        estimate, low, high = fact.coefficients[method]
        tail = f"  n = {fact.n}" if k == 0 else ""
        lines.append(
            f"{SYMBOLS[method]} {inside_one(estimate)} [{inside_one(low)}, {inside_one(high)}]{tail}"
        )
    return "\n".join(lines)
