"""What the variance of a pool's mean is made of, one stacked bar a scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kdstats.errors import UsageError
from kdstats.figures.style import COLUMN, marks, plain, style

# Order of stacking, colour, hatch (for grey print) and the words of the legend.
PARTS = (
    ("var_original", "#56b4e9", "", "spread of originals"),
    ("var_augmented", "#0173b2", "", "spread of views"),
    ("cov_views", "#de8f05", "////", "original with its view"),
    ("cov_cross", "#8b1a4a", "....", "between images"),
)


@dataclass(frozen=True, slots=True)
class ComponentsFacts:
    """What the figure shows, for its caption.

    Attributes:
        schemes: Scheme → its four components, in the order of :data:`PARTS`.
        design_effect: Scheme → design effect.
        effective_inputs: Scheme → effective inputs.
        pool_inputs: Inputs of a pool.
        power: The axis shows the variance times ten to this power.
    """

    schemes: dict[str, tuple[float, ...]]
    design_effect: dict[str, float]
    effective_inputs: dict[str, float]
    pool_inputs: int
    power: int

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        least = min(self.effective_inputs, key=lambda name: self.effective_inputs[name])
        most = max(self.effective_inputs, key=lambda name: self.effective_inputs[name])
        return (
            "Variance of a pool's mean probability, averaged over classes, and the black line its sum. To "
            "the left of "
            "zero: components that lower it. At the right: design effect (variance over that of "
            "independent inputs "
            f"of the same spread) and the effective number of the {self.pool_inputs} inputs, from "
            f"{self.effective_inputs[least]:.0f} ({least}) to {self.effective_inputs[most]:.0f} ({most})."
        )


def components_figure(
    results: Sequence[Mapping[str, Any]], *, pool_inputs: int
) -> tuple[Figure, ComponentsFacts]:
    """Stacked horizontal bars, 3.25 in wide, and the facts for the caption.

    Args:
        results: One a scheme, drawn from top to bottom: ``scheme``, ``components`` (of :data:`PARTS`),
            ``design_effect`` and ``effective_inputs``, as in the document ``kdstats/evaluate-da/1``.
        pool_inputs: Inputs of a pool, M.

    Raises:
        UsageError: No results.
    """
    if not results:
        raise UsageError("a figure of components needs at least one scheme")
    parts = {r["scheme"]: tuple(float(r["components"][key]) for key, *_ in PARTS) for r in results}
    largest = max(abs(value) for values in parts.values() for value in values)
    power = _power(largest)
    looks = marks(parts)
    with style():
        height = 0.235 * len(parts) + 0.95
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        ax = figure.add_subplot()
        for row, (name, values) in enumerate(parts.items()):
            _bar(ax, row, [value * 10.0**power for value in values])
            design, effective = (next(r for r in results if r["scheme"] == name)[k] for k in _ANNOTATED)
            ax.annotate(
                f"{design:.2f} · {effective:.0f}",
                xy=(1.02, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=6.0,
            )
        ax.annotate(
            "design effect ·\neffective inputs",
            xy=(1.02, 1.0),
            xycoords="axes fraction",
            fontsize=5.5,
            va="bottom",
        )
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set_yticks(range(len(parts)), [plain(looks[name].text) for name in parts])
        ax.set_ylim(len(parts) - 0.45, -0.55)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel(f"contribution to the variance of a pool's mean (10$^{{-{power}}}$)")
        handles = [
            Patch(facecolor=c, hatch=h, edgecolor="white", linewidth=0, label=t) for _, c, h, t in PARTS
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=2, handlelength=1.4, columnspacing=1.2
        )
    return figure, ComponentsFacts(
        parts,
        {r["scheme"]: float(r["design_effect"]) for r in results},
        {r["scheme"]: float(r["effective_inputs"]) for r in results},
        pool_inputs,
        power,
    )


_ANNOTATED = ("design_effect", "effective_inputs")


def _power(largest: float) -> int:
    power = 0
    while 0 < largest * 10.0**power < 1 and power < 30:
        power += 1
    return power


def _bar(ax: Axes, row: int, values: Sequence[float]) -> None:
    left, right = 0.0, 0.0
    for value, (_, color, hatch, _text) in zip(values, PARTS, strict=True):
        start = right if value >= 0 else left
        ax.barh(
            row, value, left=start, height=0.62, color=color, hatch=hatch, edgecolor="white", linewidth=0.0
        )
        if value >= 0:
            right += value
        else:
            left += value
    total = sum(values)
    ax.plot([total, total], [row - 0.4, row + 0.4], color="black", linewidth=1.2, solid_capstyle="butt")
