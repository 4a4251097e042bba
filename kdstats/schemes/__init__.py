"""Data augmentation schemes: every draw replayable, one file per family.

``get(name)`` gives a scheme; ``scheme.apply(images, generator=…)`` gives an :class:`AugmentedBatch`;
``scheme.replay(images, batch.draw)`` gives the same tensor again.
"""

from __future__ import annotations

from kdstats.schemes.batch import AugmentedBatch, Draw
from kdstats.schemes.registry import PUBLISHED_NINE, get, names, record
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

__all__ = ["PUBLISHED_NINE", "AugmentedBatch", "Draw", "PixelSpace", "Scheme", "get", "names", "record"]
