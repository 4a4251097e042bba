"""The splitmix64 finaliser: whole numbers → whole numbers that look random, the same for good on every platform.

Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Odd multipliers that keep two coordinates apart before they are mixed: 2⁶⁴ over the roots of x² = x + 1 and x⁴ = x + 1.
FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)


def finalise(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``z`` mixed, of the same shape; products wrap around, so callers ignore numpy's overflow."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
