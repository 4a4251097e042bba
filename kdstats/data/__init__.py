"""Data sets with sample ids, on the device as uint8 or streamed from their files; :func:`load` finds them by name.

Names are loaded when they are asked for, so that listing data sets does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdstats.data.imageset import ImageSet
    from kdstats.data.labelled import Batch, LabelledImages
    from kdstats.data.loading import load
    from kdstats.data.registry import card, names
    from kdstats.data.selection import Selection, Splits
    from kdstats.data.stream import ImageStream

_HOMES = {
    "kdstats.data.imageset": ("ImageSet",),
    "kdstats.data.labelled": ("Batch", "LabelledImages"),
    "kdstats.data.loading": ("load",),
    "kdstats.data.registry": ("card", "names"),
    "kdstats.data.selection": ("Selection", "Splits"),
    "kdstats.data.stream": ("ImageStream",),
}
_HOME = {name: module for module, names_ in _HOMES.items() for name in names_}

__all__ = [
    "Batch",
    "ImageSet",
    "ImageStream",
    "LabelledImages",
    "Selection",
    "Splits",
    "card",
    "load",
    "names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
