"""identity, flip, crop and crop+flip."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.keys import integers, uniforms
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


def crop_at(images: Tensor, top: Tensor, left: Tensor, padding: int, fill: Tensor) -> Tensor:
    """Pads by ``padding`` on each side and cuts the original size out again.

    Args:
        images: ``[B, channels, H, W]``.
        top: ``[1]`` or ``[B]`` int64, first row of the window in the padded image, 0 … 2·padding.
        left: Likewise, first column.
        padding: Pixels.
        fill: ``[1, channels or 1, 1, 1]``, the value of the padding.
    """
    b, c, h, w = images.shape
    padded = fill.to(images).expand(b, c, h + 2 * padding, w + 2 * padding).clone()
    padded[:, :, padding : padding + h, padding : padding + w] = images
    if len(top) == 1:
        y, x = int(top), int(left)
        return padded[:, :, y : y + h, x : x + w].contiguous()
    rows = (top.to(images.device)[:, None] + torch.arange(h, device=images.device))[:, None, :, None]
    columns = (left.to(images.device)[:, None] + torch.arange(w, device=images.device))[:, None, None, :]
    width = w + 2 * padding
    flat = (rows * width + columns).expand(b, c, h, w).reshape(b, c, h * w)
    return padded.reshape(b, c, -1).gather(2, flat).reshape(b, c, h, w)


def flip_where(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirrors left and right where ``flipped`` (``[1]`` or ``[B]`` bool) says so; a new tensor."""
    if len(flipped) == 1:
        return images.flip(3) if bool(flipped) else images.clone()
    return torch.where(flipped.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


class Identity(Scheme):
    """The view is a copy of the original: KL(x) counts twice. The baseline of every comparison."""

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        return Draw(self.name)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        return images.clone()


class CropFlip(Scheme):
    """Random crop after zero (black) padding and/or horizontal flip with probability ``p``.

    Wang et al. 2022 (Good-DA-in-KD, ``crop``/``flip`` modes): padding is an eighth of the image size (4 at 32,
    8 at 64, 28 at 224), one offset and one flip for the whole batch. They pass through uint8 by truncation;
    here the tensors are moved as they are, so an unflipped view equals its original.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        crop: bool,
        flip: bool,
        padding: int | None = None,
        p: float = 0.5,
    ) -> None:
        super().__init__(name, draws, space)
        if not 0 <= p <= 1:
            raise UsageError(f"{name}: the probability of a flip lies in 0…1, not {p}")
        if padding is not None and padding < 0:
            raise UsageError(f"{name}: padding is a number of pixels, not {padding}")
        self.crop, self.flip, self.padding, self.p = crop, flip, padding, p

    def _pad(self, images: Tensor) -> int:
        return images.shape[2] // 8 if self.padding is None else self.padding

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 3, gen)
        pad = self._pad(images)
        params: dict[str, Tensor] = {}
        if self.crop:
            params |= {"top": integers(u[:, 0], 0, 2 * pad), "left": integers(u[:, 1], 0, 2 * pad)}
        if self.flip:
            params["flipped"] = u[:, 2] < self.p
        return Draw(self.name, params)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        out = images
        if self.crop:
            p = draw.params
            out = crop_at(out, p["top"], p["left"], self._pad(images), self.space.black(images))
        return flip_where(out, draw.params["flipped"]) if self.flip else out
