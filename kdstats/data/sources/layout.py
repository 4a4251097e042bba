"""What a layout on disk is asked for, and what it answers with; one module beside this one per layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# The spellings of the second split, the usual one first.
TEST_NAMES = ("test", "val", "validation", "valid")


@dataclass(frozen=True)
class Wanted:
    """What the card of a data set and the caller ask of a source.

    Attributes:
        name: Registry name of the data set.
        split: ``train`` or ``test``.
        classes: The number of classes that must be found; None takes what is there.
        native: Height and width in pixels that every image must measure; None takes that of the first image.
        why_native: Why they must, appended to the error about an image that does not.
        resize: Height and width to bring every image to; None leaves them as they are.
        how: What to do to get the data, a sentence for error messages.
        only: Names of the classes to keep, where the folder holds more; None keeps all.
        ordered: Whether the classes have an order of the data set's own, so that class folders named by numbers stand
            for its indices.
    """

    name: str
    split: str
    classes: int | None = None
    native: int | None = None
    why_native: str = ""
    resize: int | None = None
    how: str = ""
    only: tuple[str, ...] | None = None
    ordered: bool = False


@dataclass(frozen=True)
class Content:
    """One split, decoded.

    Attributes:
        images: ``[N, 3, H, W]`` uint8, in the source's stated order.
        labels: ``[N]`` int64, indices into ``class_names``.
        class_names: C names.
        digest: sha256 of the source's images and labels, hexadecimal.
        resized: Whether ``Wanted.resize`` changed any image.
        notes: What a user should know, one sentence each.
        class_ids: Second names of the classes; empty where there are none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    digest: str
    resized: bool = False
    notes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """One split, found and hashed, but not yet decoded.

    Attributes:
        key: Text that differs when any byte on which ``read`` depends differs: sha256 sums, names.
        read: Decodes it.
    """

    key: str
    read: Callable[[], Content]


class Layout(Protocol):
    """One way in which data sets lie on disk."""

    def looks_for(self, name: str) -> str:
        """What data set ``name`` looks like in this layout, in a few words for an error message."""

    def fits(self, path: Path, name: str) -> bool:
        """Whether ``path`` holds data set ``name`` in this layout, complete and sound or not."""

    def open(self, path: Path, wanted: Wanted) -> Opened:
        """One split of a path that fits.

        Raises:
            MissingError: Something is absent, damaged or not what it should be.
        """
