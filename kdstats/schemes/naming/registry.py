"""Name or expression → scheme. Families are imported when one of their members is asked for."""

from __future__ import annotations

import re
from typing import Any

from kdstats.errors import UsageError
from kdstats.schemes.combined.composition import Composition
from kdstats.schemes.combined.probability import Sometimes
from kdstats.schemes.naming import plugins
from kdstats.schemes.naming.catalogue import BUILT_IN, GROUPS
from kdstats.schemes.naming.expression import Expression
from kdstats.schemes.naming.presets import PRESETS
from kdstats.schemes.naming.resolve import (
    PICK_OWN,
    base_of,
    class_at,
    keywords,
    names,
    record,
    record_of,
    resolve,
    with_params,
)
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

__all__ = ["GROUPS", "common_draws", "expand", "get", "members", "names", "record"]


def members(name: str) -> tuple[str, ...]:
    """The schemes behind a group's name (``wang2022``), or ``name`` alone."""
    return GROUPS.get(name.strip().lower(), (name,))


def common_draws(wanted: list[str], draws: str | None) -> str:
    """The granularity of draws for several schemes measured together: ``draws``, else what their presets ask for.

    Raises:
        UsageError: Presets of unlike granularities, or one unlike ``draws``.
    """
    forced = {PRESETS[e.preset].draws: name for name in wanted if (e := resolve(name)).preset}
    if draws is None and len(forced) > 1:
        raise UsageError(
            f"{forced['batch']} draws per batch and {forced['sample']} per sample: values of unlike definitions "
            "cannot be compared, so measure them apart"
        )
    chosen = draws or next(iter(forced), "batch")
    for name in wanted:
        get(name, draws=chosen)
    return chosen


def expand(wanted: list[str]) -> list[str]:
    """Canonical names of ``wanted`` without repetition; a group (``wang2022``) stands for its members."""
    flat = [member for name in wanted for member in members(name)]
    return list(dict.fromkeys(record(name).name for name in flat))


def get(name: str, *, draws: str | None = None, space: PixelSpace | None = None, **params: Any) -> Scheme:
    """A scheme by name or expression.

    Args:
        name: See :func:`names`; also ``scheme@preset``, ``scheme(parameter=value)``, ``pick(BASE)`` and ``a+b``.
            Aliases and hyphens are accepted.
        draws: ``batch`` (the default, unless a preset says otherwise) or ``sample``.
        space: Normalisation of the images; needed where a scheme thinks in grey levels (crop, AutoAugment).
        params: More parameters of the scheme, for example ``alpha=0.2``, as if written in the expression. Every
            scheme takes ``p``, the probability of acting; a picking scheme ``criterion, runs, tau, n_pick``
            beside those of its base.

    Raises:
        UsageError: Unknown name, preset, granularity or parameter.
    """
    return _build(with_params(resolve(name), params), draws, space)


def _build(expression: Expression, draws: str | None, space: PixelSpace | None) -> Scheme:
    found = record_of(expression)
    params: dict[str, Any] = {**found.params, **dict(expression.params)}
    if expression.preset:
        preset = PRESETS[expression.preset]
        if draws not in (None, preset.draws):
            raise UsageError(
                f"{found.name}: that code draws once per {preset.draws}; add draws={preset.draws} "
                f"(`--draws {preset.draws}`), or leave out @{expression.preset}"
            )
        draws = preset.draws
        params = {**preset.schemes[expression.name], **params}
    draws = draws or "batch"
    if expression.name == "+":
        return Composition(found.name, [_build(part, draws, space) for part in expression.parts])
    if expression.name == "pick":
        base = _build(base_of(expression), draws, space)
        return _construct(class_at("combined.picking:Pick"), found.name, (base,), params)
    cls = plugins.load(expression.name) if found.source else class_at(found.target)
    if not found.picks:
        return _acting(cls, found.name, draws, space, params)
    own = {k: params.pop(k) for k in PICK_OWN if k in params}
    inner = Expression(found.picks, params=tuple((k, v) for k, v in expression.params if k not in PICK_OWN))
    base = _acting(class_at(BUILT_IN[found.picks].target), str(inner), draws, space, params)
    return _construct(cls, found.name, (base,), own)


def _acting(
    cls: type[Scheme], name: str, draws: str, space: PixelSpace | None, params: dict[str, Any]
) -> Scheme:
    """The scheme, inside :class:`Sometimes` if ``p`` is given and it has no probability of its own."""
    if "p" not in params or "p" in keywords(cls):
        return _construct(cls, name, (draws, space), params)
    p = params.pop("p")
    without = re.sub(r"(?<=[(,])p=[^,()]*,?", "", name).replace(",)", ")").replace("()", "")
    base = _construct(cls, without, (draws, space), params)
    return _construct(Sometimes, name, (base, p), {})


def _construct(cls: Any, name: str, args: tuple[Any, ...], params: dict[str, Any]) -> Scheme:
    try:
        scheme: Scheme = cls(name, *args, **params)
    except TypeError:
        said = ", ".join(f"{k}={v}" for k, v in params.items())
        raise UsageError(f"{name}: a parameter has the wrong kind of value: {said}") from None
    return scheme
