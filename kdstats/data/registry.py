"""Name → data set. One card per data set; its source module is imported when the set is loaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from kdstats.data.imageset import ImageSet
from kdstats.errors import UsageError, unknown


@dataclass(frozen=True)
class DataCard:
    """What is known about a data set before it is read.

    Attributes:
        name: Registry name.
        module: Module whose ``load(card, split, path)`` reads it.
        classes: Number of classes.
        channels: Colour channels.
        img_size: Height and width in pixels.
        mean: Per-channel mean of the training images, fractions of one.
        std: Per-channel standard deviation, likewise.
        base: Name of the standard augmentation that the field trains it with.
        source: Where it comes from, in one sentence.
        needs_path: Whether the files must be named (``--data`` or ``KDSTATS_DATA``).
    """

    name: str
    module: str
    classes: int
    channels: int
    img_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    base: str
    source: str
    needs_path: bool


_CARDS = {
    card.name: card
    for card in (
        DataCard(
            "digits",
            "kdstats.data.digits",
            classes=10,
            channels=1,
            img_size=8,
            mean=(0.3053,),
            std=(0.3760,),
            base="crop1",
            source="scikit-learn's digits (UCI optical digits): 1,797 grey images, split 1,280 / 517",
            needs_path=False,
        ),
        DataCard(
            "cifar100",
            "kdstats.data.cifar100",
            classes=100,
            channels=3,
            img_size=32,
            # The constants of the CRD and Good-DA-in-KD code bases, with which the public teachers were trained.
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            base="crop4+flip",
            source="CIFAR-100 (Krizhevsky 2009) as the hub's Parquet files: img {bytes, path}, fine_label",
            needs_path=True,
        ),
    )
}


def names() -> list[str]:
    """All data set names."""
    return list(_CARDS)


def card(name: str) -> DataCard:
    """The card of a data set; raises ``UsageError`` with the nearest names when there is none."""
    if name not in _CARDS:
        raise unknown("data set", name, _CARDS, hint="`kdstats datasets` lists all.")
    return _CARDS[name]


def load(name: str, split: str = "train", path: str | Path | None = None) -> ImageSet:
    """Reads one split of a data set into memory as uint8.

    Args:
        name: See :func:`names`.
        split: ``train`` or ``test``.
        path: The folder that holds the files, for sets that are not embedded.

    Raises:
        UsageError: Unknown data set or split, a path for an embedded set, or no path where one is needed.
        MissingError: The files are absent, damaged or not what they should be.
    """
    if split not in ("train", "test"):
        raise unknown("split", split, ("train", "test"))
    found = card(name)
    if path is not None and not found.needs_path:
        raise UsageError(f"{name} is embedded and reads no files; leave out --data or name another --dataset")
    loaded: ImageSet = importlib.import_module(found.module).load(
        found, split, None if path is None else Path(path)
    )
    return loaded
