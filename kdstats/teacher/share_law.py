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
        self._drawn: list[NDArray[np.float64]] = []

    @staticmethod
    def of(scheme: Scheme, shape: torch.Size, seed: int) -> ShareLaw | None:
        """The law, or None where a batch has no λ of its own, or one that hangs on what the scheme sees."""
        return ShareLaw(scheme, shape, seed) if scheme.shares_by_draw and scheme.draws == "batch" else None

    def row(self, images: Tensor, draw: Draw) -> NDArray[np.float64]:
        """``[2]`` of one batch."""
        return _row(self._scheme.shares(images, draw))

    def drawn(self, rows: Sequence[NDArray[np.float64]]) -> Drawn:
        """What is known of the rows of J batches."""
        for number in range(len(self._drawn), _PER_BATCH * len(rows)):
            gen = generator(self._seed, "law", self._scheme.name, number)
            self._drawn.append(_row(self._scheme.draw_shares(self._like, generator=gen)))
        law = np.stack(self._drawn)
        return Drawn(np.stack(rows), law.mean(axis=0), np.cov(law.T), len(law))


def _row(shares: Tensor) -> NDArray[np.float64]:
    lam = shares.double()
    return np.array([float(lam.mean()), float((lam * lam).mean())])
