"""Power against seeds, gap, schemes, pairs or r: one line a plan, a band for the uncertain spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from kdstats.association.power_correlation import CorrelationPower
from kdstats.association.power_curve import PowerCurve, power_curve
from kdstats.association.power_gap import GapPower
from kdstats.errors import UsageError
from kdstats.figures.style import COLUMN, plain, style

MOST = 6
_COLORS = ("#0173b2", "#d55e00", "#029e73", "#cc78bc", "#de8f05", "#4d4d4d")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1)), (0, (8, 2)))
_AXES = {
    "seeds": "seeds of each scheme",
    "gap": "gap between two schemes",
    "schemes": "schemes in a pair",
    "pairs": "pairs",
    "r": "correlation",
}


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """What the figure shows, for its caption.

    Attributes:
        axis: What the lines run along.
        plans: Line → (answer on the axis, power there).
        target: Power asked for; None where the power itself was asked.
        alpha_each: Level of one test.
        band: Confidence of the bands; None where no sd is uncertain.
        method: The test.
    """

    axis: str
    plans: dict[str, tuple[float, float]]
    target: float | None
    alpha_each: float
    band: float | None
    method: str

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        points = "; ".join(
            f"{held}: {self._at(at)} (power {power:.2f})" for held, (at, power) in self.plans.items()
        )
        text = f"Power against {_AXES[self.axis]}, {self.method}, alpha {self.alpha_each:.3g} each test. Dots: {points}."
        if self.target is not None:
            text += f" Dashed: power {self.target:g}."
        if self.band is not None:
            text += f" Bands: {100 * self.band:g} % interval of the pilot's standard deviation."
        return text

    def _at(self, at: float) -> str:
        if self.axis in ("gap", "r"):
            return f"{self.axis} {at:.3g}"
        return f"{at:.0f} {self.axis}" if at != 1 else "1 pair, tested alone"


def power_figure(plans: Sequence[GapPower | CorrelationPower]) -> tuple[Figure, PowerFacts]:
    """A figure one column (3.25 in) wide, and the facts for its caption.

    Args:
        plans: Up to six answers to the same question.

    Raises:
        UsageError: No plan, too many, or plans that were asked unlike questions.
    """
    if not 1 <= len(plans) <= MOST:
        raise UsageError(f"a power figure shows 1 to {MOST} plans, not {len(plans)}")
    curves = [power_curve(plan) for plan in plans]
    if len({(curve.axis, plan.asked) for curve, plan in zip(curves, plans, strict=True)}) > 1:
        raise UsageError("plans that solve for different things cannot share an axis")
    first = plans[0]
    end = max(curve.at[-1] for curve in curves)
    curves = [power_curve(plan, end) for plan in plans]
    names = _names(curves)
    known = all(curve.low == curve.high for curve in curves)
    with style():
        figure = Figure(figsize=(COLUMN, 2.4), layout="constrained")
        ax = figure.add_subplot()
        for curve, name, color, dash in zip(curves, names, _COLORS, _DASHES, strict=False):
            ax.fill_between(curve.at, curve.low, curve.high, color=color, alpha=0.15, linewidth=0, zorder=1)
            ax.plot(
                curve.at, curve.power, color=color, linestyle=dash, linewidth=1.2, label=plain(name), zorder=3
            )
        for curve, plan, color in zip(curves, plans, _COLORS, strict=False):
            ax.plot([curve.answer], [plan.power], "o", color=color, markersize=4.5, zorder=4)
            if curve.answer < curve.at[0]:  # one pair has a test of its own, which the line does not show
                ax.annotate(
                    "one pair: another test",
                    (curve.answer, plan.power),
                    xytext=(0, 6),
                    textcoords="offset points",
                    fontsize=6.5,
                    color=color,
                )
        if first.asked != "power":
            ax.axhline(first.target, color="#4d4d4d", linewidth=0.7, linestyle=(0, (4, 2)), zorder=2)
        ax.set_ylim(0, 1.02)
        ax.set_ylabel("power")
        ax.set_xlabel(_AXES[curves[0].axis])
        _ticks(ax, curves)
        if len(curves) > 1 or not known:
            ax.legend(loc="lower right", handlelength=2.2)
    facts = PowerFacts(
        axis=curves[0].axis,
        plans={n: (c.answer, p.power) for n, c, p in zip(names, curves, plans, strict=True)},
        target=None if first.asked == "power" else first.target,
        alpha_each=first.alpha_each,
        band=None if known or not isinstance(first, GapPower) else first.confidence,
        method=first.method,
    )
    return figure, facts


def _names(curves: Sequence[PowerCurve]) -> list[str]:
    """One label a line; those that hold the same are told apart by their answers."""
    held = [curve.held for curve in curves]
    return [
        f"{name}, at {curve.answer:g}" if held.count(name) > 1 else name
        for name, curve in zip(held, curves, strict=True)
    ]


def _ticks(ax: Axes, curves: Sequence[PowerCurve]) -> None:
    """Whole numbers on a log scale where they span more than a decade; plain otherwise."""
    low, high = min(min(c.at[0], c.answer) for c in curves), max(c.at[-1] for c in curves)
    if curves[0].axis in ("gap", "r"):
        ax.set_xlim(0 if curves[0].axis == "gap" else low, high)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        return
    ax.set_xscale("log")
    for multiples in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        steps = sorted({round(m * 10**e) for e in range(8) for m in multiples})
        inside = [step for step in steps if low <= step <= high]
        if len(inside) <= 7:
            break
    ax.set_xticks(inside)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(0.95 * low, 1.05 * high)
