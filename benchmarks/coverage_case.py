"""A setting that ``benchmarks/coverage.py`` repeats, and what one replication of it found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Trial:
    """One replication: whether the truth was covered, the relative error of the value, whether a note warned."""

    hit: bool
    error: float = math.nan
    warned: bool = False
    extra: float = math.nan


@dataclass(frozen=True)
class Case:
    """A setting that can be repeated."""

    group: str
    setting: str
    make: Callable[[np.random.Generator], Callable[[], Trial]]
    nominal: float = LEVEL
    note: Callable[[Array], str] = lambda extra: ""
