"""Data sets with sample ids, on the device as uint8 or streamed from their files; :func:`load` finds them by name.

Names are loaded when they are asked for, so that listing data sets does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdstats.lazy import lazy

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


__getattr__, __dir__ = lazy(__name__, _HOME)
