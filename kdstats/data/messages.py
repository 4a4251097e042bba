"""Words of files and of other libraries, made fit for an error message of one line."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 200


def printable(text: str | Path) -> str:
    """A text for a message of one line: what cannot be printed, line breaks and foreign bytes, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shortened(text: str) -> str:
    """As :func:`printable`, cut where it is longer than a message should be."""
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def reason(error: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing."""
    said = str(error)[: 10 * _LONGEST].strip().splitlines()
    return shortened(said[0]) if said else type(error).__name__
