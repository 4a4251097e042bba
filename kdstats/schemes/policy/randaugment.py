"""RandAugment: a few operations drawn alike, all at one strength."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import integers, uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.policy.on_pixels import OnPixels
from kdstats.schemes.policy.operations import Ranges, operate_each, scales, strengths
from kdstats.schemes.space import PixelSpace

# All but Invert: Cubuk et al. 2020, section 3.
CHOICES = 14


class RandAugment(OnPixels):
    """RandAugment (Cubuk et al. 2020): ``num_ops`` operations one after the other, drawn with replacement.

    The fourteen operations, their strengths (AutoAugment's ranges cut into ``num_magnitude_bins``), the coin for
    the direction, nearest neighbour and black from outside are those of ``torchvision.transforms.v2.RandAugment``,
    and so are the defaults: 2 operations at position 9 of 31. The paper tunes both per model and data set.

    Args:
        num_ops: Operations per view, at least 1.
        magnitude: Position of every strength on its scale, from 0 (weakest) to ``num_magnitude_bins`` − 1.
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
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        quantise: str = "round",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        if not 1 <= num_ops <= 64:
            raise UsageError(f"{name}: num_ops lies in 1…64, not {num_ops}; `identity` does nothing")
        if not 2 <= num_magnitude_bins <= 1024:
            raise UsageError(f"{name}: num_magnitude_bins lies in 2…1024, not {num_magnitude_bins}")
        if not 0 <= magnitude < num_magnitude_bins:
            raise UsageError(f"{name}: magnitude lies in 0…{num_magnitude_bins - 1}, not {magnitude}")
        self.num_ops, self.magnitude, self.num_magnitude_bins = num_ops, magnitude, num_magnitude_bins

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "draw": f"{self.num_ops} of {CHOICES} operations with replacement and their directions (even odds), "
            f"per {self.per}; every strength at position {self.magnitude} of 0…{self.num_magnitude_bins - 1}",
            **super().rules(),
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 2 * self.num_ops, gen)
        operation = integers(u[:, : self.num_ops], 0, CHOICES - 1)
        return Draw(self.name, {"operation": operation, "negative": u[:, self.num_ops :] < 0.5})

    def _change(self, pixels: Tensor, draw: Draw) -> Tensor:
        operation = draw.params["operation"]  # [1 or B, num_ops], positions in OPERATIONS
        table = scales(Ranges(), self.num_magnitude_bins, *pixels.shape[2:])
        level = torch.full_like(operation, self.magnitude)
        strength = strengths(table, operation, level, draw.params["negative"])
        always = torch.ones(len(operation), dtype=torch.bool)
        for step in range(self.num_ops):
            pixels = operate_each(pixels, operation[:, step], strength[:, step], always)
        return pixels
