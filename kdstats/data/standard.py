"""The data sets' standard augmentation ("base"), on top of which every scheme acts.

Per image, on uint8, before normalisation; drawn from (seed, epoch, sample_id), so it is the same for every
scheme, batch size and worker count.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import torch
from torch import Tensor

from kdstats.draws.keys import generator, integers, uniforms
from kdstats.draws.moves import crop_at, flip_where
from kdstats.errors import UsageError

_FORM = re.compile(r"(?:crop(?P<pad>[0-9]+)|(?P<resized>resizedcrop))?(?P<plus>\+)?(?P<flip>flip)?")
_TRIES = 10
_AREA = (0.08, 1.0)
_LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))


class Box(NamedTuple):
    """A part of an image in pixels."""

    left: int
    top: int
    width: int
    height: int


class StandardAugmentation:
    """``crop4+flip``, ``crop8+flip``, ``crop1``, ``flip``, ``none``: zero padding, random crop, random flip.

    ``resizedcrop`` and ``resizedcrop+flip``, ImageNet's: a box of 8 to 100 % of the image's area and a side ratio
    between 3/4 and 4/3, brought to the image size (torchvision's ``RandomResizedCrop``). They need the images as
    they lie on disk, so only streamed sets take them.

    Attributes:
        name: As given.
        padding: Pixels of zero padding around the image; 0 without a crop.
        resized: Whether a box of the stored image is brought to size.
        flip: Whether images are mirrored with probability one half.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        found = _FORM.fullmatch("" if name == "none" else name)
        crops = found is not None and (found["pad"] or found["resized"])
        if found is None or not name or bool(found["plus"]) != bool(crops and found["flip"]):
            raise UsageError(
                f"no standard augmentation {name!r}; known are none, flip, cropN and cropN+flip with N pixels "
                "of padding, for example crop4+flip, and for streamed images resizedcrop and resizedcrop+flip"
            )
        self.padding = int(found["pad"] or 0)
        self.resized = found["resized"] is not None
        self.flip = found["flip"] is not None

    def apply(self, images: Tensor, sample_id: Tensor, seed: int, epoch: int) -> Tensor:
        """New uint8 images of the same shape ``[B, channels, H, W]``.

        Raises:
            UsageError: The padding is more than half the image size, or the images are at their final size already
                and a resized crop is asked for.
        """
        if self.resized:
            raise UsageError(
                f"standard augmentation {self.name} cuts boxes out of the images as they lie on disk; these are held "
                f"at {images.shape[3]}x{images.shape[2]}: use cropN+flip, or a streamed data set"
            )
        return self.after_box(images, sample_id, seed, epoch)

    def after_box(self, images: Tensor, sample_id: Tensor, seed: int, epoch: int) -> Tensor:
        """What remains when :meth:`box` has been cut: padding, crop and flip, as in :meth:`apply`.

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

    def box(self, sample_id: int, width: int, height: int, seed: int, epoch: int) -> Box:
        """The box that ``resizedcrop`` takes of one image of ``width`` x ``height`` pixels.

        The rule of torchvision's ``RandomResizedCrop.get_params`` on draws of our own: up to ten tries of area and
        logarithm of the side ratio, both uniform, until one fits; then the largest centred box of an admitted ratio.
        """
        u = uniforms("sample", torch.tensor([sample_id]), 2 * _TRIES + 2, generator(seed, "box", epoch))[0]
        draws = u.tolist()
        for area, ratio in zip(draws[0 : 2 * _TRIES : 2], draws[1 : 2 * _TRIES : 2], strict=True):
            target = width * height * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
            shape = math.exp(_LOG_RATIO[0] + ratio * (_LOG_RATIO[1] - _LOG_RATIO[0]))
            w, h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
            if 0 < w <= width and 0 < h <= height:
                top = min(int(draws[-2] * (height - h + 1)), height - h)
                left = min(int(draws[-1] * (width - w + 1)), width - w)
                return Box(left, top, w, h)
        low, high = (math.exp(edge) for edge in _LOG_RATIO)
        w, h = width, height
        if width / height < low:
            h = round(width / low)
        elif width / height > high:
            w = round(height * high)
        return Box((width - w) // 2, (height - h) // 2, w, h)
