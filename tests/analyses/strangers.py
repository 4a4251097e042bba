"""Changes of a study's documents, as strangers, accidents and other versions make them."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdstats.errors import CheckError, MissingError, UsageError

Change = Callable[[dict[str, Any]], object]


def copy_of(root: Path, target: Path) -> Path:
    """The files of a study, its runs as links to the same folders."""
    target.mkdir()
    for name in ("study.json", "runs.parquet", "study.parquet", "study.toml"):
        (target / name).write_bytes((root / name).read_bytes())
    for path in root.glob("t_stddev/*/*.json"):
        copied = target / path.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    return target


def put(*keys: str | int, value: Any) -> Change:
    """Sets what lies under ``keys``."""

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


def rewrite(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**400, 2**63, 1.5, -1e308, math.inf, math.nan, "", "x", "\ud800", "a/b", "a\0b", "@x",
    [], [1], ["x"], [[]], {}, {"a": 1}, {"": None}, [[[[1]]]],
)  # fmt: skip


def mutate(document: Any, draw: random.Random) -> None:
    """One value anywhere in a document is replaced, dropped or doubled."""
    places: list[tuple[Any, Any]] = []
    rest = [document]
    while rest:
        item = rest.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        for key in keys:
            places.append((item, key))
            if isinstance(item[key], dict | list):
                rest.append(item[key])
    at, key = draw.choice(places)
    what = draw.random()
    if what < 0.1:
        del at[key]
    elif what < 0.2 and isinstance(at, list):
        at.append(copy.deepcopy(at[key]))
    else:
        at[key] = copy.deepcopy(draw.choice(ODD))


def outcome(load: Callable[[], object]) -> bool:
    """Whether it was refused; anything but a refusal that names what is wrong comes through and fails the test."""
    try:
        load()
    except (MissingError, CheckError, UsageError) as error:
        assert str(error)
        return True
    return False
