"""The data sets' standard augmentation ("base"), on top of which every scheme acts.

Per image, on uint8, before normalisation; drawn from (seed, epoch, sample_id), so it is the same for every
scheme, batch size and worker count.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from kdstats.draws.keys import generator, integers, uniforms
from kdstats.draws.moves import crop_at, flip_where
from kdstats.errors import UsageError

_FORM = re.compile(r"(?:crop(?P<pad>[0-9]+))?(?P<plus>\+)?(?P<flip>flip)?")


class StandardAugmentation:
    """``crop4+flip``, ``crop8+flip``, ``crop1``, ``flip`` or ``none``: zero padding, random crop, random flip."""

    def __init__(self, name: str) -> None:
        self.name = name
        found = _FORM.fullmatch("" if name == "none" else name)
        if found is None or (not name) or bool(found["plus"]) != bool(found["pad"] and found["flip"]):
            raise UsageError(
                f"no standard augmentation {name!r}; known are none, flip, cropN and cropN+flip with N pixels "
                "of padding, for example crop4+flip"
            )
        self.padding = int(found["pad"] or 0)
        self.flip = found["flip"] is not None

    def apply(self, images: Tensor, sample_id: Tensor, seed: int, epoch: int) -> Tensor:
        """New uint8 images of the same shape ``[B, channels, H, W]``.

        Raises:
            UsageError: The padding is more than half the image size.
        """
        if 2 * self.padding > min(images.shape[2:]):
            raise UsageError(
                f"standard augmentation {self.name} pads {self.padding} pixels around images of "
                f"{images.shape[3]}x{images.shape[2]}; at most half the image size makes sense"
            )
        u = uniforms("sample", sample_id, 3, generator(seed, "base", epoch))
        out = images
        if self.padding:
            top, left = (integers(u[:, i], 0, 2 * self.padding) for i in (0, 1))
            out = crop_at(out, top, left, self.padding, torch.zeros(1, 1, 1, 1, dtype=images.dtype))
        if self.flip:
            out = flip_where(out, u[:, 2] < 0.5)
        return out
