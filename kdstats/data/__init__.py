"""Data sets with sample ids, on the device as uint8 or streamed from their files; :func:`load` finds them by name."""

from __future__ import annotations

from kdstats.data.imageset import ImageSet
from kdstats.data.labelled import Batch, LabelledImages
from kdstats.data.loading import load
from kdstats.data.registry import card, names
from kdstats.data.selection import Selection, Splits
from kdstats.data.stream import ImageStream

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
