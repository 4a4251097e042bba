"""Decoded images kept as uint8 under the platform's cache folder, keyed by the sha256 of the source."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.json_text import parse_json

FILES = ("images.npy", "labels.npy", "facts.json", "sha256")
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Entry:
    """What is kept of one split.

    Attributes:
        images: ``[N, channels, H, W]`` uint8.
        labels: ``[N]`` int64.
        facts: Everything else, as JSON has it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    facts: dict[str, Any] = field(default_factory=dict)


def cache_folder() -> Path:
    """``$KDSTATS_HOME`` if set, otherwise the platform's cache folder for kdstats."""
    home = os.environ.get("KDSTATS_HOME")
    if home:
        return Path(home)
    from platformdirs import user_cache_path

    return user_cache_path("kdstats")


def datasets_folder() -> Path:
    """Where the entries lie."""
    return cache_folder() / "datasets"


def cached(name: str, key: str, decode: Callable[[], Entry]) -> Entry:
    """The entry of ``name`` and ``key``, decoded once and read back afterwards.

    The entry is a folder that appears with one rename, so a reader never sees half of one and two processes
    may decode at the same time. An entry that cannot be read, or whose checksum differs, is decoded again.

    Args:
        name: For people: data set and split.
        key: sha256, hexadecimal, over everything on which the decoded images depend.
        decode: Called when there is no sound entry.
    """
    folder = _folder(name, key)
    found = _read(folder, key)
    if found is not None:
        return found
    entry = decode()
    # A full or read-only cache costs time at the next start, never the result.
    with contextlib.suppress(OSError):
        _write(folder, key, entry)
    return entry


def cached_facts(name: str, key: str) -> dict[str, Any] | None:
    """The facts of an entry without its images; None when there is no sound entry."""
    try:
        return _facts(_folder(name, key), key)[0]
    except Exception:
        return None


def _folder(name: str, key: str) -> Path:
    return datasets_folder() / f"{name}-{key[:16]}"


def _read(folder: Path, key: str) -> Entry | None:
    try:
        facts, expected = _facts(folder, key)
        images, labels = _array(folder / "images.npy"), _array(folder / "labels.npy")
        sound = _checksum(images, labels) == expected
    except Exception:
        # A damaged header makes numpy's parser raise nearly anything, tokenize.TokenError included.
        return None
    return Entry(images, labels, facts) if sound else None


def _facts(folder: Path, key: str) -> tuple[dict[str, Any], str]:
    """The facts, checked, and the checksum that the arrays should have."""
    text = (folder / "facts.json").read_bytes()
    of_facts, of_arrays = (folder / "sha256").read_text().split()
    document = parse_json(text)
    if hashlib.sha256(text).hexdigest() != of_facts or document["key"] != key:
        raise ValueError(f"{folder} is damaged")
    facts: dict[str, Any] = document["facts"]
    return facts, of_arrays


def _array(file: Path) -> NDArray[Any]:
    """One ``.npy`` array; unlike ``np.load`` it takes no archives, which fail in ways of their own."""
    with file.open("rb") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _write(folder: Path, key: str, entry: Entry) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        np.save(temp / "images.npy", entry.images)
        np.save(temp / "labels.npy", entry.labels)
        text = json.dumps({"key": key, "facts": entry.facts}, indent=1).encode()
        (temp / "facts.json").write_bytes(text)
        sums = (hashlib.sha256(text).hexdigest(), _checksum(entry.images, entry.labels))
        (temp / "sha256").write_text("\n".join(sums))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temp, folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _checksum(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """sha256 over the sha256 of blocks of both arrays, which threads compute side by side."""
    sha = hashlib.sha256(repr((images.shape, images.dtype.str, labels.shape, labels.dtype.str)).encode())
    views = [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (images, labels) if a.size]
    blocks = [view[at : at + _BLOCK] for view in views for at in range(0, len(view), _BLOCK)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for part in pool.map(_block_sum, blocks):
            sha.update(part)
    return sha.hexdigest()


def _block_sum(block: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(block.data).digest()
