"""Errors that a user can act on, each with its exit code.

Every error of kdstats names what was wrong, where, the nearest right thing and, where there is one, the
command that mends it. Programs end with the code of the class; no traceback reaches a user unless
``KDSTATS_TRACEBACK=1`` is set.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KdstatsError(Exception):
    """Base of all errors that kdstats raises on purpose. Exit code 1."""

    exit_code = 1


class UsageError(KdstatsError, ValueError):
    """An unknown name, an option or a configuration that makes no sense. Exit code 2."""

    exit_code = 2


class IncompleteError(KdstatsError):
    """A study of which some runs failed; everything else is complete and kept. Exit code 3."""

    exit_code = 3


class MissingError(KdstatsError, FileNotFoundError):
    """Data or a teacher is missing, unreadable, of the wrong shape, or has another hash. Exit code 4."""

    exit_code = 4

    def __str__(self) -> str:  # OSError would print the errno tuple
        return str(self.args[0]) if self.args else ""


class CheckError(KdstatsError):
    """A check on the numbers failed (NaN, rows that do not sum to one, unlike definitions). Exit code 5."""

    exit_code = 5


def nearest(name: str, choices: Iterable[str], n: int = 2) -> list[str]:
    """The up to ``n`` members of ``choices`` most like ``name``; empty when none is near."""
    known = list(dict.fromkeys(choices))
    folded = {choice.lower(): choice for choice in known}
    hits = difflib.get_close_matches(name.lower(), list(folded), n=n, cutoff=0.5)
    starts = [choice for choice in known if name and choice.lower().startswith(name.lower()[:4])]
    return list(dict.fromkeys([folded[hit] for hit in hits] + starts))[:n]


def unknown(kind: str, name: str, choices: Iterable[str], hint: str = "") -> UsageError:
    """The error for a ``kind`` (scheme, column, …) that is not among ``choices``.

    Args:
        kind: What the name was meant to be, in the singular.
        name: What was given.
        choices: All right names.
        hint: A last sentence, usually the command that lists them.
    """
    known = list(dict.fromkeys(choices))
    near = nearest(name, known)
    if near:
        meant = f" Did you mean {' or '.join(repr(n) for n in near)}?"
    elif known:
        shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        meant = f" Known: {shown}."
    else:
        meant = ""
    return UsageError(f"no {kind} named {name!r}.{meant}{' ' + hint if hint else ''}")
