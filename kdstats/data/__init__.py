"""Data sets as device-resident uint8 tensors with sample ids; :func:`load` finds them by name."""

from __future__ import annotations

from kdstats.data.imageset import ImageSet
from kdstats.data.loading import load
from kdstats.data.registry import card, names

__all__ = ["ImageSet", "card", "load", "names"]
