"""Real images above, their augmented views below: what an augmentation does, at a glance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from kdstats.errors import UsageError
from kdstats.figures.style import PAGE, plain, style


@dataclass(frozen=True, slots=True)
class Cell:
    """One image and its view.

    Attributes:
        original: ``[H, W, 1 or 3]``, 0 … 1.
        view: Likewise.
        label: Class of the original.
        partner: Class of the image mixed in.
        lam: Share of the original in the view; 1 where nothing is mixed.
    """

    original: NDArray[np.float32]
    view: NDArray[np.float32]
    label: str
    partner: str
    lam: float

    def target(self) -> str:
        """``λ = 0.64``, ``cat``, ``+ dog``, a line each; the class alone where nothing is mixed."""
        if self.lam == 1:
            return self.label
        return f"λ = {self.lam:.2f}\n{self.label}\n+ {self.partner}"


@dataclass(frozen=True, slots=True)
class SheetFacts:
    """What the sheet shows, for its caption."""

    scheme: str
    dataset: str
    draws: str
    seed: int
    images: int
    mixed: bool

    def caption(self) -> str:
        """The caption, every number taken from the fields."""
        under = "λ and class of both images" if self.mixed else "its class"
        return (
            f"{self.scheme} on {self.images} training images of {self.dataset} (one draw per {self.draws}, "
            "seed "
            f"{self.seed}): originals above, views below, under each view {under}."
        )


def contact_sheet(
    cells: Sequence[Cell], scheme: str, dataset: str, draws: str, seed: int
) -> tuple[Figure, SheetFacts]:
    """The sheet, 6.75 in wide, and the facts for its caption.

    Args:
        cells: One per column.
        scheme: Printed name of the augmentation.
        dataset: Name of the data set.
        draws: ``batch`` or ``sample``.
        seed: Of images and draws.

    Raises:
        UsageError: Nothing to show.
    """
    if not cells:
        raise UsageError("a contact sheet needs at least one image")
    with style():
        side = (PAGE - 0.55) / len(cells)
        layout = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.02, hspace=0.02)
        figure = Figure(figsize=(PAGE, 2 * side + 0.6), layout=layout)
        axes = figure.subplots(2, len(cells), squeeze=False)
        for column, cell in enumerate(cells):
            _image(axes[0, column], cell.original)
            _image(axes[1, column], cell.view)
            axes[1, column].set_xlabel(plain(cell.target()), fontsize=6.5, labelpad=3)
        axes[0, 0].set_ylabel("original")
        axes[1, 0].set_ylabel(plain(_lines(scheme)))
    mixed = any(cell.lam != 1 for cell in cells)
    return figure, SheetFacts(scheme, dataset, draws, seed, len(cells), mixed)


def _lines(label: str) -> str:
    """A long label over several lines: an image is too low for more than a dozen characters."""
    return re.sub(r"(?<=.)(?=[(@])| (?=\+)", "\n", label) if len(label) > 14 else label


def _image(ax: Axes, image: NDArray[np.float32]) -> None:
    grey = image.shape[2] == 1
    shown = image[:, :, 0] if grey else image
    ax.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
        spine.set_color("#949494")
