"""The pixel space of a batch: how normalised floats relate to the 0…255 of the image files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

QUANTISE = ("round", "truncate")


def in_words(quantise: str) -> str:
    """How a scheme goes through uint8, for people."""
    return {
        "none": "normalised floats",
        "round": "uint8, rounded",
        "truncate": "uint8, truncated as published",
    }[quantise]


@dataclass(frozen=True)
class PixelSpace:
    """Normalisation constants, fractions of one. The default says: the images are plain values in [0, 1]."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def black(self, like: Tensor) -> Tensor:
        """Black in the space of ``like``: ``[1, channels or 1, 1, 1]``."""
        return _black(self, like.device, like.dtype)

    def to_uint8(self, images: Tensor, quantise: str = "round") -> Tensor:
        """Normalised floats → uint8.

        Args:
            images: ``[B, channels, H, W]``.
            quantise: ``round`` to the nearest grey level, which returns every image that came from a file
                exactly; or ``truncate`` as Good-DA-in-KD does, which darkens views by up to one level even
                where the transform does nothing (127.99999 becomes 127).
        """
        mean, std = _constants(self, images.device)
        levels = (images.float() * std + mean).mul_(255.0)
        levels = levels.round_() if quantise == "round" else levels.trunc_()
        return levels.clamp_(0, 255).to(torch.uint8)

    def from_uint8(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of :meth:`to_uint8`, in ``dtype``."""
        mean, std = _constants(self, pixels.device)
        return ((pixels.float() / 255.0 - mean) / std).to(dtype)


# A batch of small images takes as long as making a handful of tensors, so these are made once.
@lru_cache(maxsize=64)
def _constants(space: PixelSpace, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # kept for calls outside of it too
        mean, std = (torch.tensor(v, dtype=torch.float32, device=device) for v in (space.mean, space.std))
    return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)


@lru_cache(maxsize=64)
def _black(space: PixelSpace, device: torch.device, dtype: torch.dtype) -> Tensor:
    mean, std = _constants(space, device)
    with torch.inference_mode(False):
        return (-mean / std).to(dtype)
