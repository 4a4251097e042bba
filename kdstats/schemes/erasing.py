"""cutout: a square of the image set to the data set's mean colour."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.keys import integers, uniforms
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


def box_mask(box: Tensor, height: int, width: int) -> Tensor:
    """``[B, 1, H, W]`` bool, true inside the boxes ``[B, 4]`` = (top, bottom, left, right), ends excluded."""
    rows = torch.arange(height, device=box.device).view(1, -1, 1)
    columns = torch.arange(width, device=box.device).view(1, 1, -1)
    top, bottom, left, right = (box[:, i].view(-1, 1, 1) for i in range(4))
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[:, None]


def clipped_box(cy: Tensor, cx: Tensor, cut_h: Tensor, cut_w: Tensor, height: int, width: int) -> Tensor:
    """Boxes ``[B, 4]`` around the centres, half sizes rounded down, clipped (not shifted) at the borders."""
    top = (cy - cut_h // 2).clamp(0, height)
    bottom = (cy + cut_h // 2).clamp(0, height)
    left = (cx - cut_w // 2).clamp(0, width)
    right = (cx + cut_w // 2).clamp(0, width)
    return torch.stack([top, bottom, left, right], dim=1)


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
        side = torch.full((len(u),), self.side or h // 4)
        cy, cx = integers(u[:, 0], 0, h - 1), integers(u[:, 1], 0, w - 1)
        return Draw(self.name, {"box": clipped_box(cy, cx, side, side, h, w)})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        box = draw.params["box"]
        if len(box) == 1:
            top, bottom, left, right = box[0].tolist()
            out = images.clone()
            out[:, :, top:bottom, left:right] = 0
            return out
        return images.masked_fill(box_mask(box.to(images.device), *images.shape[2:]), 0)
