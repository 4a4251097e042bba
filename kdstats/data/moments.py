"""Mean and standard deviation of the colours of a whole set, exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import MissingError

# bincount widens what it is given to eight bytes, so it is given 4 million pixels at a time.
_PIXELS = 1 << 22


def channel_moments(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels, in fractions of one.

    Counted, not summed: 256 whole numbers per channel hold everything, and the float64 results are exact to rounding.

    Args:
        images: ``[N, channels, H, W]``.

    Raises:
        MissingError: A channel has the same value everywhere, so that it cannot be normalised.
    """
    values = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for block in _blocks(images, channel):
            counts += np.bincount(block, minlength=256)
        share = counts / counts.sum()
        mean = float(share @ values)
        deviation = float(np.sqrt(share @ (values - mean) ** 2))
        if np.count_nonzero(counts) == 1:
            raise MissingError(f"channel {channel} has the same value in all training images")
        means.append(mean)
        deviations.append(deviation)
    return means, deviations


def _blocks(images: NDArray[np.uint8], channel: int) -> Iterator[NDArray[np.uint8]]:
    """All pixels of a channel, at most :data:`_PIXELS` at a time, however large the images are."""
    step = max(1, _PIXELS // (images.shape[2] * images.shape[3]))
    for start in range(0, len(images), step):
        some = images[start : start + step, channel].reshape(-1)
        for at in range(0, len(some), _PIXELS):
            yield some[at : at + _PIXELS]
