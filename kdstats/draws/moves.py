"""Crop and flip at given places, as schemes and the data sets' standard augmentation both do them."""

from __future__ import annotations

import torch
from torch import Tensor


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
    # Every row of the result is `w` consecutive numbers of the padded images: a table of all such windows, which
    # overlap in memory, is indexed once per row instead of once per pixel.
    device, high, wide = images.device, h + 2 * padding, w + 2 * padding
    first = torch.arange(b * c, device=device) * (high * wide)
    first += (top * wide + left).to(device).repeat_interleave(c)
    rows = first[:, None] + torch.arange(h, device=device) * wide
    windows = padded.view(-1).as_strided((padded.numel() - w + 1, w), (1, 1))
    return windows.index_select(0, rows.view(-1)).view(b, c, h, w)


def flip_where(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirrors left and right where ``flipped`` (``[1]`` or ``[B]`` bool) says so; a new tensor."""
    if len(flipped) == 1:
        return images.flip(3) if bool(flipped) else images.clone()
    out = images.clone()
    rows = flipped.nonzero()[:, 0].to(images.device)
    return out.index_copy_(0, rows, images.index_select(0, rows).flip(3))
