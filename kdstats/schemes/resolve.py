"""From text to one canonical expression, and to the record of the scheme behind it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

from kdstats.errors import UsageError, nearest, unknown
from kdstats.schemes import plugins
from kdstats.schemes.catalogue import ALIASES, BUILT_IN, CRITERIA_NEEDS, SchemeRecord
from kdstats.schemes.expression import Expression, Value, parse
from kdstats.schemes.presets import PRESETS, presets_of
from kdstats.schemes.scheme import Scheme

PICK_OWN = ("criterion", "runs", "tau", "n_pick")


def names() -> list[str]:
    """All registered names: the built-in schemes, then plug-ins."""
    return [*BUILT_IN, *plugins.found()]


def resolve(text: str) -> Expression:
    """The canonical expression of ``text``: aliases replaced, parameters checked, those at their default left out.

    Raises:
        UsageError: No such scheme, preset or parameter; the message holds the nearest names.
    """
    plain = text.strip().lower().replace("-", "_")
    return _canonical(parse(ALIASES.get(plain, text)))


def _canonical(node: Expression) -> Expression:
    if node.name in ALIASES:
        meant = parse(ALIASES[node.name])
        node = replace(
            meant, preset=node.preset, params=_merged(meant.params, dict(node.params)), parts=node.parts
        )
    node = replace(node, parts=tuple(map(_canonical, node.parts)))
    _record(node)  # refuses what does not exist
    if not node.params:
        return node
    defaults = _defaults(node)
    kept: dict[str, Value] = {}
    for key, value in node.params:
        if key not in defaults:
            near = nearest(key, defaults)
            meant_key = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(defaults)}"
            raise UsageError(f"{node.name} has no parameter {key!r}; {meant_key}")
        default = defaults[key]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value != default or type(value) is not type(default):
            kept[key] = value
    return replace(node, params=tuple(sorted(kept.items())))


def with_params(expression: Expression, params: dict[str, Any]) -> Expression:
    """``expression`` with more parameters, canonical again.

    Raises:
        UsageError: A composition, whose parts take the parameters; or as :func:`resolve`.
    """
    if not params:
        return expression
    if expression.name == "+":
        raise UsageError(f"{expression}: write the parameters into the parts, for example flip(p=0.3)+cutout")
    return _canonical(replace(expression, params=_merged(expression.params, params)))


def _merged(params: tuple[tuple[str, Value], ...], more: dict[str, Any]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted({**dict(params), **more}.items()))


def _defaults(node: Expression) -> dict[str, Any]:
    """Parameters that the scheme knows, with the values they have when they are not given."""
    if node.name == "+":
        return {}
    if node.name == "pick":
        return keywords(class_at("picking:Pick"))
    found = _known(node.name)
    cls = plugins.load(node.name) if found.source else class_at(found.target)
    if found.picks:
        known = {**keywords(class_at(BUILT_IN[found.picks].target)), "p": 1.0, **keywords(cls)}
    else:
        known = {"p": 1.0, **keywords(cls)}
    preset = PRESETS[node.preset].schemes[node.name] if node.preset else {}
    fixed = set(found.params)  # what makes the name: crop_flip(crop=false) would be a flip under a wrong name
    return {key: value for key, value in {**known, **preset}.items() if key not in fixed}


def keywords(cls: Any) -> dict[str, Any]:
    """Keyword-only parameters of a scheme's class and their defaults."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def class_at(target: str) -> type[Scheme]:
    """The built-in class behind ``module:Class``."""
    module, _, cls = target.partition(":")
    found: type[Scheme] = getattr(importlib.import_module(f"kdstats.schemes.{module}"), cls)
    return found


def record(name: str) -> SchemeRecord:
    """The record behind a name, an alias or an expression; hyphens count as underscores, case does not matter.

    Raises:
        UsageError: As :func:`resolve`.
    """
    return _record(resolve(name))


def record_of(expression: Expression) -> SchemeRecord:
    """The record behind a canonical expression."""
    return _record(expression)


def _known(name: str) -> SchemeRecord:
    known = names()
    if name not in known:
        raise unknown("scheme", name, [*known, "pick"], f"`kdstats schemes list` shows all {len(known)}.")
    return BUILT_IN.get(name) or plugins.record(name)


def _record(expression: Expression) -> SchemeRecord:
    if expression.name == "+":
        parts = [_record(part) for part in expression.parts]
        return SchemeRecord(
            str(expression),
            "composition",
            "composition:Composition",
            "; ".join(dict.fromkeys(p.reference for p in parts)),
            needs=frozenset().union(*(p.needs for p in parts)),
            mixes=any(p.mixes for p in parts),
            history=any(p.history for p in parts),
            label=" + ".join(p.label for p in parts),
        )
    if expression.name == "pick":
        base = _record(base_of(expression))
        criterion = str(dict(expression.params).get("criterion", "teacher"))
        return SchemeRecord(
            str(expression),
            "picking",
            "picking:Pick",
            BUILT_IN["cutmix_pick_teacher"].reference,
            needs=base.needs | CRITERIA_NEEDS.get(criterion, frozenset()),
            picks=base.name,
            mixes=base.mixes,
            label=f"pick({', '.join([base.label, *(f'{k}={v}' for k, v in expression.params)])})",
        )
    if expression.parts:
        raise UsageError(
            f"{expression.name} takes parameters by name, not {expression.parts[0]}; pick(BASE) does"
        )
    found = _known(expression.name)
    if expression.preset and expression.preset not in presets_of(found.name):
        raise _no_preset(found.name, expression.preset)
    own = str(expression)
    return (
        found
        if own == found.name
        else replace(found, name=own, label=own.replace(found.name, found.label, 1))
    )


def _no_preset(name: str, preset: str) -> UsageError:
    there = presets_of(name)
    if not there:
        return UsageError(f"{name} has no presets, so there is no {name}@{preset}")
    near = nearest(preset, there) or there
    others = list(PRESETS[preset].schemes) if preset in PRESETS else []
    hint = f"; @{preset} knows {', '.join(others)}" if others else ""
    return UsageError(f"no preset {name}@{preset}; there is {' or '.join(f'{name}@{p}' for p in near)}{hint}")


def base_of(expression: Expression) -> Expression:
    """What a ``pick`` picks from; raises ``UsageError`` if that is not exactly one scheme."""
    if len(expression.parts) != 1 or expression.preset:
        raise UsageError(
            "pick takes one scheme to pick from, for example pick(mixup) or pick(cutmix, criterion=kl)"
        )
    return expression.parts[0]
