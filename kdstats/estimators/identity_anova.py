"""The components in closed form: analysis of variance of a balanced layout, intervals by two jackknives.

Source: Searle, Casella & McCulloch 1992, chapters 3 and 4; the jackknives leave out images, and groups of batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError
from kdstats.estimators.between_batches import BetweenBatches
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.identity_components import (
    BATCH,
    FEW_EPOCHS,
    STRATA,
    Model,
    VarianceComponents,
    few_notes,
    shared_names,
)
from kdstats.estimators.intervals import Jackknife, t_quantile

Array = NDArray[np.float64]
METHOD = "analysis of variance of a balanced layout; jackknife over images and over batches, t"


def anova(layout: Crossed, confidence: float) -> VarianceComponents:
    """Closed form with jackknife intervals; see :func:`~kdstats.estimators.identity.variance_components`."""
    n, epochs, views = layout.values.shape
    squares = layout.strata()
    df = np.array([1.0, views - 1, epochs - 1, (views - 1) * (epochs - 1)])
    total = squares.sum(axis=0)
    level = float(np.abs(layout.values).max())
    if total.sum() <= squares.size * (16 * np.finfo(np.float64).eps * level) ** 2:
        raise CheckError(f"all losses of {n} images are equal: there is no variance to speak of")
    scale = np.maximum(df, 1.0)
    mean_squares = total / scale / (n - 1)
    left = (total - squares * n / (n - 1)) / scale / (n - 2)
    batches = _batches(layout)
    model = Model.of(epochs, views, batches[0].spread if batches else None)
    fit = _Fit(model, mean_squares, left, batches, confidence)
    names = tuple(model.weights)
    kinds = shared_names(set(names), epochs, views)
    components = {name: fit.estimate((name,)) for name in names}
    if epochs > 1:
        components["epoch"] = _epoch(layout, mean_squares, batches, confidence)
    table = [
        {"source": source, "df": int(d * (n - 1)), "mean_square": float(ms)}
        for source, d, ms in zip(STRATA, df, mean_squares, strict=True)
        if d
    ]
    for part, found in zip(("", " x view"), batches, strict=False):
        times = views - 1 if part else 1
        between, inner = (found.batches - epochs) * times, (n * epochs - found.batches) * times
        table += [
            {"source": f"batch in epoch{part}", "df": between, "mean_square": found.between},
            {"source": f"image in batch{part}", "df": inner, "mean_square": found.within},
        ]
    return VarianceComponents(
        components,
        fit.estimate(names),
        {kind: fit.estimate(parts) for kind, parts in kinds.items()},
        {kind: fit.correlation(parts, names) for kind, parts in kinds.items()},
        tuple(table),
        n,
        views,
        epochs,
        batches[0].batches if batches else 0,
        layout.dropped,
        "anova",
        model.joined,
    )


def _batches(layout: Crossed) -> tuple[BetweenBatches, ...]:
    """Between batches of the views' mean, and of their contrasts where there are several views."""
    if layout.batch is None:
        return ()
    means = BetweenBatches.of(layout.over_views(), layout.batch)
    return (
        (means, BetweenBatches.of(layout.between_views(), layout.batch))
        if layout.values.shape[2] > 1
        else (means,)
    )


class _Fit:
    """Any sum of components, or ratio of sums, with what images and batches leave uncertain in it."""

    def __init__(
        self,
        model: Model,
        mean_squares: Array,
        left: Array,
        batches: tuple[BetweenBatches, ...],
        confidence: float,
    ) -> None:
        self.model, self.mean_squares, self.left = model, mean_squares, left
        self.batches, self.confidence = batches, confidence

    def _values(self, names: tuple[str, ...]) -> tuple[float, Array, Array, float]:
        """Value, its delete-one-image and delete-a-group-of-batches values, and what mean squares take off it."""
        weights = self.model.weights
        total = sum((weights[name] for name in names), np.zeros(6))
        of_batch = sum((weights[name] for name in names if name in BATCH), np.zeros(6))
        strata = total[:4]
        value, taken = float(strata @ self.mean_squares), -float(np.minimum(strata, 0) @ self.mean_squares)
        by_image = self.left @ strata
        chance = np.zeros(len(self.batches[0].left) if self.batches else 0)
        for j, found in enumerate(self.batches):
            weight = float(total[4 + j])
            own = weight * found.value
            value, by_image = value + own, by_image + own
            # The variance between batches is itself a difference of two mean squares.
            taken += abs(weight) / found.per_batch * (found.within if weight > 0 else found.between)
            # What the batches of these epochs happened to be is in the mean squares of the images too. Where it is
            # only taken off again it cancels, and the images' part of the error is left.
            share = float(of_batch[4 + j]) or weight * found.image_share
            chance = chance + share * (found.left - found.value)
        return value, by_image, value + chance, taken

    def estimate(self, names: tuple[str, ...]) -> Estimate:
        """The sum of these components; interval on the log scale of the mean squares that add to it."""
        value, by_image, by_batch, shift = self._values(names)
        only = set(names) <= set(BATCH)
        arrays = [] if only else [by_image]
        arrays += [by_batch] if only or (by_batch != value).any() else []
        moved = value + shift
        if moved <= 0 or any((a + shift <= 1e-12 * moved).any() for a in arrays):
            return self._interval(value, arrays, lambda x: x, lambda x: x)
        return self._interval(value, arrays, lambda x: np.log(x + shift), lambda x: np.exp(x) - shift)

    def correlation(self, parts: tuple[str, ...], names: tuple[str, ...]) -> Estimate:
        """The sum of ``parts`` over that of ``names``; interval on Fisher's z scale."""
        part, whole = self._values(parts), self._values(names)
        if whole[0] <= 0:
            raise CheckError("the components sum to nothing: there is no variance to share")
        arrays = [part[1] / whole[1]]
        if self.batches:
            arrays.append(part[2] / whole[2])
        edge = 1 - 1e-12
        return self._interval(
            part[0] / whole[0],
            arrays,
            lambda x: np.arctanh(np.clip(x, -edge, edge)),
            np.tanh,
        )

    def _interval(
        self,
        value: float,
        arrays: list[Array],
        there: Callable[[Any], Any],
        back: Callable[[Any], Any],
    ) -> Estimate:
        """Jackknives over images and over batches, taken for independent (Satterthwaite's degrees of freedom)."""
        plain = [Jackknife.of(value, a) for a in arrays]
        moved = [Jackknife.of(float(there(value)), there(a)) for a in arrays]
        variances = np.array([j.se**2 for j in moved])
        dfs = np.array([len(a) - 1 for a in arrays], dtype=float)
        se = math.sqrt(float(variances.sum()))
        df = float(variances.sum() ** 2 / (variances**2 / dfs).sum()) if se else float(dfs.min())
        centre = float(there(value)) + sum(j.corrected - float(there(value)) for j in moved)
        half = t_quantile(self.confidence, df) * se
        batches = self.batches[0].batches if self.batches else 0
        return Estimate(
            value,
            math.sqrt(sum(j.se**2 for j in plain)),
            float(back(centre - half)),
            float(back(centre + half)),
            len(self.left),
            METHOD,
            self.confidence,
            notes=few_notes(len(self.left), batches),
        )


def _epoch(
    layout: Crossed, mean_squares: Array, batches: tuple[BetweenBatches, ...], confidence: float
) -> Estimate:
    """Variance of epoch means less what images and batches leave in them; chi-square interval of that variance."""
    from scipy.special import chdtri

    n, epochs, views = layout.values.shape
    spread = float(layout.values.mean(axis=(0, 2), dtype=np.float64).var(ddof=1))
    # Images are the same in all epochs, so only what is fresh in an epoch moves its mean.
    noise = float(mean_squares[2]) / views / n
    if batches:
        noise += max(batches[0].value, 0.0) * (batches[0].mean_weight - batches[0].spread / n)
    df = epochs - 1
    tail = (1 - confidence) / 2
    notes = ["epochs of one training are a trend rather than independent draws"]
    if epochs < FEW_EPOCHS:
        notes.append(f"{epochs} epochs only")
    return Estimate(
        spread - noise,
        spread * math.sqrt(2 / df),
        df * spread / float(chdtri(df, tail)) - noise,
        df * spread / float(chdtri(df, 1 - tail)) - noise,
        epochs,
        "variance of epoch means less that of images and batches; chi-square",
        confidence,
        notes=tuple(notes),
    )
