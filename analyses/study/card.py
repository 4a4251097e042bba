"""The card of a study, ``study.json``: what was asked for, with which teacher, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from analyses.study.shape import Count, Finite, Fraction, Seed, Setting, Shape, check_shape, read_json
from analyses.words import count
from kdstats.errors import CheckError, MissingError

SCHEMA = "kdstats/study-card/1"
SELECTION = "last epoch"

# Runs that a study may ask for: ten thousand are many.
MOST_RUNS = 1_000_000
_ANEW = "`python -m runners.study run` writes it anew"
_Names = Annotated[list[str], Field(min_length=1, max_length=100_000)]
_Seeds = Annotated[list[Seed], Field(min_length=1, max_length=100_000)]


class _Data(Shape):
    name: str
    classes: Count
    sha256: str | None = None
    train: Count | None = None
    test: Count | None = None


class _Teacher(Shape):
    sha256: str | None = None
    path: str | None = None
    arch: str | None = None
    test_accuracy: Fraction | None = None
    test_loss: Finite | None = None
    scheme: str | None = None


class _Failed(Shape):
    teacher: str | None = None
    student: str | None = None
    variant: str | None = None
    scheme: str | None = None
    seed: Seed | None = None
    error: str | None = None
    log: str | None = None


class _Runs(Shape):
    planned: Annotated[int, Field(ge=0, le=MOST_RUNS)]
    done: Annotated[int, Field(ge=0, le=MOST_RUNS)]
    failed: list[_Failed] = Field(default_factory=list)


class _Variant(Shape):
    pairs: _Names
    schemes: _Names
    seeds: _Seeds
    kd: dict[str, Setting] | None = None


class _Document(Shape):
    name: str
    dataset: _Data
    pairs: _Names
    schemes: _Names
    seeds: _Seeds
    recipe: dict[str, Setting]
    kd: dict[str, Setting]
    teachers: dict[str, _Teacher]
    runs: _Runs
    selection: str
    provenance: dict[str, Setting]
    threads: int | None = None
    variants: dict[str, _Variant] | None = None


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

    @property
    def size(self) -> str:
        """``9 schemes × 3 seeds``, with the pairs and settings where there is more than one."""
        networks = len(set(map(networks_of, self.pairs)))
        parts = [count(networks, "pair")] if networks > 1 else []
        if len(self.pairs) > networks:
            parts.append(count(-(-len(self.pairs) // networks), "setting"))
        return " × ".join([*parts, count(len(self.schemes), "scheme"), count(len(self.seeds), "seed")])

    @property
    def asked_count(self) -> int:
        """How many :meth:`asked` gives."""
        own = self.variants or {}
        each = (own.get(pair, (self.schemes, self.seeds)) for pair in self.pairs)
        return sum(len(schemes) * len(seeds) for schemes, seeds in each)

    def asked(self) -> Iterator[tuple[str, str, int]]:
        """``(pair, scheme, seed)`` of every run asked for."""
        for pair in self.pairs:
            schemes, seeds = (self.variants or {}).get(pair, (self.schemes, self.seeds))
            for scheme in schemes:
                for seed in seeds:
                    yield pair, scheme, seed


def networks_of(pair: str) -> str:
    """``teacher/student`` of a pair, without the variant."""
    return pair.partition(" [")[0]


def read_card(path: Path) -> Card:
    """The card at ``path``.

    Raises:
        MissingError: No readable card, another schema, or keys are missing or of the wrong kind.
        CheckError: Outcomes were selected otherwise than by the last epoch, or numbers that cannot be: more runs done
            than planned, an accuracy above 1.
    """
    raw = read_json(path, "study card")
    if raw.get("schema") != SCHEMA:
        raise MissingError(f"{path} has schema {raw.get('schema')!r}, expected {SCHEMA!r}")
    check_shape(_Document, raw, path, anew=_ANEW)
    if raw["selection"] != SELECTION:
        raise CheckError(
            f"{path} selects outcomes by {raw['selection']!r}; a report compares students after the "
            f"{SELECTION}"
            " only (a best epoch is chosen on the test set)"
        )
    arms = raw.get("variants") or {}
    pairs = tuple(raw["pairs"])
    for pair in (*pairs, *(pair for arm in arms.values() for pair in arm["pairs"])):
        # " [" begins the variant wherever a pair is named.
        if " [" in pair or [bool(side) for side in pair.split("/")] != [True, True]:
            raise MissingError(f"{path}: pair {pair!r} is not teacher/student; {_ANEW}")
    variants = {
        f"{pair} [{name}]": (tuple(arm["schemes"]), tuple(arm["seeds"]))
        for name, arm in arms.items()
        for pair in arm["pairs"]
    }
    runs = raw["runs"]
    card = Card(
        name=raw["name"],
        dataset=raw["dataset"],
        pairs=tuple(variants) or pairs,
        schemes=tuple(raw["schemes"]),
        seeds=tuple(raw["seeds"]),
        recipe=raw["recipe"],
        kd=raw["kd"],
        teachers=raw["teachers"],
        planned=runs["planned"],
        done=runs["done"],
        failed=tuple(_failed(item, pairs) for item in runs.get("failed", ())),
        provenance=raw["provenance"],
        threads=raw.get("threads"),
        variants=variants or None,
        losses={name: dict(arm.get("kd") or {}) for name, arm in arms.items()} or {"": raw["kd"]},
    )
    if card.asked_count > MOST_RUNS:
        raise CheckError(
            f"{path} asks for {card.asked_count:,} runs, pairs by schemes by seeds, and plans {card.planned:,}; more "
            f"than {MOST_RUNS:,} are no study; {_ANEW}"
        )
    if card.done > card.planned:
        raise CheckError(f"{path} says that {card.done:,} of {card.planned:,} runs are done; {_ANEW}")
    return card


def _failed(item: Mapping[str, Any], pairs: tuple[str, ...]) -> FailedRun:
    teacher, student = item.get("teacher"), item.get("student")
    named = f"{teacher}/{student}" if teacher is not None and student is not None else ""
    if named and item.get("variant"):
        named += f" [{item['variant']}]"
    return FailedRun(
        scheme=item.get("scheme") or "",
        seed=item.get("seed"),
        error=item.get("error") or "no reason given",
        log=item.get("log") or "",
        pair=named or (pairs[0] if len(pairs) == 1 else ""),
    )
