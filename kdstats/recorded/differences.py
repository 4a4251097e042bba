"""In which settings runs differ that stand in one table but are not averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdstats.json_text import parse_json
from kdstats.recorded.estimate import RunEstimate

_NOT_SETTINGS = ("scheme", "seed")
_MOST = 4


def settings_of(run: RunEstimate) -> dict[str, str]:
    """Name → value of what decides a run's numbers, as far as its ``run.json`` says, and how it was observed."""
    found: dict[str, str] = {}
    try:
        card = parse_json(run.paths.run_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = {}
    said = card.get("run") if isinstance(card, dict) else None
    if isinstance(said, dict):
        _flatten(said, "", found)
    for name in _NOT_SETTINGS:
        found.pop(name, None)
    found["epochs used"] = f"{run.epochs[0]}–{run.epochs[-1]}"
    found["observation"] = run.definition
    return found


def differences(groups: Sequence[Sequence[RunEstimate]]) -> str:
    """In what groups of like runs differ, e.g. ``recipe.epochs 2 or 4``; empty where nothing that is known does."""
    every = [settings_of(group[0]) for group in groups]
    unlike = {}
    for name in dict.fromkeys(name for found in every for name in found):
        values = list(dict.fromkeys(found.get(name, "none") for found in every))
        if len(values) > 1:
            unlike[name] = " or ".join(values)
    shown = [f"{name} {values}" for name, values in list(unlike.items())[:_MOST]]
    more = f" and {len(unlike) - _MOST} more" if len(unlike) > _MOST else ""
    return f"{', '.join(shown)}{more}"


def _flatten(value: Mapping[str, Any], before: str, out: dict[str, str]) -> None:
    for name, each in value.items():
        if isinstance(each, Mapping):
            _flatten(each, f"{before}{name}.", out)
        else:
            out[f"{before}{name}"] = str(each)
