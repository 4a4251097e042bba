"""Mixes every second square of another image into each image: a scheme from outside kdstats."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError
from kdstats.schemes import (
    Draw,
    PixelSpace,
    Scheme,
    batch_partners,
    integers,
    sample_partners,
    uniforms,
)


class Checkerboard(Scheme):
    """A checkerboard of ``squares`` × ``squares``; which of its two colours is pasted is drawn."""

    # What `kdstats schemes list` shows.
    family = "mixing"
    reference = "an example, published nowhere"
    label = "Checkerboard"
    # What the registry and the laws need to know.
    mixes = True
    least = 2

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, squares: int = 4
    ) -> None:
        super().__init__(name, draws, space)
        if squares < 2:
            raise UsageError(f"{name}: a checkerboard has at least 2 squares a side, not {squares}")
        self.squares = squares

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        # Everything at random, from shapes and ids alone. `uniforms` gives one row per batch or one per image.
        u = uniforms(self.draws, sample_id, 3, gen)
        colour = integers(u[:, 0], 0, 1)
        if self.draws == "batch":
            partner = batch_partners("derangement", len(images), gen)
        else:
            partner = sample_partners("derangement", u[:, 1], u[:, 2])
        return Draw(self.name, {"colour": colour, "partner": partner})

    def _mask(self, colour: Tensor, height: int, width: int) -> Tensor:
        """``[B or 1, H, W]`` bool: where the partner shows."""
        rows = torch.arange(height, device=colour.device)[:, None] * self.squares // height
        columns = torch.arange(width, device=colour.device)[None] * self.squares // width
        return ((rows + columns) % 2)[None] == colour[:, None, None]

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        # A function of images and draw, on the images' device, that does not write to them.
        mask = self._mask(draw.params["colour"].to(images.device), *images.shape[2:])
        return torch.where(mask[:, None], images[draw.params["partner"].to(images.device)], images)

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        # Base image, partner and λ of every view, on the CPU; λ counts pixels.
        n = len(images)
        mask = self._mask(draw.params["colour"], *images.shape[2:])
        return torch.arange(n), draw.params["partner"], (1 - mask.float().mean((1, 2))).expand(n)

    def rules(self) -> dict[str, str]:
        """What `kdstats schemes show checkerboard` prints."""
        return {
            "λ": "1 − the share of squares pasted",
            "box": f"every second square of a {self.squares}x{self.squares} checkerboard; which half is drawn per "
            + ("batch" if self.draws == "batch" else "image"),
            "partner": "another image",
            "space": "normalised floats",
        }
