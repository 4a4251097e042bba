"""From text to one canonical expression, and to the record of the scheme behind it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdstats.errors import UsageError, nearest, unknown
from kdstats.schemes.naming import plugins
from kdstats.schemes.naming.catalogue import ALIASES, BUILT_IN, CRITERIA_NEEDS, GROUPS, SchemeRecord
from kdstats.schemes.naming.expression import Expression, Value, check_length, parse
from kdstats.schemes.naming.parameters import Parameter, parameters_of
from kdstats.schemes.naming.presets import PRESETS, presets_of

if TYPE_CHECKING:
    from kdstats.schemes.scheme import Scheme

PICK_OWN = ("criterion", "runs", "tau", "n_pick")


def names() -> list[str]:
    """All registered names: the built-in schemes, then plug-ins."""
    return [*BUILT_IN, *plugins.found()]


def resolve(text: str) -> Expression:
    """The canonical expression of ``text``: aliases replaced, parameters checked, those at their default left out.

    Canonical text is canonical again: ``resolve(str(resolve(text))) == resolve(text)``.

    Raises:
        UsageError: No such scheme, preset or parameter; the message holds the nearest names.
    """
    plain = "".join(text.lower().split()).replace("-", "_")
    found = _canonical(parse(ALIASES.get(plain, text)))
    again = ALIASES.get(str(found))  # parts that together are an alias: crop(…)+flip without parameters
    if again is not None:
        found = _canonical(parse(again))
    check_length(str(found))
    return found


def _canonical(node: Expression) -> Expression:
    if node.name in ALIASES:
        meant = parse(ALIASES[node.name])
        node = replace(
            meant, preset=node.preset, params=_merged(meant.params, dict(node.params)), parts=node.parts
        )
    node = replace(node, parts=tuple(map(_canonical, node.parts)))
    record_of(node)  # refuses what does not exist
    if not node.params:
        return node
    known = _parameters(node)
    kept: dict[str, Value] = {}
    for key, value in node.params:
        if key not in known:
            near = nearest(key, known)
            meant_key = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
            raise UsageError(f"{node.name} has no parameter {key!r}; {meant_key}")
        accepted = known[key].accept(node.name, value)
        if accepted != known[key].default or type(accepted) is not type(known[key].default):
            kept[key] = accepted
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


def _parameters(node: Expression) -> dict[str, Parameter]:
    """Parameters that the scheme knows, with the values they have when they are not given."""
    if node.name == "+":
        return {}
    if node.name == "pick":
        return parameters_of(class_at("combined.picking:Pick"))
    found = _known(node.name)
    cls = plugins.load(node.name) if found.source else class_at(found.target)
    base = parameters_of(class_at(BUILT_IN[found.picks].target)) if found.picks else {}
    known = {"p": Parameter("p", "float", 1.0), **base, **parameters_of(cls)}
    preset = PRESETS[node.preset].schemes[node.name] if node.preset else {}
    fixed = set(found.params)  # what makes the name: another criterion would be filed under a wrong one
    return {
        key: replace(parameter, default=preset.get(key, parameter.default))
        for key, parameter in known.items()
        if key not in fixed
    }


def keywords(cls: Any) -> list[str]:
    """Names of the keyword-only parameters of a scheme's class."""
    return list(parameters_of(cls))


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
    return record_of(resolve(name))


def _known(name: str) -> SchemeRecord:
    known = names()
    if name in GROUPS:
        raise UsageError(
            f"{name} stands for {len(GROUPS[name])} schemes ({', '.join(GROUPS[name])}) in a list of schemes; here one "
            f"is wanted. With the quirks of the published code: NAME@{name}"
        )
    if name not in known:
        raise unknown("scheme", name, [*known, "pick"], f"`kdstats schemes list` shows all {len(known)}.")
    return BUILT_IN.get(name) or plugins.record(name)


def record_of(expression: Expression) -> SchemeRecord:
    """The record behind a canonical expression; raises ``UsageError`` for names that do not exist."""
    if expression.name == "+":
        parts = [record_of(part) for part in expression.parts]
        return SchemeRecord(
            str(expression),
            "composition",
            "combined.composition:Composition",
            "; ".join(dict.fromkeys(p.reference for p in parts)),
            needs=frozenset().union(*(p.needs for p in parts)),
            mixes=any(p.mixes for p in parts),
            history=any(p.history for p in parts),
        )
    if expression.name == "pick":
        base = record_of(base_of(expression))
        criterion = str(dict(expression.params).get("criterion", "teacher"))
        return SchemeRecord(
            str(expression),
            "picking",
            "combined.picking:Pick",
            BUILT_IN["cutmix_pick_teacher"].reference,
            needs=base.needs | CRITERIA_NEEDS.get(criterion, frozenset()),
            picks=base.name,
            mixes=base.mixes,
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
