"""Name → network. A family is imported when one of its members is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdstats.errors import UsageError, unknown

if TYPE_CHECKING:
    from kdstats.models.classifier import Classifier


@dataclass(frozen=True)
class Family:
    """The networks of one module, and the image sizes (height and width in pixels) that they take.

    Attributes:
        module: Where ``build(name, num_classes, in_channels)`` is.
        members: Field names, spelled as in RepDistiller.
        least: Smallest size.
        step: Sizes are multiples of it.
        most: Largest size; None for no limit.
    """

    module: str
    members: tuple[str, ...]
    least: int = 8
    step: int = 1
    most: int | None = None

    def sizes(self) -> str:
        """For people: ``8 or more``, ``multiples of 32``, ``32``."""
        if self.most == self.least:
            return str(self.least)
        return f"multiples of {self.step}" if self.step > 1 else f"{self.least} or more"

    def why_not(self, name: str, img_size: int) -> str | None:
        """The sentence that refuses ``img_size``; None when it is welcome."""
        given = f"not {img_size}x{img_size}"
        if self.most == self.least != img_size:
            return (
                f"{name} takes images of {self.least}x{self.least} pixels alone, {given}: so it was published"
            )
        if self.step > 1 and (img_size < self.step or img_size % self.step):
            return f"{name} takes images whose sides are multiples of {self.step} pixels, {given}"
        if img_size < self.least:
            return f"{name} needs images of at least {self.least}x{self.least} pixels, {given}"
        return None


FAMILIES = (
    Family(
        "kdstats.models.resnet",
        (*(f"resnet{d}" for d in (8, 14, 20, 32, 44, 56, 110)), "resnet8x4", "resnet32x4"),
    ),
    Family("kdstats.models.wrn", ("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", "wrn_28_10")),
    Family("kdstats.models.vgg", ("vgg8", "vgg11", "vgg13", "vgg16", "vgg19")),
    Family("kdstats.models.resnetv2", ("ResNet18", "ResNet50")),
    Family("kdstats.models.mobilenetv2", ("MobileNetV2",), least=32, step=32),
    Family("kdstats.models.shufflev1", ("ShuffleV1",), least=32, most=32),
    Family("kdstats.models.shufflev2", ("ShuffleV2",)),
    Family(
        "kdstats.models.imagenet_resnet",
        ("imagenet_resnet18", "imagenet_resnet34", "imagenet_resnet50"),
        least=32,
    ),
    Family("kdstats.models.lenet", ("lenet8",)),
)
_FAMILY = {name: family for family in FAMILIES for name in family.members}
_FOLDED = {name.lower(): name for name in _FAMILY}


def names() -> list[str]:
    """All names that :func:`build` accepts, in the spelling of the field."""
    return list(_FAMILY)


def canonical(name: str) -> str:
    """``name`` in the spelling of the field: case does not matter, a hyphen is an underscore.

    Raises:
        UsageError: Unknown name; the nearest ones are given.
    """
    found = _FOLDED.get(name.strip().lower().replace("-", "_"))
    if found is None:
        raise unknown("model", name, _FAMILY, hint="`kdstats models` lists all.")
    return found


def family_of(name: str) -> Family:
    """The family of ``name``; raises ``UsageError`` as :func:`canonical` does."""
    return _FAMILY[canonical(name)]


def build(name: str, num_classes: int, img_size: int = 32, in_channels: int = 3) -> Classifier:
    """A freshly initialised network.

    Args:
        name: Field name, as in RepDistiller (``resnet20``, ``wrn_16_2``, ``MobileNetV2`` …), in any case and with
            hyphens or underscores. ``ResNet50`` is the small-image network, ``imagenet_resnet50`` torchvision's.
        num_classes: Number of classes C of the last layer.
        img_size: Height and width of the images in pixels.
        in_channels: 3 for colour, 1 for grey images.

    Returns:
        A module that maps ``[B, in_channels, img_size, img_size]`` to logits ``[B, C]``, and with
        ``features=True`` to logits and features, see :meth:`Classifier.forward`.

    Raises:
        UsageError: Unknown name, fewer than two classes, no channel, or images of a size the network cannot take.
    """
    known = canonical(name)
    family = _FAMILY[known]
    if num_classes < 2:
        raise UsageError(f"a classifier needs at least 2 classes, not {num_classes}")
    if in_channels < 1:
        raise UsageError(f"images have at least 1 channel, not {in_channels}")
    refusal = family.why_not(known, img_size)
    if refusal is not None:
        raise UsageError(refusal)
    factory: Callable[..., Classifier] = importlib.import_module(family.module).build
    return factory(known, num_classes=num_classes, in_channels=in_channels)
