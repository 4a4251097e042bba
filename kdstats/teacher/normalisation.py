"""Which mean and standard deviation a network's images are normalised with, and the change from a data set's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.data import LabelledImages, card, names
from kdstats.errors import UsageError, unknown

DATA, NONE = "data", "none"


@dataclass(frozen=True, slots=True)
class Constants:
    """A network is given ``(pixel / 255 − mean) / std`` per channel.

    Attributes:
        mean: Per channel, fractions of one.
        std: Likewise, above zero.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: LabelledImages) -> Constants:
        """Those of a data set."""
        return cls(tuple(images.mean), tuple(images.std))

    @classmethod
    def read(cls, mean: Any, std: Any) -> Constants | None:
        """From two lists of a JSON file; None where they are no constants."""
        lists = [v for v in (mean, std) if isinstance(v, (list, tuple)) and v and all(map(_is_number, v))]
        if len(lists) < 2 or len(mean) != len(std) or not all(v > 0 for v in std):
            return None
        return cls(tuple(float(v) for v in mean), tuple(float(v) for v in std))

    def fit(self, channels: int, name: str) -> Constants:
        """For images of so many channels; one number serves for all of them.

        Raises:
            UsageError: Another number of channels.
        """
        if len(self.mean) == channels:
            return self
        if len(self.mean) == 1:
            return Constants(self.mean * channels, self.std * channels)
        raise UsageError(f"normalisation for {len(self.mean)} channels; the images of {name} have {channels}")

    def __str__(self) -> str:
        """For people: ``mean 0.507 0.487 0.441, std 0.268 0.257 0.276``."""
        mean, std = (" ".join(f"{v:.3g}" for v in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}"


def parse(text: str) -> Constants | None:
    """What ``--normalise`` says.

    Args:
        text: ``imagenet``, ``cifar100`` … (the constants on the card of that data set); ``none`` for pixels as
            fractions of one; ``data`` for those of the data set that is measured, whatever a card says; or numbers,
            ``MEAN/STD`` with commas between channels: ``0.5,0.5,0.5/0.25,0.25,0.25`` or ``0.5/0.25``.

    Returns:
        The constants; None for ``data``.

    Raises:
        UsageError: None of these.
    """
    wanted = text.strip().lower()
    if wanted == DATA:
        return None
    if wanted == NONE:
        return Constants((0.0,), (1.0,))
    if "/" in wanted:
        return _numbers(text)
    try:
        found = card(wanted)
    except UsageError:
        found = None
    if found is None or found.mean is None or found.std is None:
        known = [name for name in names() if card(name).mean is not None]
        raise unknown("normalisation", text, [*known, NONE, DATA], hint="Numbers are written MEAN/STD.")
    return Constants(found.mean, found.std)


def _numbers(text: str) -> Constants:
    mean, _, std = text.partition("/")
    try:
        sides = [[float(part) for part in side.split(",")] for side in (mean, std)]
    except ValueError:
        sides = []
    found = Constants.read(*sides) if sides else None
    if found is None:
        raise UsageError(
            f"a normalisation is written MEAN/STD with a number for each channel and deviations above 0, for example "
            f"0.5,0.5,0.5/0.25,0.25,0.25, not {text!r}"
        )
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Renormalised(nn.Module):
    """Takes images normalised for one data set and hands them on normalised for a network trained with others."""

    def __init__(
        self, network: nn.Module, images: LabelledImages, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        own_mean, own_std, mean_t, std_t = (torch.tensor(v) for v in (images.mean, images.std, mean, std))
        self.network = network
        self.scale = nn.Buffer((own_std / std_t).view(1, -1, 1, 1), persistent=False)
        self.shift = nn.Buffer(((own_mean - mean_t) / std_t).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor, **options: Any) -> Any:
        """What the network says of ``[B, channels, H, W]``: logits ``[B, C]`` and, if asked, its features."""
        return self.network(images * self.scale + self.shift, **options)
