"""Schemes from other packages, through the entry-point group ``kdstats.schemes``.

An entry point ``name = "package.module:Class"`` adds the scheme ``name``. The class is a
:class:`~kdstats.schemes.scheme.Scheme` that takes ``(name, draws, space, **params)``; its class attributes
``family``, ``reference`` and ``label`` are what ``kdstats schemes list`` shows. Nothing of a plug-in is
imported before its scheme is asked for or listed.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from kdstats.errors import UsageError
from kdstats.schemes.naming.catalogue import ALIASES, BUILT_IN, SchemeRecord

if TYPE_CHECKING:
    from kdstats.schemes.scheme import Scheme

GROUP = "kdstats.schemes"
# Words with a meaning of their own where schemes are written or their results are kept.
RESERVED = ("pick", "true", "false", "none", "null", "original", "wang2022")
_PLAIN = re.compile(r"[a-z][a-z0-9_]*")


def found() -> Mapping[str, EntryPoint]:
    """Name → entry point, of the installed plug-ins whose names are free."""
    return _search()[0]


def refused() -> tuple[str, ...]:
    """Why a plug-in's scheme is not among them, one sentence each. Nothing else suffers from it."""
    return _search()[1]


@lru_cache(maxsize=1)
def _search() -> tuple[Mapping[str, EntryPoint], tuple[str, ...]]:
    points: dict[str, EntryPoint] = {}
    wrong: list[str] = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        said = f"the plug-in {_owner(point)} names a scheme {point.name!r}"
        taken = "kdstats" if point.name in (*BUILT_IN, *ALIASES, *RESERVED) else ""
        if point.name in points and points[point.name].value != point.value:
            taken = _owner(points[point.name])
        if taken:
            wrong.append(f"{said}, which belongs to {taken}")
        elif not _PLAIN.fullmatch(point.name) or keyword.iskeyword(point.name):
            wrong.append(f"{said}; use lower-case letters, digits and _, and no word of Python's")
        else:
            points[point.name] = point
    return MappingProxyType(points), tuple(wrong)


def load(name: str) -> type[Scheme]:
    """The class behind the plug-in scheme ``name``.

    Raises:
        UsageError: It cannot be imported, or is no scheme; the distribution and the cause are named.
    """
    from kdstats.schemes.scheme import Scheme  # and with it torch, which listing names must not wait for

    point = found()[name]
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises while it is imported
        raise UsageError(
            f"the scheme {name} comes from the plug-in {_owner(point)}, which does not load: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Scheme)):
        raise UsageError(
            f"the scheme {name} of the plug-in {_owner(point)} is {point.value}, which is no subclass of "
            "kdstats.schemes.Scheme"
        )
    _check_class(cls, f"the scheme {name} of the plug-in {_owner(point)}")
    return cls


def _check_class(cls: type[Scheme], who: str) -> None:
    """Refuses what would fail later, and less clearly."""
    roles = {"teacher", "student"}
    if not isinstance(cls.needs, (set, frozenset)) or not cls.needs <= roles:
        raise UsageError(f"{who} needs {cls.needs!r}; it may need 'teacher' and 'student', as a frozenset")
    try:
        inspect.signature(cls).bind("name", "batch", None)
    except TypeError as error:
        raise UsageError(f"{who} must take (name, draws, space, *, parameters…): {error}") from None
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(cls.__abstractmethods__))
        raise UsageError(f"{who} does not define {lacking}")


def record(name: str) -> SchemeRecord:
    """The registry's record of a plug-in scheme; imports it."""
    cls = load(name)
    return SchemeRecord(
        name,
        str(getattr(cls, "family", "plug-in")),
        found()[name].value,
        str(getattr(cls, "reference", "") or _owner(found()[name])),
        needs=cls.needs,
        mixes=cls.mixes,
        history=cls.history,
        source=_owner(found()[name]),
        label=str(getattr(cls, "label", "") or name),
    )


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
