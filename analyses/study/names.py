"""What names tell: of schemes how they make views, of runs which setting they are one of."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.study.settings import TrainedRun, stratum_key
from kdstats.schemes.naming.expression import Expression, parse

HISTORY = "recursive_mix"
MIXUPS = ("mixup", "full_mixup", "partial_mixup")
MIXING = (*MIXUPS, "cutmix", "patchmix", HISTORY)
SEPARATOR = " then "
_PICKED = "cutmix_pick_"


def is_recursive(scheme: str) -> bool:
    """Whether views are made of the views of the step before."""
    return _names(parse(scheme)) == {HISTORY}


def composable(scheme: str) -> bool:
    """Whether λ and partner tell all about a view: not where history mixing is one of several parts."""
    names = _names(parse(scheme))
    mixing = sum(name in MIXING for name in names)
    return mixing <= 1 and not (HISTORY in names and len(names) > 1)


def _names(node: Expression) -> set[str]:
    if node.name == "+":
        return {name for part in node.parts for name in _names(part)}
    if node.name == "pick":
        return {name for part in node.parts for name in _names(part)} | {"pick"}
    return {node.name}


def split(scheme: str) -> tuple[str, str | None]:
    """Base scheme and criterion of a scheme's name; the criterion is None for one that does not pick.

    >>> split("cutmix_pick_kl"), split("pick(mixup,criterion=student)"), split("cutmix")
    (('cutmix', 'kl'), ('mixup', 'student'), ('cutmix', None))
    """
    node = parse(scheme)
    if node.name == "pick" and len(node.parts) == 1:
        return str(node.parts[0]), str(dict(node.params).get("criterion", "teacher"))
    if node.name.startswith(_PICKED):
        return str(Expression("cutmix")), node.name.removeprefix(_PICKED)
    return str(node), None


def in_turn(run: TrainedRun) -> str:
    """``cutmix then mixup``; one name where one scheme is used throughout."""
    return SEPARATOR.join([run.scheme, *map(str, run.settings.get("teaching.then") or ())])


def setting_names(runs: Sequence[TrainedRun]) -> dict[str, str]:
    """Digest → name of its setting: pair, scheme, who teaches; more of the teaching where that is not enough."""
    short = {r.digest: f"{r.pair}, {in_turn(r)}, {r.teaching}" for r in runs}
    kinds: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for r in runs:
        kinds.setdefault(short[r.digest], set()).add(stratum_key(r, frozenset()))
    out = {}
    for r in runs:
        name = short[r.digest]
        if len(kinds[name]) > 1:
            common = set.intersection(*(set(key) for key in kinds[name]))
            own = [f"{k} {v}" for k, v in stratum_key(r, frozenset()) if (k, v) not in common]
            name = f"{name} ({', '.join(own).replace(chr(39), '')})"
        out[r.digest] = name
    return out
