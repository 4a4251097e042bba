"""Spread of single originals: what a pass of the teacher over them says before any view is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OriginalsMoments:
    """Spread of the teacher's probabilities over the originals, from a pass under the standard augmentation.

    Attributes:
        total: ``[C]`` variance of one image's probability over images and standard augmentation.
        between: Share of it that lies between images (the rest is the standard augmentation), 0 … 1.
        exact: Whether ``total`` comes from all images of the training set, so that it may serve as a control.
        log_se: What the standard augmentation's chance leaves uncertain in ``log mean_c sqrt(total_c)``; with
            the images all seen, nothing else does.
    """

    total: Array
    between: float
    exact: bool
    log_se: float = 0.0

    @staticmethod
    def of(first: Array, second: Array | None, *, exact: bool) -> OriginalsMoments:
        """From probabilities ``[m, C]`` of m images, and of the first m' ≤ m of them under a second draw."""
        first = np.asarray(first, dtype=np.float64)  # sums over all images in float32 lose the fourth digit
        total = first.var(axis=0, ddof=1)
        if second is None:
            return OriginalsMoments(total, 1.0, exact)
        second = np.asarray(second, dtype=np.float64)
        head = first[: len(second)]
        # Two draws of the same image share what lies between images and nothing else.
        covariance = ((head - head.mean(axis=0)) * (second - second.mean(axis=0))).sum() / (len(second) - 1)
        spread = 0.5 * (head.var(axis=0, ddof=1).sum() + second.var(axis=0, ddof=1).sum())
        between = float(np.clip(covariance / spread, 0.0, 1.0)) if spread else 1.0
        # Influence of an image on log mean_c sqrt(total_c), under either draw; half their squared difference is
        # the part that the draw is responsible for.
        sd, centre = np.sqrt(total), first.mean(axis=0)
        weight = np.divide(0.5 / sd.sum(), sd, out=np.zeros_like(sd), where=sd > 0)
        gap = ((head - centre) ** 2 - (second - centre) ** 2) @ weight
        return OriginalsMoments(total, between, exact, float(np.sqrt(0.5 * (gap**2).mean() / len(first))))
