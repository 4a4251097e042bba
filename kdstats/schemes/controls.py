"""The two controls: views that are all the same as their originals, and views that are all one image."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme


class Identity(Scheme):
    """The view is a copy of the original: KL(x) counts twice. The baseline of every comparison."""

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        return Draw(self.name)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        return images.clone()


class Same(Scheme):
    """Every view is the first image of the batch (Good-DA-in-KD, ``mix_mode same``).

    Views that depend on each other as much as views can: the negative control for the theory. Nothing is drawn,
    and the first image is whatever the shuffle put there.
    """

    by_position = True

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        return Draw(self.name)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        return images[:1].expand_as(images).clone()

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        first = torch.zeros(len(images), dtype=torch.int64)
        return first, first, torch.ones(len(images))
