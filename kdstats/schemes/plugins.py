"""Schemes from other packages, through the entry-point group ``kdstats.schemes``.

An entry point ``name = "package.module:Class"`` adds the scheme ``name``. The class is a
:class:`~kdstats.schemes.scheme.Scheme` that takes ``(name, draws, space, **params)``; its class attributes
``family``, ``reference`` and ``label`` are what ``kdstats schemes list`` shows. Nothing of a plug-in is
imported before its scheme is asked for or listed.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from kdstats.errors import UsageError
from kdstats.schemes.catalogue import ALIASES, BUILT_IN, SchemeRecord
from kdstats.schemes.scheme import Scheme

GROUP = "kdstats.schemes"


def found() -> dict[str, EntryPoint]:
    """Name → entry point, of the installed plug-ins whose names are free."""
    return _search()[0]


def refused() -> list[str]:
    """Why a plug-in's scheme is not among them, one sentence each. Nothing else suffers from it."""
    return _search()[1]


@lru_cache(maxsize=1)
def _search() -> tuple[dict[str, EntryPoint], list[str]]:
    points: dict[str, EntryPoint] = {}
    wrong: list[str] = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        said = f"the plug-in {_owner(point)} names a scheme {point.name!r}"
        taken = "kdstats" if point.name in (*BUILT_IN, *ALIASES, "pick") else ""
        if point.name in points and points[point.name].value != point.value:
            taken = _owner(points[point.name])
        if taken:
            wrong.append(f"{said}, which belongs to {taken}")
        elif not point.name.isidentifier() or point.name != point.name.lower():
            wrong.append(f"{said}; use lower-case letters, digits and _")
        else:
            points[point.name] = point
    return points, wrong


def load(name: str) -> type[Scheme]:
    """The class behind the plug-in scheme ``name``.

    Raises:
        UsageError: It cannot be imported, or is no scheme; the distribution and the cause are named.
    """
    point = found()[name]
    try:
        cls = point.load()
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise UsageError(
            f"the scheme {name} comes from the plug-in {_owner(point)}, which does not load: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Scheme)):
        raise UsageError(
            f"the scheme {name} of the plug-in {_owner(point)} is {point.value}, which is no subclass of "
            "kdstats.schemes.Scheme"
        )
    return cls


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
