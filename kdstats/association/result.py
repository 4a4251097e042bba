"""What the results of this room have in common: named fields that become a plain dictionary or the columns of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Result:
    """Base of the frozen results; it has no fields of its own."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON: tuples are lists, results within are dictionaries."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the fields, which are columns where a result is a row."""
        return tuple(field.name for field in fields(cls))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def notes_text(notes: Iterable[str]) -> str:
    """Notes as one text, parted by ``"; "``; a note that holds this itself gets a comma there, so that all part again."""
    return "; ".join(note.replace("; ", ", ") for note in notes)
