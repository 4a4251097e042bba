"""The law of the shares λ that a scheme draws for its batches, from draws without images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstats.draws.keys import generator
from kdstats.estimators.controls import Drawn
from kdstats.schemes import Draw, Scheme

# Draws per batch that is measured. What is left uncertain of the mean adds a thirtieth of what λ explains.
_PER_BATCH = 30


class ShareLaw:
    """Mean λ and mean λ² of the batches of a scheme: how far its views are softened hangs on little else."""

    def __init__(self, scheme: Scheme, shape: torch.Size, seed: int) -> None:
        """``shape`` is that of a batch of images; the law may hang on it, for example by rounding to pixels."""
        self._scheme, self._seed = scheme, seed
        self._like = torch.zeros(()).expand(shape)
        self._law = np.empty((0, 2))

    @staticmethod
    def of(scheme: Scheme, shape: torch.Size, seed: int) -> ShareLaw | None:
        """The law, or None where a batch has no λ of its own, or one that hangs on what the scheme sees."""
        return ShareLaw(scheme, shape, seed) if scheme.shares_by_draw and scheme.draws == "batch" else None

    def row(self, images: Tensor, draw: Draw) -> NDArray[np.float64]:
        """``[2]`` of one batch."""
        return _row(self._scheme.shares(images, draw))

    def drawn(self, rows: Sequence[NDArray[np.float64]]) -> Drawn:
        """What is known of the rows of J batches."""
        numbers = range(len(self._law), _PER_BATCH * len(rows))
        self._law = np.concatenate([self._law, *(self._draw(number) for number in numbers)])
        return Drawn(np.stack(rows), self._law.mean(axis=0), np.cov(self._law.T), len(self._law))

    def _draw(self, number: int) -> NDArray[np.float64]:
        gen = generator(self._seed, "law", self._scheme.name, number)
        return _row(self._scheme.draw_shares(self._like, generator=gen))[None]


def _row(shares: Tensor) -> NDArray[np.float64]:
    lam = shares.double()
    return np.array([float(lam.mean()), float((lam * lam).mean())])
