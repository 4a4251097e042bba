"""Checks of the parameters of objectives."""

from __future__ import annotations

from kdstats.errors import UsageError


def positive(objective: str, **values: float) -> None:
    """``UsageError`` unless every value is a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise UsageError(f"{objective}: {name} is a positive number, not {value!r}")


def not_negative(objective: str, **values: float) -> None:
    """``UsageError`` unless every value is a finite number, 0 or above."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise UsageError(f"{objective}: {name} is a number from 0 up, not {value!r}")


def whole(objective: str, **values: int) -> None:
    """``UsageError`` unless every value is a whole number from 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{objective}: {name} is a whole number from 1, not {value!r}")
