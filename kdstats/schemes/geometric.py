"""flip, crop and crop+flip."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import integers, uniforms
from kdstats.draws.moves import crop_at, flip_where
from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import QUANTISE, PixelSpace, in_words


class _Moved(Scheme):
    """What flip and crop share: three numbers per draw, whichever of them are used, and the way through uint8.

    Wang et al. 2022 (Good-DA-in-KD, ``crop``/``flip`` modes): padding is an eighth of the image size (4 at 32,
    8 at 64, 28 at 224), one offset and one flip for the whole batch. They pass through uint8 by truncation
    (``quantise="truncate"``, the preset ``@wang2022``); by default the tensors are moved as they are, so an
    unmoved view equals its original.
    """

    def __init__(self, name: str, draws: str, space: PixelSpace | None, quantise: str) -> None:
        super().__init__(name, draws, space)
        if quantise not in ("none", *QUANTISE):
            raise unknown("way through uint8", quantise, ("none", *QUANTISE))
        self.quantise = quantise

    def _offsets(self, u: Tensor, pad: int) -> dict[str, Tensor]:
        return {"top": integers(u[:, 0], 0, 2 * pad), "left": integers(u[:, 1], 0, 2 * pad)}

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        if self.quantise == "none":
            return self._move(images, draw, self.space.black(images))
        pixels = self.space.to_uint8(images, self.quantise)
        moved = self._move(pixels, draw, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
        return self.space.from_uint8(moved, images.dtype)

    def _move(self, images: Tensor, draw: Draw, black: Tensor) -> Tensor:
        raise NotImplementedError

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {"space": in_words(self.quantise)}


def _check_p(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise UsageError(f"{name}: the probability of a flip lies in 0…1, not {p}")
    return p


def _check_padding(name: str, padding: int | None) -> int | None:
    if padding is not None and padding < 0:
        raise UsageError(f"{name}: padding is a number of pixels, not {padding}")
    return padding


def _pad(images: Tensor, padding: int | None) -> int:
    if padding is not None and padding > max(images.shape[2:]):
        raise UsageError(f"padding of {padding} pixels around images of {images.shape[3]}x{images.shape[2]}")
    return images.shape[2] // 8 if padding is None else padding


def _crop_rules(draws: str, padding: int | None) -> dict[str, str]:
    pad = "H // 8" if padding is None else f"{padding}"
    return {
        "box": f"a window of the image's size, uniform after padding by {pad} pixels, one per "
        + ("batch" if draws == "batch" else "image"),
        "fill": "black",
    }


def _flip_rules(draws: str, p: float) -> dict[str, str]:
    return {"probability": f"{p:g} of a flip, one draw per {'batch' if draws == 'batch' else 'image'}"}


class Flip(_Moved):
    """Horizontal flip with probability ``p``; Wang et al. 2022: one draw for the whole batch.

    They pass through uint8 by truncation (``quantise="truncate"``, the preset ``@wang2022``).
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        p: float = 0.5,
        quantise: str = "none",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        self.p = _check_p(name, p)

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        # The same column as in crop_flip: under one key both flip alike (common random numbers).
        u = uniforms(self.draws, sample_id, 3, gen)
        return Draw(self.name, {"flipped": u[:, 2] < self.p})

    def _move(self, images: Tensor, draw: Draw, black: Tensor) -> Tensor:
        return flip_where(images, draw.params["flipped"])

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {**_flip_rules(self.draws, self.p), **super().rules()}


class Crop(_Moved):
    """Random crop after zero (black) padding by ``padding`` pixels, an eighth of the height by default.

    Wang et al. 2022: 4 at 32, 8 at 64, 28 at 224; one offset for the whole batch; through uint8 by truncation
    (``quantise="truncate"``, the preset ``@wang2022``).
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        padding: int | None = None,
        quantise: str = "none",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        self.padding = _check_padding(name, padding)

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 3, gen)
        return Draw(self.name, self._offsets(u, _pad(images, self.padding)))

    def _move(self, images: Tensor, draw: Draw, black: Tensor) -> Tensor:
        return crop_at(images, draw.params["top"], draw.params["left"], _pad(images, self.padding), black)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {**_crop_rules(self.draws, self.padding), **super().rules()}


class CropFlip(_Moved):
    """:class:`Crop`, then a horizontal flip with probability ``flip_p``; Wang et al. 2022 as there."""

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        padding: int | None = None,
        flip_p: float = 0.5,
        quantise: str = "none",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        self.padding, self.flip_p = _check_padding(name, padding), _check_p(name, flip_p)

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 3, gen)
        return Draw(
            self.name, {**self._offsets(u, _pad(images, self.padding)), "flipped": u[:, 2] < self.flip_p}
        )

    def _move(self, images: Tensor, draw: Draw, black: Tensor) -> Tensor:
        p = draw.params
        cropped = crop_at(images, p["top"], p["left"], _pad(images, self.padding), black)
        return flip_where(cropped, p["flipped"])

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            **_crop_rules(self.draws, self.padding),
            **_flip_rules(self.draws, self.flip_p),
            **super().rules(),
        }
