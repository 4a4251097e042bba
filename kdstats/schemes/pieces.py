"""Changing some images of a batch and leaving the others alone, in pieces that a CPU's cache holds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Floats per piece on a CPU (2 MB). A chain of element-wise steps over a batch that outgrows the cache waits for
# memory at every step. Measured on 256x3x64x64 with 2**15 … 2**20 and the whole batch: this is the best for
# blurring (half the time of the whole batch at once), and for colour jitter nothing larger is better.
# 64x3x32x32 is one piece.
PIECE = 2**19


def change_where(images: Tensor, on: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``images`` with those that are ``on`` changed; the others are copied bit for bit.

    Args:
        images: ``[B, channels, H, W]``; never written to.
        on: ``[1]`` (all or none) or ``[B]`` bool, on the CPU.
        change: (some of the images ``[n, …]``, their positions ``[n]`` int64 on the CPU) → their views, a new
            tensor of the same shape and dtype. What it makes of an image must not depend on the other images.
    """
    rows = on.expand(len(images)).nonzero()[:, 0]
    if not len(rows):
        return images.clone()
    whole = images.device.type != "cpu"
    parts = torch.split(rows, len(rows) if whole else max(1, PIECE // images[0].numel()))
    if len(rows) < len(images):
        out = images.clone()
        for part in parts:
            where = part.to(images.device)
            out.index_copy_(0, where, change(images.index_select(0, where), part))
        return out
    if len(parts) == 1:
        return change(images, rows)
    return torch.cat([change(images[int(part[0]) : int(part[-1]) + 1], part) for part in parts])


def rows_of(value: Tensor, rows: Tensor) -> Tensor:
    """The entries of a drawn ``value`` for the images at ``rows``; a draw for the whole batch stays ``[1, …]``."""
    return value if len(value) == 1 else value[rows]
