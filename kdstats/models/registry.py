"""Name → network. A family is imported when one of its members is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import nn

from kdstats.errors import UsageError, unknown

_FAMILIES = {
    "kdstats.models.resnet": (
        *(f"resnet{d}" for d in (8, 14, 20, 32, 44, 56, 110)),
        "resnet8x4",
        "resnet32x4",
    ),
    "kdstats.models.wrn": ("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", "wrn_28_10"),
    "kdstats.models.lenet": ("lenet8",),
}
_MODULE = {name: module for module, members in _FAMILIES.items() for name in members}


def names() -> list[str]:
    """All names that :func:`build` accepts."""
    return list(_MODULE)


def build(name: str, num_classes: int, img_size: int = 32, in_channels: int = 3) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: Field name, as in RepDistiller (``resnet20``, ``wrn_16_2`` …).
        num_classes: Number of classes C of the last layer.
        img_size: Height and width of the images in pixels.
        in_channels: 3 for colour, 1 for grey images.

    Returns:
        A module that maps ``[B, in_channels, img_size, img_size]`` to logits ``[B, C]``.

    Raises:
        UsageError: Unknown name, fewer than two classes, or images too small for the network.
    """
    if name not in _MODULE:
        raise unknown("model", name, _MODULE, hint="`kdstats models` lists all.")
    if num_classes < 2:
        raise UsageError(f"a classifier needs at least 2 classes, not {num_classes}")
    if img_size < 8:
        raise UsageError(f"{name} needs images of at least 8x8 pixels, not {img_size}x{img_size}")
    factory: Callable[..., nn.Module] = importlib.import_module(_MODULE[name]).build
    return factory(name, num_classes=num_classes, in_channels=in_channels)
