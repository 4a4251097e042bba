"""What a reader must know about a teacher before believing its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """A named warning.

    Attributes:
        name: For programs: ``teacher-at-chance``, ``teacher-image-size`` …
        text: For people, a sentence without its full stop.
    """

    name: str
    text: str
