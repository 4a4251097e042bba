"""In what two studies differ, and what must not be compared because of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analyses.study import Study, networks_of

# A test loss is that of a test set: without the same one there is nothing to subtract.
DATA = ("name", "sha256", "test", "classes")
SILENT = frozenset({"name", "source", "milestones"})  # of a recipe: they only name what others say
UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class Unlike:
    """One setting in which the studies differ, as printed: ``what``, ``first``, ``second``."""

    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms two studies can be compared.

    Attributes:
        unlike: Every setting in which they differ.
        outcome: Why test losses must not be subtracted; empty where they may.
        t_stddev: Why values of T. stddev must not be compared; empty where they may.
    """

    unlike: tuple[Unlike, ...]
    outcome: str
    t_stddev: str


def terms(first: Study, second: Study, pairs: tuple[str, str]) -> Terms:
    """Compares data, teacher, recipe, loss and definition.

    Args:
        first: One study.
        second: The other.
        pairs: The pair of each that is compared.
    """
    one, two = first.card, second.card
    data = _differences("data", one.dataset, two.dataset, {*DATA, "train"})
    teachers = [networks_of(pair).split("/")[0] for pair in pairs]
    students = [networks_of(pair).split("/")[1] for pair in pairs]
    variants = [pair.partition(" [")[2].rstrip("]") for pair in pairs]
    losses = one.losses.get(variants[0], one.kd), two.losses.get(variants[1], two.kd)
    # A teacher may have another name in the other study; what counts are its weights.
    teacher = _differences(
        "teacher", one.teachers.get(teachers[0], {}), two.teachers.get(teachers[1], {}), {"sha256"}
    )
    found = [
        *data,
        *teacher,
        *_named("student", *students),
        *_named("variant", *variants),
        *_differences("recipe", one.recipe, two.recipe, {*one.recipe, *two.recipe} - SILENT),
        *_differences("loss", *losses, {*losses[0], *losses[1]}),
        *_named("threads", one.threads, two.threads),
    ]
    defined = _definition(first), _definition(second)
    lacking = [study.card.name for study, given in zip((first, second), defined, strict=True) if not given]
    unlike = [] if lacking else _differences("T. stddev", *defined, {*defined[0], *defined[1]})
    other_data = [item.what for item in data if item.what.partition(" ")[2] in DATA]
    outcome = (
        f"{', '.join(other_data)} differ, so the test losses are of different images" if other_data else ""
    )
    reasons = [f"no measurement of T. stddev in {' and '.join(lacking)}"] if lacking else []
    reasons += ["the teachers have other weights"] if teacher else []
    reasons += ["the data differ"] if data else []
    if unlike:
        keys = ", ".join(item.what.removeprefix("T. stddev ") for item in unlike)
        reasons.append(f"its definitions differ in {keys}")
    return Terms((*found, *unlike), outcome, "; ".join(reasons))


def _definition(study: Study) -> Mapping[str, Any]:
    documents = [d for group in study.documents.values() for d in group]
    return documents[0].definition if documents else {}


def _differences(kind: str, one: Mapping[str, Any], two: Mapping[str, Any], keys: set[str]) -> list[Unlike]:
    out = []
    for key in sorted(keys):
        if _same(one.get(key), two.get(key)):
            continue
        out.append(Unlike(f"{kind} {key.replace('_', ' ')}", _text(one.get(key)), _text(two.get(key))))
    return out


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, int | float) and isinstance(two, int | float):
        return float(one) == float(two)
    return bool(one == two)


def _named(what: str, one: Any, two: Any) -> list[Unlike]:
    return [] if one == two else [Unlike(what, _text(one), _text(two))]


def _text(value: Any) -> str:
    text = UNKNOWN if value in (None, "") else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
