"""Data augmentation schemes: every draw replayable, one file per family.

``get(name)`` gives a scheme; ``scheme.apply(images, generator=…)`` gives an :class:`AugmentedBatch`;
``scheme.replay(images, batch.draw)`` gives the same tensor again.
"""

from __future__ import annotations

from kdstats.schemes.batch import AugmentedBatch, Draw
from kdstats.schemes.naming.catalogue import PUBLISHED_NINE, SchemeRecord
from kdstats.schemes.naming.registry import common_draws, expand, get, members, names, record
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace
from kdstats.schemes.targets import TARGETS, Targets

__all__ = [
    "PUBLISHED_NINE",
    "TARGETS",
    "AugmentedBatch",
    "Draw",
    "PixelSpace",
    "Scheme",
    "SchemeRecord",
    "Targets",
    "common_draws",
    "expand",
    "get",
    "members",
    "names",
    "record",
]
