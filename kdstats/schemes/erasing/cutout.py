"""cutout: a square of the image set to the data set's mean colour."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.boxes import around, erase
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


class Cutout(Scheme):
    """Cutout (DeVries & Taylor 2017) as in Wang et al. 2022.

    A square of side a quarter of the image (8 at 32, 16 at 64, 56 at 224) around a uniform centre, clipped at
    the borders, filled with 0 in normalised space, which is the mean colour of the data set.
    """

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, side: int | None = None
    ) -> None:
        super().__init__(name, draws, space)
        if side is not None and side < 1:
            raise UsageError(f"{name}: the side of the hole is a number of pixels, not {side}")
        self.side = side

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        h, w = images.shape[2:]
        u = uniforms(self.draws, sample_id, 2, gen)
        half = np.full(len(u), (self.side or h // 4) // 2)
        edges = around(u[:, 0].numpy(), u[:, 1].numpy(), half, half, h, w)
        return Draw(self.name, {"box": torch.from_numpy(np.stack(edges, axis=1))})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        return erase(images, draw.params["box"])

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        side = "H // 4" if self.side is None else f"{self.side} pixels"
        return {
            "box": f"a square of side {side} around a uniform centre, half sizes rounded down, clipped at the "
            f"borders; one per {self.per}",
            "fill": "0 in normalised space: the data set's mean colour",
            "space": "normalised floats",
        }
