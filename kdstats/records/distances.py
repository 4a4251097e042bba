"""Reading ``distances.jsonl``: how far two networks are from each other, a line per epoch and pair of them.

The first line is the header: schema, the images asked, what each number means. ``runners`` writes the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.small_file import read_bytes_of

SCHEMA = "kdstats/distances/1"
FILE = "distances.jsonl"


def read_distances(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``distances.jsonl`` without its header; a half-written last line is left out.

    Raises:
        MissingError: No such file, not of this schema, or damaged before its last line.
    """
    return parse(path)[1:]


def parse(path: Path) -> list[dict[str, Any]]:
    """Header and rows; only the last line can be half-written by a process that was killed.

    Raises:
        MissingError: As :func:`read_distances`.
    """
    lines = read_bytes_of(path, "log of distances").decode("utf-8", errors="replace").splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        try:
            row = parse_json(line)
            if number and not isinstance(row["epoch"], int):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            if number == len(lines) - 1:
                break
            raise MissingError(f"{path}, line {number + 1}, is damaged") from None
        rows.append(row)
    if not rows or not isinstance(rows[0], dict) or rows[0].get("schema") != SCHEMA:
        raise MissingError(f"{path} is no {SCHEMA} file")
    return rows
