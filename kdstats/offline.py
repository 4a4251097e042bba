"""Whether the network may be used: not when ``KDSTATS_OFFLINE`` is set, or ``--offline`` given."""

from __future__ import annotations

import os

from kdstats.errors import MissingError

VARIABLE = "KDSTATS_OFFLINE"


def is_offline() -> bool:
    """Whether downloads are switched off."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def switch_off() -> None:
    """Switches downloads off for this process and those it starts."""
    os.environ[VARIABLE] = "1"


def refuse(what: str, instead: str) -> None:
    """Raises ``MissingError`` if ``what`` would have to be downloaded and may not be."""
    if is_offline():
        raise MissingError(f"{what} would have to be downloaded, and downloads are switched off; {instead}")
