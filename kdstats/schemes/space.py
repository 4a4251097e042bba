"""The pixel space of a batch: how normalised floats relate to the 0…255 of the image files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PixelSpace:
    """Normalisation constants, fractions of one. The default says: the images are plain values in [0, 1]."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean, device=like.device, dtype=torch.float32).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=like.device, dtype=torch.float32).view(1, -1, 1, 1)
        return mean, std

    def black(self, like: Tensor) -> Tensor:
        """Black in the space of ``like``: ``[1, channels or 1, 1, 1]``."""
        mean, std = self._constants(like)
        return (-mean / std).to(like.dtype)

    def to_uint8(self, images: Tensor) -> Tensor:
        """Normalised floats → uint8, rounded to the nearest grey level.

        The published code truncates instead, which darkens views by up to one level even when the transform
        does nothing (127.99999 becomes 127); rounding returns every image that came from a file exactly.
        """
        mean, std = self._constants(images)
        return (images.float() * std + mean).mul_(255.0).round_().clamp_(0, 255).to(torch.uint8)

    def from_uint8(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of :meth:`to_uint8`, in ``dtype``."""
        mean, std = self._constants(pixels)
        return ((pixels.float() / 255.0 - mean) / std).to(dtype)
