"""Data augmentation schemes: every draw replayable, one folder per family.

``get(name)`` gives a scheme; ``scheme.apply(images, generator=…)`` gives an :class:`AugmentedBatch`;
``scheme.replay(images, batch.draw)`` gives the same tensor again. Names are loaded when they are asked for, so that
listing schemes does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdstats.lazy import lazy

if TYPE_CHECKING:
    from kdstats.draws.keys import integers, uniforms
    from kdstats.schemes.batch import AugmentedBatch, Draw
    from kdstats.schemes.mixing.partners import batch_partners, sample_partners
    from kdstats.schemes.naming.catalogue import GRANULARITIES, PUBLISHED_NINE, SchemeRecord
    from kdstats.schemes.naming.registry import common_draws, expand, get, members
    from kdstats.schemes.naming.resolve import names, record
    from kdstats.schemes.scheme import Scheme
    from kdstats.schemes.space import PixelSpace
    from kdstats.schemes.targets import TARGETS, Targets

_HOMES = {
    "kdstats.draws.keys": ("integers", "uniforms"),
    "kdstats.schemes.batch": ("AugmentedBatch", "Draw"),
    "kdstats.schemes.mixing.partners": ("batch_partners", "sample_partners"),
    "kdstats.schemes.naming.catalogue": ("GRANULARITIES", "PUBLISHED_NINE", "SchemeRecord"),
    "kdstats.schemes.naming.registry": ("common_draws", "expand", "get", "members"),
    "kdstats.schemes.naming.resolve": ("names", "record"),
    "kdstats.schemes.scheme": ("Scheme",),
    "kdstats.schemes.space": ("PixelSpace",),
    "kdstats.schemes.targets": ("TARGETS", "Targets"),
}
_HOME = {name: module for module, names_ in _HOMES.items() for name in names_}

__all__ = [
    "GRANULARITIES",
    "PUBLISHED_NINE",
    "TARGETS",
    "AugmentedBatch",
    "Draw",
    "PixelSpace",
    "Scheme",
    "SchemeRecord",
    "Targets",
    "batch_partners",
    "common_draws",
    "expand",
    "get",
    "integers",
    "members",
    "names",
    "record",
    "sample_partners",
    "uniforms",
]


__getattr__, __dir__ = lazy(__name__, _HOME)
