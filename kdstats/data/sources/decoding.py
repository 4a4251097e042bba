"""Many encoded images → one array, decoded by threads straight into their places."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kdstats.data.sources.layout import Wanted
from kdstats.data.sources.pixels import Geometry, decode, resized
from kdstats.errors import MissingError, UsageError

Blob = Callable[[int], "bytes | None"]
Where = Callable[[int], str]
_CHUNK = 64


def threads() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


def check_memory(images: int, channels: int, height: int, width: int) -> None:
    """Refuses a set that would not fit: all images are held in memory, uncompressed.

    Raises:
        UsageError: They need more than four fifths of the machine's memory.
    """
    needed = images * channels * height * width
    there = _physical_memory()
    if there is not None and needed > 0.8 * there:
        raise UsageError(
            f"{images:,} images of {width}x{height} pixels need {needed / 1e9:.1f} GB of memory and this machine has "
            f"{there / 1e9:.1f} GB; --img-size N makes them smaller"
        )


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every platform
        return None


def resize_all(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """``[N, 1 or 3, H, W]`` → ``[N, 1 or 3, size, size]``, as :func:`~kdstats.data.sources.pixels.resized`."""
    from PIL import Image

    check_memory(len(images), images.shape[1], size, size)
    out = np.empty((*images.shape[:2], size, size), dtype=np.uint8)

    def chunk(first: int) -> None:
        for i in range(first, min(first + _CHUNK, len(images))):
            pixels = images[i, 0] if images.shape[1] == 1 else images[i].transpose(1, 2, 0)
            out[i], _ = resized(Image.fromarray(pixels), f"image {i}", size)

    with ThreadPoolExecutor(max_workers=threads()) as pool:
        list(pool.map(chunk, range(0, len(images), _CHUNK)))
    return out


class Decoder:
    """Fills ``images[start : start + count]`` call by call; a context manager, because it holds threads.

    Pillow's decoders release the interpreter lock, so threads help with photographs; images of 32 pixels are over
    before the lock is. Where no size is asked for, the first image settles it for all.

    Args:
        total: Number of images that will come.
        wanted: Sizes, asked for or required.
    """

    def __init__(self, total: int, wanted: Wanted) -> None:
        native = None if wanted.native is None else (wanted.native, wanted.native)
        self._geometry = Geometry(native, wanted.why_native, wanted.resize)
        self._total = total
        self._images: NDArray[np.uint8] | None = None
        self._pool = ThreadPoolExecutor(max_workers=threads())
        self.resized = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def images(self) -> NDArray[np.uint8]:
        """``[total, 3, H, W]``."""
        if self._images is None:
            raise MissingError("no images were decoded")
        return self._images

    def add(self, start: int, count: int, blob: Blob, where: Where) -> None:
        """Decodes ``blob(0) … blob(count − 1)`` into the places from ``start`` on.

        Raises:
            MissingError: As :func:`~kdstats.data.sources.pixels.decode`; of several bad images the first is named.
        """
        if count == 0:
            return
        if self._images is None:
            self._settle(blob(0), where(0))

        def chunk(first: int) -> bool:
            changed = False
            for i in range(first, min(first + _CHUNK, count)):
                self.images[start + i], one = decode(blob(i), where(i), self._geometry)
                changed |= one
            return changed

        for changed in self._pool.map(chunk, range(0, count, _CHUNK)):
            self.resized |= changed

    def _settle(self, blob: bytes | None, where: str) -> None:
        """Allocates the result; without a required size that of the first image becomes the required one."""
        first, _ = decode(blob, where, self._geometry)
        channels, height, width = first.shape
        if self._geometry.native is None and self._geometry.resize is None:
            if height != width:
                raise MissingError(
                    f"{where}: an image of {width}x{height} pixels; networks here take squares: "
                    f"--img-size {min(height, width)} (img_size = {min(height, width)} in a study) crops the centre"
                )
            why = f" as in {where}; --img-size N resizes all of them to NxN"
            self._geometry = replace(self._geometry, native=(width, height), why=why)
        check_memory(self._total, channels, height, width)
        self._images = np.empty((self._total, channels, height, width), dtype=np.uint8)
