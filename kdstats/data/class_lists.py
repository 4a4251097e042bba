"""Lists of classes in text files, one a line: which lines there are, and what each may mean."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from kdstats.data.messages import printable
from kdstats.errors import MissingError
from kdstats.small_file import without_waiting

# A list of all 21,000 classes of the full ImageNet with their words has less than one.
SIZE_LIMIT = 4_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Class names may hold blanks, commas, tabs and ``#``, and lists may hold remarks, so that a line means what it
    means only beside the names that there are.

    Attributes:
        text: Without the blanks around it.
        where: File and number of the line, for messages.
    """

    text: str
    where: str

    @property
    def named(self) -> str:
        """Before the first tab or ``#``; empty where the line is nothing but a remark."""
        return re.split(r"[\t#]", self.text, maxsplit=1)[0].strip()

    def reading(self, known: Container[str]) -> str | None:
        """The one of ``known`` that is meant; None where none is.

        The whole line, else what stands before a tab or ``#``, else the first word (``n01440764 tench``).
        """
        words = self.named.split(maxsplit=1)
        return next((name for name in (self.text, self.named, *words[:1]) if name in known), None)


def read_lines(file: Path) -> list[Line]:
    """The lines of a list that are not blank.

    Raises:
        MissingError: No such file, no regular file, of more than :data:`SIZE_LIMIT` bytes, not UTF-8, or without a
            line.
    """
    where = f"the list of classes {printable(file)}"
    try:
        with open(file, "rb", opener=without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise MissingError(f"{where} is no regular file")
            blob = stream.read(SIZE_LIMIT + 1)
    except MissingError:
        raise
    except (OSError, ValueError) as error:  # a zero byte in the name is a ValueError
        raise MissingError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(blob) > SIZE_LIMIT:
        raise MissingError(f"{where} has more than {SIZE_LIMIT / 1e6:.0f} MB; it is no list of class names")
    try:
        lines = blob.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MissingError(f"{where} cannot be read: it is not UTF-8") from None
    found = [
        Line(text.strip(), f"{printable(file)}, line {n}") for n, text in enumerate(lines, 1) if text.strip()
    ]
    if not found:
        raise MissingError(f"{where} is empty")
    return found
