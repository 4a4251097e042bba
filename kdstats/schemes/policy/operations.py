"""The fifteen image operations that AutoAugment, RandAugment, TrivialAugment and AugMix are made of.

They work on uint8 images, and every image of a batch may have an operation and a strength of its own. Each
image equals torchvision's ``transforms.v2`` bit for bit on the CPU, which fixes some choices that look odd: where
a number is float32 and where float64, and in which step it is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kdstats.schemes.pieces import PIECE
from kdstats.schemes.policy.moves import MOVES, move

BLENDS = ("Brightness", "Color", "Contrast")
_REST = ("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert")
# RandAugment and TrivialAugment draw from the first fourteen, AutoAugment has Invert as well.
OPERATIONS = ("Identity", *MOVES, *BLENDS, *_REST)
SIGNED = frozenset((*MOVES, *BLENDS, "Sharpness"))
_HAS_SIGN = torch.tensor([name in SIGNED for name in OPERATIONS])


@dataclass(frozen=True)
class Ranges:
    """How strong each operation is at the top of its scale; at the bottom it does nothing.

    The defaults are AutoAugment's (Cubuk et al. 2019, table 6) as torchvision has them.

    Attributes:
        shear: Pixels sideways per pixel.
        shift: Share of the image's side, or pixels where ``shift_in_pixels``.
        shift_in_pixels: See ``shift``.
        rotate: Degrees.
        blend: Distance of the factor of brightness, colour, contrast and sharpness from 1.
        bits: Bits that Posterize keeps at the bottom and at the top.
    """

    shear: float = 0.3
    shift: float = 150.0 / 331.0
    shift_in_pixels: bool = False
    rotate: float = 30.0
    blend: float = 0.9
    bits: tuple[int, int] = (8, 4)

    def _top(self, name: str, height: int, width: int) -> float:
        if name.startswith("Translate"):
            side = width if name.endswith("X") else height
            return self.shift if self.shift_in_pixels else self.shift * side
        if name.startswith("Shear"):
            return self.shear
        return self.rotate if name == "Rotate" else self.blend

    def scale(self, name: str, bins: int, height: int, width: int) -> Tensor:
        """``[bins]`` float64: the strengths of one operation, zero where it has none.

        The steps are taken in float32, as torchvision's: in float64 some would round to their neighbour.
        """
        if name in SIGNED:
            return torch.linspace(0.0, self._top(name, height, width), bins).double()
        if name == "Solarize":
            return torch.linspace(1.0, 0.0, bins).double()
        if name == "Posterize":
            most, least = self.bits
            # round() takes halves to the even neighbour, as the table that this must equal does.
            return (most - torch.arange(bins) / ((bins - 1) / (most - least))).round().double()
        return torch.zeros(bins, dtype=torch.float64)


@lru_cache(maxsize=64)
def scales(ranges: Ranges, bins: int, height: int, width: int) -> Tensor:
    """``[operations, bins]`` float64 on the CPU: :meth:`Ranges.scale` for all of :data:`OPERATIONS`."""
    return torch.stack([ranges.scale(name, bins, height, width) for name in OPERATIONS])


def strengths(table: Tensor, operation: Tensor, level: Tensor, negative: Tensor) -> Tensor:
    """The strength of each drawn operation, float64.

    Args:
        table: From :func:`scales`.
        operation: Any shape, int64 positions in :data:`OPERATIONS`.
        level: Positions on the scale, counted from 0; the same shape, or one for all.
        negative: Bool, same shape; turns the operations that have a direction.
    """
    size = table[operation, level]
    return torch.where(negative & _HAS_SIGN[operation], -size, size)


def operate(pixels: Tensor, name: str, strength: Tensor, interpolation: str = "nearest") -> Tensor:
    """One operation on all images, each at its own strength.

    Args:
        pixels: ``[n, 1 or 3, H, W]`` uint8 on any device; not written to.
        name: One of :data:`OPERATIONS`.
        strength: ``[n]``, or ``[1]`` for all, float64 on the CPU: see :func:`~kdstats.schemes.policy.moves.move`; factor
            minus one (brightness, colour, contrast, sharpness), bits kept (posterize), share of 255 from which on
            values are inverted (solarize). The others have none.
        interpolation: ``nearest`` or ``bilinear``, for the moves.

    Returns:
        ``[n, 1 or 3, H, W]`` uint8, ``pixels`` itself where nothing changes.
    """
    from torchvision.transforms.v2 import functional as tv

    piece = max(1, PIECE // pixels[0].numel())
    if len(strength) == 1 and name in SIGNED and len(pixels) > piece and pixels.device.type == "cpu":
        # These make float images, which should not outgrow the cache: see PIECE.
        parts = torch.split(pixels, piece)
        return torch.cat([operate(part, name, strength, interpolation) for part in parts])
    if name in MOVES:
        return move(pixels, [(name, strength)], interpolation)
    if name in BLENDS:
        return _blend(pixels, [(name, strength)])
    if name == "Sharpness":
        return _sharpen(pixels, strength)
    if name == "Posterize":
        mask = (255 << (8 - strength.long())) & 255
        return pixels & mask.to(pixels.device, torch.uint8).view(-1, 1, 1, 1)
    if name == "Solarize":
        # Rounded to float32 before it is rounded up, as the threshold of a comparison is.
        least = (255.0 * strength).float().ceil().to(pixels.device, torch.uint8).view(-1, 1, 1, 1)
        return pixels ^ (pixels >= least).view(torch.uint8).neg()
    if name == "Identity":
        return pixels
    plain = {"AutoContrast": tv.autocontrast, "Equalize": tv.equalize, "Invert": tv.invert}
    out: Tensor = plain[name](pixels)
    return out


def operate_each(
    pixels: Tensor, operation: Tensor, strength: Tensor, active: Tensor, interpolation: str = "nearest"
) -> Tensor:
    """Applies to each image the operation drawn for it, in at most nine groups whatever the batch size.

    Args:
        pixels: ``[n, 1 or 3, H, W]`` uint8; not written to.
        operation: ``[n]``, or ``[1]`` for the whole batch, int64 positions in :data:`OPERATIONS` on the CPU.
        strength: Same length, see :func:`operate`.
        active: Same length, bool; where False the image stays as it is.
        interpolation: See :func:`operate`.

    Returns:
        ``[n, 1 or 3, H, W]`` uint8; ``pixels`` itself where nothing changes.
    """
    if len(operation) == 1:
        name = OPERATIONS[int(operation)] if bool(active) else "Identity"
        return operate(pixels, name, strength, interpolation)
    kind, order = torch.where(active, operation, 0).sort(stable=True)
    sizes = torch.bincount(kind, minlength=len(OPERATIONS)).tolist()
    parts = torch.split(strength[order], sizes)
    found = {name: part for name, part in zip(OPERATIONS, parts, strict=True) if len(part)}
    # index_select copies whole images where indexing goes byte by byte.
    source = pixels.index_select(0, order.to(pixels.device))
    done: list[Tensor] = []
    start = 0
    # Moves differ in a matrix only, blends in the image blended with: a group each, instead of five and three.
    for family in (("Identity",), MOVES, BLENDS, *((name,) for name in _REST)):
        members = [(name, found[name]) for name in family if name in found]
        rows = source[start : start + sum(len(part) for _, part in members)]
        start += len(rows)
        if members and family is MOVES:
            done.append(move(rows, members, interpolation))
        elif members and family is BLENDS:
            done.append(_blend(rows, members))
        elif members:
            done.append(operate(rows, *members[0]))
    return torch.cat(done).index_select(0, order.argsort().to(pixels.device))


def to_uint8(image: Tensor) -> Tensor:
    """Clamps to 0…255 in place and drops fractions; by way of int16, four times faster than directly on CPUs."""
    return image.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _times(image: Tensor, factor: Tensor) -> Tensor:
    """In place, by one factor or one per image."""
    return image.mul_(float(factor) if len(factor) == 1 else _column(factor, image))


def _plus(image: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """``image + share · other`` in place, rounded once where the machine can: so do add's alpha and addcmul.

    They part where a row of pixels in memory is no multiple of the vector length: in its last few, add rounds
    twice, and a grey level can differ from torchvision's in an image at its own strength.
    """
    if len(share) == 1:
        return image.add_(other, alpha=float(share))
    return image.addcmul_(other, _column(share, image))


def _column(values: Tensor, image: Tensor) -> Tensor:
    return values.to(image.device, torch.float32).view(-1, 1, 1, 1)


def _blend(pixels: Tensor, members: Sequence[tuple[str, Tensor]]) -> Tensor:
    """Between a degenerate image (factor 0: black, grey, flat) and the image, or beyond it (factor above 1).

    ``members`` name the operation and strengths of consecutive images; see :func:`kdstats.schemes.policy.moves.move`.
    """
    n, channels, height, width = pixels.shape
    # A grey image is its own colourless image; rounding must not change it.
    factor = torch.cat([1.0 + (0.0 * s if name == "Color" and channels == 1 else s) for name, s in members])
    sizes = [len(s) for _, s in members] if len(factor) == n else [n]
    runs = zip(members, torch.split(pixels, sizes), strict=True)
    others = [_degenerate(rows, name) for (name, _), rows in runs]
    if len(factor) > 1:
        others = [other.expand(size, 1, height, width) for other, size in zip(others, sizes, strict=True)]
    blended = _plus(_times(pixels.float(), factor), torch.cat(others), 1.0 - factor)
    return to_uint8(blended)


def _degenerate(pixels: Tensor, name: str) -> Tensor:
    """``[n or 1, 1, H or 1, W or 1]`` float32: black, the grey image, or its mean."""
    from torchvision.transforms.v2 import functional as tv

    if name == "Brightness":
        return torch.zeros(1, 1, 1, 1, device=pixels.device)
    grey: Tensor = tv.rgb_to_grayscale(pixels).float()
    return grey if name == "Color" else grey.mean((1, 2, 3), keepdim=True)


def _sharpen(pixels: Tensor, strength: Tensor) -> Tensor:
    """Away from (strength above 0) or towards the mean of 3×3 in which the centre counts five times.

    The outermost pixels stay.
    """
    image = pixels.float()
    inner = image[:, :, 1:-1, 1:-1]
    rows = (image[:, :, :-2] + image[:, :, 1:-1]).add_(image[:, :, 2:])
    mean = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner, alpha=4.0).div_(13.0)
    # Thirteenths never end in a half: how the mean was added up cannot change what it is rounded to.
    towards = mean.round_().sub_(inner)
    out = pixels.clone()
    out[:, :, 1:-1, 1:-1] = to_uint8(_plus(inner, towards, 1.0 - (1.0 + strength)))
    return out
