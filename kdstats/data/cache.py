"""Decoded images kept as uint8 under the platform's cache folder, keyed by the sha256 of the source."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def cache_folder() -> Path:
    """``$KDSTATS_HOME`` if set, otherwise the platform's cache folder for kdstats."""
    home = os.environ.get("KDSTATS_HOME")
    if home:
        return Path(home)
    from platformdirs import user_cache_path

    return user_cache_path("kdstats")


def digest_files(files: Iterable[Path]) -> str:
    """sha256 over the contents of ``files``, in the order given."""
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                sha.update(chunk)
    return sha.hexdigest()


def cached(name: str, digest: str, decode: Callable[[], Arrays]) -> Arrays:
    """Images ``[N, channels, H, W]`` and labels ``[N]``, decoded once and read back afterwards.

    The entry is a folder that appears with one rename, so a reader never sees half of one and two processes
    may decode at the same time. An entry that cannot be read, or whose checksum differs, is decoded again.
    """
    entry = cache_folder() / "datasets" / f"{name}-{digest[:16]}"
    found = _read(entry)
    if found is not None:
        return found
    images, labels = decode()
    # A full or read-only cache costs time at the next start, never the result.
    with contextlib.suppress(OSError):
        _write(entry, images, labels)
    return images, labels


def _read(entry: Path) -> Arrays | None:
    try:
        images, labels = _array(entry / "images.npy"), _array(entry / "labels.npy")
        expected = (entry / "sha256").read_text().strip()
    except Exception:
        # A damaged header makes numpy's parser raise nearly anything, tokenize.TokenError included.
        return None
    return (images, labels) if _checksum(images, labels) == expected else None


def _array(file: Path) -> NDArray[Any]:
    """One ``.npy`` array; unlike ``np.load`` it takes no archives, which fail in ways of their own."""
    with file.open("rb") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _write(entry: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        np.save(temp / "images.npy", images)
        np.save(temp / "labels.npy", labels)
        (temp / "sha256").write_text(_checksum(images, labels))
        shutil.rmtree(entry, ignore_errors=True)
        os.replace(temp, entry)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _checksum(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    sha = hashlib.sha256(repr((images.shape, images.dtype.str, labels.shape, labels.dtype.str)).encode())
    sha.update(np.ascontiguousarray(images).data)
    sha.update(np.ascontiguousarray(labels).data)
    return sha.hexdigest()
