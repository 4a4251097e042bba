"""Which components of variance a layout can tell apart, which of them two losses share, and the result that holds them.

The components themselves are described in :mod:`~kdstats.estimators.identity`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.estimators.estimate import Estimate

Array = NDArray[np.float64]
# Fewer units than these and the intervals are too short (benchmarks/results/coverage_covariance.md).
FEW_IMAGES, FEW_BATCHES, FEW_EPOCHS = 100, 150, 10
STRATA = ("image", "image x view", "image x epoch", "image x view x epoch")

SHARED = {
    "same_step": ("image", "image_epoch", "batch"),
    "other_epoch": ("image", "view"),
    "other_view_and_epoch": ("image",),
    "same_batch": ("batch", "batch_view"),
    "same_batch_other_view": ("batch",),
}
"""Pairs of losses and what they share: original and view of an image in one step; the same view of an image in two
epochs; different views in two epochs; the same view of two images of one step; different views of them."""
BATCH = ("batch", "batch_view")


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """The components of one layout, nats² (correlations without unit).

    Attributes:
        components: Name → variance with its interval; a component that is not there could not be told apart.
        total: Variance of a single loss within an epoch and view: all components but ``epoch``.
        covariances: Kind of pair (:data:`SHARED`) → covariance.
        correlations: The same over ``total``: intraclass correlations.
        table: Rows of the analysis of variance: ``source, df, mean_square``.
        images: Images in the layout.
        views: Views of each.
        epochs: Epochs.
        batches: Batches over all epochs; 0 where they are not known.
        dropped: Images left out for not appearing once per epoch and view.
        method: ``anova`` or ``reml``.
        joined: What could not be told apart, in words.
    """

    components: dict[str, Estimate]
    total: Estimate
    covariances: dict[str, Estimate]
    correlations: dict[str, Estimate]
    table: tuple[dict[str, Any], ...]
    images: int
    views: int
    epochs: int
    batches: int
    dropped: int
    method: str
    joined: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Model:
    """Which components a layout can tell apart, and how they follow from six numbers.

    Attributes:
        weights: Component → ``[6]`` weights of the four mean squares of :data:`STRATA`, of the variance between batches
            of the views' mean (β₁ = batch + batch_view/V) and of the views' contrasts (β₂ = batch_view).
        joined: What could not be told apart.
    """

    weights: dict[str, Array]
    joined: tuple[str, ...]

    @staticmethod
    def of(epochs: int, views: int, spread: float | None) -> Model:
        """The components of E epochs and V views; ``spread``: κ of the batches, None where they are not known."""
        k = spread or 0.0
        joined: tuple[str, ...] = ()
        weights: dict[str, tuple[float, ...]]
        if epochs > 1 and views > 1:
            cells = 1 / (epochs * views)
            weights = {
                "image": (cells, -cells, -cells, cells, 0, 0),
                "view": (0, 1 / epochs, 0, -1 / epochs, 0, 0),
                "image_epoch": (0, 0, 1 / views, -1 / views, -k, k / views),
                "residual": (0, 0, 0, 1, 0, -k),
            }
        elif epochs > 1:
            joined = ("one view: image holds view, residual holds image_epoch, batch holds batch_view",)
            weights = {"image": (1 / epochs, 0, -1 / epochs, 0, 0, 0), "residual": (0, 0, 1, 0, -k, 0)}
        else:
            joined = ("one epoch: image holds image_epoch, and residual holds view",)
            weights = {"image": (1 / views, -1 / views, 0, 0, -k, k / views), "residual": (0, 1, 0, 0, 0, -k)}
        if spread is not None:
            weights["batch"] = (0, 0, 0, 0, 1, -1 / views if views > 1 else 0)
            if views > 1:
                weights["batch_view"] = (0, 0, 0, 0, 0, 1)
        return Model({name: np.array(row, dtype=np.float64) for name, row in weights.items()}, joined)


def shared_names(names: set[str], epochs: int, views: int) -> dict[str, tuple[str, ...]]:
    """The kinds of pairs that a layout holds, with the components they share."""
    possible = {
        "same_step": views > 1,
        "other_epoch": epochs > 1,
        "other_view_and_epoch": epochs > 1 and views > 1,
        "same_batch": "batch" in names,
        "same_batch_other_view": "batch_view" in names,
    }
    return {
        kind: tuple(name for name in parts if name in names)
        for kind, parts in SHARED.items()
        if possible[kind]
    }


def few_notes(images: int, batches: int) -> tuple[str, ...]:
    """What the simulated coverage says against an interval from so few units."""
    notes = []
    if images < FEW_IMAGES:
        notes.append(f"{images} images: the interval is too short for heavy-tailed losses")
    if 0 < batches < FEW_BATCHES:
        notes.append(
            f"{batches} batches: where losses are skewed, intervals of what batches share covered 0.85–0.93 in "
            "simulation, not 0.95"
        )
    return tuple(notes)
