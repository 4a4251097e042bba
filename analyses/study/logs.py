"""The log of a run, ``metrics.jsonl``: one object an epoch."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

from analyses.study.shape import LARGEST, MOST_EPOCHS
from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.small_file import read_text_of


def log_rows(
    path: Path, needed: tuple[str, ...] = (), optional: tuple[str, ...] = (), gaps: tuple[str, ...] = ()
) -> dict[int, dict[str, float]]:
    """Epoch → numbers of it, in the order of epochs; a repeated epoch (after a resume) counts once, the last time.

    Args:
        path: The log; at most 64 MiB, some hundred thousand epochs.
        needed: Names that every line must have.
        optional: Names of further numbers, left out of lines without them; a line with none of all names counts for
            nothing.
        gaps: Names whose number may be NaN or infinite, as a loss is in an epoch that a run recovers from: NaN here.

    Raises:
        MissingError: It cannot be read, or a line is damaged, lacks a needed name or an epoch from 1 on, or has a number
            under one of the other names that is not finite.
    """
    found: dict[int, dict[str, float]] = {}
    for at, line in enumerate(StringIO(read_text_of(path, "log of epochs")), start=1):
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise TypeError("it is no object")
            names = (*needed, *(name for name in optional if name in row))
            if not names:
                continue
            epoch = row["epoch"]
            if not _is_number(epoch) or not 1 <= epoch <= MOST_EPOCHS or epoch != int(epoch):
                raise ValueError(f"epoch {epoch!r}")
            found[int(epoch)] = {name: _number(name, row[name], name in gaps) for name in names}
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f"an epoch with its {' and '.join(needed)}" if needed else "an epoch"
            said = f"{error} is missing" if isinstance(error, KeyError) else f"{error}"
            raise MissingError(
                f"{path}, line {at}, is not {what.replace('_', ' ')}: {said[:200]}; take the line out, or the file"
            ) from None
    return dict(sorted(found.items()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: str, value: Any, gap: bool) -> float:
    if gap and _is_number(value) and not math.isfinite(value):
        return math.nan
    if not _is_number(value) or not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"{name} {value!r}")
    return float(value)
