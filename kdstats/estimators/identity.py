"""Covariance tied to the identity of images: which part of a loss belongs to the image, its view, its batch, its epoch.

Every image i appears once per epoch e and view v (its original, its augmented view), both in the batch b of that
epoch. With the mean of each epoch and view taken out, or kept as ``epoch``,

    u_iev = μ_ev + image_i + view_iv + image_epoch_ie + batch_b(i,e) + batch_view_b(i,e)v + residual_iev

* ``image``: stays with the image over views and epochs (a hard image is hard for every student);
* ``view``: how much an image's augmented view differs from its original in every epoch;
* ``image_epoch``: shared by the views of an image in one step only (what the student knows of it then);
* ``batch``: shared by all images of a step in all views (the student's state at that step);
* ``batch_view``: shared by all images of a step in one view (one draw of the scheme for the whole batch);
* ``epoch``: variance of the epochs' means around their own mean;
* ``residual``: fresh in every row (the draw of the standard augmentation and of the scheme).

Two losses covary by what they share. From the mean squares of a balanced layout each variance follows in closed form
(unbiased, hence possibly negative); where views or epochs are missing, terms that cannot be told apart are joined.

Source: Searle, Casella & McCulloch 1992, chapters 3 and 4; intervals by the jackknife over images and over batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, unknown
from kdstats.estimators.between_batches import BetweenBatches
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import Jackknife, check_confidence, t_quantile

Array = NDArray[np.float64]
METHODS = ("anova", "reml")
ANOVA = "analysis of variance of a balanced layout; jackknife over images and over batches, t"
# Fewer units than these and the intervals are too short (benchmarks/results/coverage_covariance.md).
FEW_IMAGES, FEW_BATCHES, FEW_EPOCHS = 100, 40, 10
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


def variance_components(
    values: Any,
    *,
    image: Any,
    view: Any = None,
    batch: Any = None,
    epoch: Any = None,
    method: str = "anova",
    confidence: float = 0.95,
) -> VarianceComponents:
    """Variance components of losses by the identity of their images.

    Args:
        values: ``[n]`` one loss per row, nats.
        image: ``[n]`` identity of the image.
        view: ``[n]`` original or augmented; None: one view.
        batch: ``[n]`` the step in which the row was seen; None: what a step shares then counts as
            ``image_epoch`` or ``residual``.
        epoch: ``[n]`` epoch; None: one epoch.
        method: ``anova`` (closed form, unbiased, any size; intervals by jackknife) or ``reml`` (normal
            likelihood, never negative; intervals by normal theory, too short for heavy tails; at most
            :data:`~kdstats.estimators.identity_reml.MOST_BATCHES` batches).
        confidence: Nominal coverage.

    Raises:
        UsageError: Unlike lengths, fewer than 10 complete images, no image seen twice, unknown method.
        CheckError: NaN or infinity, or nothing varies.

    Coverage of 95 % intervals, simulated (``benchmarks/results/coverage_covariance.md``); few images, batches or
    epochs put a note on the result.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> hard = rng.normal(size=400)
    >>> u = hard[:, None, None] + 0.5 * rng.normal(size=(400, 6, 2))
    >>> i, e, v = (index.ravel() for index in np.indices(u.shape))
    >>> found = variance_components(u.ravel(), image=i, epoch=e, view=v)
    >>> found.components["image"].low < 1 < found.components["image"].high
    True
    """
    check_confidence(confidence)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    layout = Crossed.of(values, image=image, view=view, batch=batch, epoch=epoch)
    return components_of(layout, method=method, confidence=confidence)


def components_of(layout: Crossed, *, method: str = "anova", confidence: float = 0.95) -> VarianceComponents:
    """The same from a layout that is balanced already."""
    if method == "reml":
        from kdstats.estimators.identity_reml import reml

        return reml(layout, confidence)
    return anova(layout, confidence)


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


def anova(layout: Crossed, confidence: float) -> VarianceComponents:
    """Closed form with jackknife intervals; see :func:`variance_components`."""
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
            ANOVA,
            self.confidence,
            notes=few_notes(len(self.left), batches),
        )


def few_notes(images: int, batches: int) -> tuple[str, ...]:
    """What the simulated coverage says against an interval from so few units."""
    notes = []
    if images < FEW_IMAGES:
        notes.append(f"{images} images: the interval is too short for heavy-tailed losses")
    if 0 < batches < FEW_BATCHES:
        notes.append(f"{batches} batches: the interval of what batches share is too short")
    return tuple(notes)


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
