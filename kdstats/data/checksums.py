"""What files are known by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1 << 22


def digest_files(files: Iterable[Path]) -> str:
    """sha256 over the contents of ``files``, in the order given."""
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                sha.update(chunk)
    return sha.hexdigest()


def md5_of(file: Path) -> str:
    """The md5 of a file, by which the publishers of data sets name their archives; it proves no origin."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
