"""Files of one JSON object a line that a process may have been killed while it wrote: only ended lines count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.small_file import read_bytes_of

MOST_LOG = 1 << 30  # bytes of a log; a million epochs have less


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file up to the first line that is torn or damaged; empty where there is no file."""
    found = []
    for line in _ended(path):
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        found.append(row)
    return found


def whole_epochs(metrics: Path) -> int:
    """Whole epochs of a run so far: the ended lines of its ``metrics.jsonl``."""
    return len(_ended(metrics))


def _ended(path: Path) -> list[bytes]:
    try:
        return read_bytes_of(path, "log", MOST_LOG).split(b"\n")[:-1]
    except MissingError:
        return []
