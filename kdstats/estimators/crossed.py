"""Rows brought into the balanced layout image x epoch x view, in which an analysis of variance is closed-form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.tstddev import as_array

Array = NDArray[np.float64]
LEAST_IMAGES = 10
_BLOCK = 1 << 20  # values worked on at a time


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """One value per image, epoch and view.

    Attributes:
        values: ``[n, E, V]`` (float32 or float64).
        batch: ``[n, E]`` label of the batch in which the image stood in that epoch, its views together; labels
            of different epochs may coincide. None where batches are not known.
        dropped: Images left out because they do not appear exactly once per epoch and view.
    """

    values: NDArray[Any]
    batch: NDArray[np.int64] | None
    dropped: int = 0

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or 0 in self.values.shape:
            raise UsageError(f"expected values [images, epochs, views], got {self.values.shape}")
        n, epochs, views = self.values.shape
        if n < LEAST_IMAGES:
            left = f" ({self.dropped} more do not appear once per epoch and view)" if self.dropped else ""
            raise UsageError(f"variance components need at least {LEAST_IMAGES} images, not {n}{left}")
        if epochs * views < 2:
            raise UsageError("every image appears once: give several views or epochs of the same images")
        if self.batch is not None and self.batch.shape != (n, epochs):
            raise UsageError(f"batch labels of shape {self.batch.shape} for {n} images in {epochs} epochs")
        if not np.isfinite(self.values.sum(dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(self.values))
            raise CheckError(f"image {bad[0][0]}, epoch {bad[0][1]}, view {bad[0][2]} is NaN or infinite")

    @staticmethod
    def of(values: Any, *, image: Any, view: Any = None, batch: Any = None, epoch: Any = None) -> Crossed:
        """From one entry per row and a label of each factor; images that are not complete are left out.

        Raises:
            UsageError: Unlike lengths, too few complete images, or views of one image and epoch in two batches.
        """
        y = as_array(values).ravel()
        factors = {}
        for name, labels in (("image", image), ("epoch", epoch), ("view", view)):
            column = np.zeros(len(y), dtype=np.int8) if labels is None else np.asarray(labels)
            if column.shape != y.shape:
                raise UsageError(f"{len(y)} values, but {name} of shape {column.shape}")
            factors[name] = np.unique(column, return_inverse=True)
        (images, i), (epochs, e), (views, v) = factors.values()
        shape = (len(images), len(epochs), len(views))
        cell = np.ravel_multi_index((i, e, v), shape)
        counts = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)
        whole = (counts == 1).all(axis=(1, 2))
        table = np.zeros(shape)
        table.ravel()[cell] = y
        codes = None
        if batch is not None:
            labels = np.asarray(batch)
            if labels.shape != y.shape:
                raise UsageError(f"{len(y)} values, but batch of shape {labels.shape}")
            spread = np.zeros(shape, dtype=np.int64)
            spread.ravel()[cell] = np.unique(labels, return_inverse=True)[1]
            spread = spread[whole]
            if (spread != spread[:, :, :1]).any():
                at = int(np.argmax((spread != spread[:, :, :1]).any(axis=(1, 2))))
                raise UsageError(
                    f"image {images[whole][at]!r}: its views of one epoch stand in different batches"
                )
            codes = spread[:, :, 0]
        return Crossed(table[whole], codes, int((~whole).sum()))

    def strata(self) -> Array:
        """``[n, 4]`` squared deviations of each image: image, image x view, image x epoch, all three.

        The means over images of every epoch and view are taken out before, so that neither learning nor a shift
        of the views as such counts.
        """
        n, epochs, views = self.values.shape
        centre = self.values.mean(axis=0, dtype=np.float64)
        out = np.empty((n, 4))
        rows = max(1, _BLOCK // (epochs * views))
        for start in range(0, n, rows):
            z = self.values[start : start + rows] - centre
            # Reductions over an axis of two views are slow in numpy; sums of slices are not.
            by_view = np.stack([z[:, :, v].mean(axis=1) for v in range(views)], axis=1)
            mean = by_view.mean(axis=1)
            by_epoch = np.add.reduce([z[:, :, v] for v in range(views)]) / views
            block = out[start : start + rows]
            block[:, 0] = epochs * views * mean**2
            block[:, 1] = epochs * ((by_view - mean[:, None]) ** 2).sum(axis=1)
            block[:, 2] = views * np.einsum("ne,ne->n", by_epoch - mean[:, None], by_epoch - mean[:, None])
            block[:, 3] = 0.0
            for v in range(views):
                rest = z[:, :, v] - by_epoch - (by_view[:, v] - mean)[:, None]
                block[:, 3] += np.einsum("ne,ne->n", rest, rest)
        return out

    def over_views(self) -> Array:
        """``[n, E]`` means over views."""
        views = self.values.shape[2]
        return np.asarray(sum(self.values[:, :, v].astype(np.float64) for v in range(views)) / views)

    def between_views(self) -> Array:
        """``[n, E, V − 1]`` orthonormal contrasts of the views."""
        views = self.values.shape[2]
        helmert = np.zeros((views, views - 1))
        for j in range(1, views):
            helmert[:j, j - 1], helmert[j, j - 1] = 1.0, -j
        helmert /= np.linalg.norm(helmert, axis=0, keepdims=True) if views > 1 else 1.0
        return np.asarray(self.values.astype(np.float64, copy=False) @ helmert)
