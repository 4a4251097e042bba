"""Shear, translate and rotate uint8 images, each by its own amount; what comes in from outside is black.

They equal torchvision's ``transforms.v2`` bit for bit on the CPU. With ``nearest`` many pixels lie half-way
between two others, so that the last bit of their float32 position decides which of the two they show: hence the
care about where a number is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def move(pixels: Tensor, members: Sequence[tuple[str, Tensor]], interpolation: str = "nearest") -> Tensor:
    """Moves consecutive images by the moves that ``members`` name.

    Args:
        pixels: ``[n, channels, H, W]`` uint8 on any device; not written to.
        members: Name and strengths (float64 on the CPU, one per image) of each run of images, together n; or a
            single name with one strength for all. Slope for shears, pixels for translations (fractions are
            dropped), degrees against the clock for rotations.
        interpolation: ``nearest`` or ``bilinear``.

    Returns:
        ``[n, channels, H, W]`` uint8.
    """
    n, _, height, width = pixels.shape
    matrices: list[Tensor] = []
    places: list[Tensor] = []
    count = 0
    for name, strength in members:
        # Strengths come from short scales: each grid is made once, however many images it moves.
        levels, place = torch.unique(strength, return_inverse=True)
        matrices.append(_inverse(name, levels, height, width))
        places.append(place + count)
        count += len(levels)
    grid = _grid(torch.cat(matrices), height, width, pixels.device)
    if count > 1:
        grid = grid.index_select(0, torch.cat(places).to(pixels.device))
    moved = grid_sample(
        pixels.float(),
        grid.view(-1, height, width, 2).expand(n, -1, -1, -1),
        mode=interpolation,
        padding_mode="zeros",
        align_corners=False,
    )
    return moved.round_().to(torch.int16).to(torch.uint8)  # by way of int16: see operations.to_uint8


def _inverse(name: str, strength: Tensor, height: int, width: int) -> Tensor:
    """``[n, 2, 3]`` float64: where each pixel comes from, in pixels from the centre; shears keep the corner."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    if name == "Rotate":
        angle = torch.deg2rad(-torch.remainder(strength, 360.0))
        rows = [angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero]
    elif name == "TranslateX":
        rows = [one, zero, -strength.trunc(), zero, one, zero]
    elif name == "TranslateY":
        rows = [one, zero, zero, zero, one, -strength.trunc()]
    else:
        slope = torch.tensor([_slope(name, s) for s in strength.tolist()], dtype=torch.float64)
        x, y = -0.5 * width, -0.5 * height
        if name == "ShearX":
            rows = [one, slope, -slope * y, zero, one, zero]
        else:
            rows = [one, zero, zero, slope, one, (y - slope * x) - y]
    return torch.stack(rows, 1).view(-1, 2, 3)


@lru_cache(maxsize=4096)
def _slope(name: str, shear: float) -> float:
    """The slope after torchvision's way through degrees: the same but for the last bit of a float64.

    Half a side times the slope often lies half-way between two float32, and then this bit decides. Python's own
    functions, because torch's differ from them in it.
    """
    angle = math.radians(math.degrees(math.atan(shear)))
    return math.tan(angle) if name == "ShearX" else math.sin(angle) / math.cos(angle)


def _grid(inverse: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """``[n, H·W, 2]`` float32: source of each pixel as ``grid_sample`` wants it, −1…1 from edge to edge."""
    half = torch.tensor([0.5 * width, 0.5 * height], device=device)
    matrix = inverse.to(device, torch.float32).transpose(1, 2) / half
    y, x = (torch.linspace((1.0 - n) * 0.5, (n - 1.0) * 0.5, n, device=device) for n in (height, width))
    positions = torch.ones(height, width, 3, device=device)
    positions[..., 0], positions[..., 1] = x, y[:, None]
    # A product of this very shape per matrix: others are up to ten times faster, but add the three terms in
    # another order or without rounding in between.
    return positions.view(1, -1, 3).expand(len(matrix), -1, -1).bmm(matrix)
