"""TrivialAugment: one operation at one strength, both drawn alike."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import integers, uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.policy.on_pixels import OnPixels
from kdstats.schemes.policy.operations import Ranges, operate_each, scales, strengths
from kdstats.schemes.space import PixelSpace

CHOICES = 14
# Translations by up to 32 pixels whatever the image's size: at 32×32 and below the strongest leave it black.
WIDE = Ranges(shear=0.99, shift=32.0, shift_in_pixels=True, rotate=135.0, blend=0.99, bits=(8, 2))


class TrivialAugment(OnPixels):
    """TrivialAugment Wide (Müller & Hutter 2021): one of fourteen operations at a strength drawn uniformly.

    Operations, the wide ranges, 31 strengths, the coin for the direction, nearest neighbour and black from outside
    are those of ``torchvision.transforms.v2.TrivialAugmentWide``.

    Args:
        num_magnitude_bins: Positions on a scale, at least 2.
        quantise: See :class:`OnPixels`.

    Raises:
        UsageError: A parameter out of its range.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        num_magnitude_bins: int = 31,
        quantise: str = "round",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        if not 2 <= num_magnitude_bins <= 1024:
            raise UsageError(f"{name}: num_magnitude_bins lies in 2…1024, not {num_magnitude_bins}")
        self.num_magnitude_bins = num_magnitude_bins

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "draw": f"one of {CHOICES} operations, one of its {self.num_magnitude_bins} strengths and its direction "
            f"(even odds), per {self.per}",
            **super().rules(),
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 3, gen)
        operation, level = (
            integers(u[:, i], 0, n - 1) for i, n in enumerate((CHOICES, self.num_magnitude_bins))
        )
        return Draw(self.name, {"operation": operation, "level": level, "negative": u[:, 2] < 0.5})

    def _change(self, pixels: Tensor, draw: Draw) -> Tensor:
        operation, level, negative = (draw.params[k] for k in ("operation", "level", "negative"))
        table = scales(WIDE, self.num_magnitude_bins, *pixels.shape[2:])
        always = torch.ones(len(operation), dtype=torch.bool)
        return operate_each(pixels, operation, strengths(table, operation, level, negative), always)
