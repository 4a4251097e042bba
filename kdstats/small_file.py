"""Text from small files that others may have written: no waiting for a pipe, no end of memory in an endless file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kdstats.errors import MissingError

# The card of a study of ten thousand runs has 2 MB, the log of a run some hundred bytes an epoch.
MOST = 64 << 20
_PIECE = 1 << 20


def read_text_of(path: Path, what: str = "text file", most: int = MOST) -> str:
    """The text of a regular file, UTF-8; arguments as of :func:`read_bytes_of`.

    Raises:
        MissingError: It is absent, cannot be read, is no regular file, has more bytes, or is not UTF-8.
    """
    try:
        return read_bytes_of(path, what, most).decode()
    except UnicodeDecodeError as error:
        raise MissingError(f"{path} is not a readable {what}: not UTF-8 at byte {error.start}") from None


def read_bytes_of(path: Path, what: str = "file", most: int = MOST) -> bytes:
    """The bytes of a regular file.

    Args:
        path: The file; a link is followed.
        what: What it should be, for messages.
        most: Bytes that it may have.

    Raises:
        MissingError: It is absent, cannot be read, is no regular file, or has more bytes.
    """
    try:
        with open(path, "rb", opener=without_waiting) as stream:
            regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
            # What a file says of its size need not be so: one byte more than allowed shows it.
            blob = b"".join(_pieces(stream, most)) if regular else b""
    except (OSError, ValueError) as error:  # a zero byte in the name is a ValueError
        said = getattr(error, "strerror", None) or error
        raise MissingError(f"{path} is not a readable {what}: {said}") from None
    if not regular:
        raise MissingError(f"{path} is not a readable {what}: it is no regular file")
    if len(blob) > most:
        raise MissingError(
            f"{path} is not a readable {what}: it has more than {most >> 20} MiB, which none has that kdstats wrote"
        )
    return blob


def _pieces(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """At most ``most`` bytes and one: a single ``read`` of so many would take their memory before it looks."""
    left = most + 1
    while left > 0 and (piece := stream.read(min(left, _PIECE))):
        left -= len(piece)
        yield piece


def without_waiting(file: str, flags: int) -> int:
    """Opens even a pipe at once, which would otherwise wait for its writer before it could be seen for what it is."""
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
