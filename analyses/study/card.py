"""The card of a study, ``study.json``: what was asked for, with which teacher, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdstats.errors import CheckError, MissingError
from kdstats.json_text import parse_json

SCHEMA = "kdstats/study-card/1"
SELECTION = "last epoch"

_KEYS = {
    "name": str,
    "dataset": dict,
    "pairs": list,
    "schemes": list,
    "seeds": list,
    "recipe": dict,
    "kd": dict,
    "teachers": dict,
    "runs": dict,
    "selection": str,
    "provenance": dict,
}


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that was tried and gave no student."""

    scheme: str
    seed: int | None
    error: str
    log: str
    pair: str


@dataclass(frozen=True, slots=True)
class Card:
    """What ``study.json`` says.

    Attributes:
        name: The study's name.
        dataset: ``name, sha256, train, test`` (images) and ``classes``.
        pairs: ``teacher/student``, in the order asked for; ``teacher/student [variant]`` where there are variants.
        schemes: Names in the order asked for.
        seeds: Seeds asked for.
        recipe: How students were trained.
        kd: ``temperature, gamma, alpha`` of the distillation loss.
        teachers: Teacher → ``sha256, test_accuracy`` (fraction), ``test_loss`` (nats), ``path``.
        planned: Runs asked for.
        done: Runs finished.
        failed: Runs that ended in an error.
        provenance: Version, commit, machine, command, times.
        threads: Threads of every run; None in cards of earlier versions.
        variants: Pair → its schemes and seeds, where variants ask for different ones.
        losses: Variant → its distillation loss; the study's own under ``""`` where it has none.
    """

    name: str
    dataset: Mapping[str, Any]
    pairs: tuple[str, ...]
    schemes: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Mapping[str, Any]
    kd: Mapping[str, Any]
    teachers: Mapping[str, Mapping[str, Any]]
    planned: int
    done: int
    failed: tuple[FailedRun, ...]
    provenance: Mapping[str, Any]
    threads: int | None = None
    variants: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] | None = None
    losses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def asked(self) -> Iterator[tuple[str, str, int]]:
        """``(pair, scheme, seed)`` of every run asked for."""
        for pair in self.pairs:
            schemes, seeds = (self.variants or {}).get(pair, (self.schemes, self.seeds))
            for scheme in schemes:
                for seed in seeds:
                    yield pair, scheme, seed


def read_json(path: Path, what: str) -> dict[str, Any]:
    """An object from a JSON file; raises ``MissingError`` when it is absent, broken or no object."""
    try:
        loaded = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(f"{path} is not a readable {what}: {error}") from None
    if not isinstance(loaded, dict):
        raise MissingError(f"{path} is not a {what}: it holds no JSON object")
    return loaded


def read_card(path: Path) -> Card:
    """The card at ``path``.

    Raises:
        MissingError: No readable card, another schema, or keys are missing or of the wrong kind.
        CheckError: Outcomes were selected otherwise than by the last epoch.
    """
    raw = read_json(path, "study card")
    if raw.get("schema") != SCHEMA:
        raise MissingError(f"{path} has schema {raw.get('schema')!r}, expected {SCHEMA!r}")
    wrong = [key for key, kind in _KEYS.items() if not isinstance(raw.get(key), kind)]
    wrong += [f"dataset.{key}" for key in ("name", "classes") if key not in (raw.get("dataset") or {})]
    wrong += [
        f"runs.{key}" for key in ("planned", "done") if not isinstance((raw.get("runs") or {}).get(key), int)
    ]
    if wrong:
        raise MissingError(f"{path} lacks {', '.join(dict.fromkeys(wrong))} (or holds another kind of value)")
    if raw["selection"] != SELECTION:
        raise CheckError(
            f"{path} selects outcomes by {raw['selection']!r}; a report compares students after the "
            f"{SELECTION}"
            " only (a best epoch is chosen on the test set)"
        )
    pairs = tuple(map(str, raw["pairs"]))
    odd = [pair for pair in pairs if pair.count("/") != 1]
    if odd:
        raise MissingError(f"{path}: pair {odd[0]!r} is not teacher/student")
    try:
        variants = {
            f"{pair} [{name}]": (tuple(map(str, said["schemes"])), tuple(map(int, said["seeds"])))
            for name, said in (raw.get("variants") or {}).items()
            for pair in map(str, said["pairs"])
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MissingError(f"{path}: its variants lack pairs, schemes or seeds ({error!r})") from None
    threads = raw.get("threads")
    return Card(
        name=raw["name"],
        dataset=raw["dataset"],
        pairs=tuple(variants) or pairs,
        schemes=tuple(map(str, raw["schemes"])),
        seeds=tuple(map(int, raw["seeds"])),
        recipe=raw["recipe"],
        kd=raw["kd"],
        teachers=raw["teachers"],
        planned=raw["runs"]["planned"],
        done=raw["runs"]["done"],
        failed=tuple(_failed(item, pairs) for item in raw["runs"].get("failed", ())),
        provenance=raw["provenance"],
        threads=threads if isinstance(threads, int) else None,
        variants=variants or None,
        losses={str(name): dict(said.get("kd") or {}) for name, said in (raw.get("variants") or {}).items()}
        or {"": raw["kd"]},
    )


def _failed(item: Mapping[str, Any], pairs: tuple[str, ...]) -> FailedRun:
    seed = item.get("seed")
    named = f"{item['teacher']}/{item['student']}" if {"teacher", "student"} <= set(item) else ""
    if named and item.get("variant"):
        named += f" [{item['variant']}]"
    return FailedRun(
        scheme=str(item.get("scheme", "")),
        seed=None if seed is None else int(seed),
        error=str(item.get("error", "")) or "no reason given",
        log=str(item.get("log", "")),
        pair=named or (pairs[0] if len(pairs) == 1 else ""),
    )
