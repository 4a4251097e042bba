"""Parameters that are a range: two numbers, or one where the range is a point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdstats.errors import UsageError

Interval = float | Sequence[float]


def interval(
    scheme: str, name: str, value: Interval, least: float, greatest: float = math.inf
) -> tuple[float, float]:
    """``value`` as (from, to); one number ``v`` means (v, v), which is how scheme expressions can say it.

    Args:
        scheme: Whose parameter it is, for the message.
        name: Of the parameter.
        value: What was given.
        least: The lowest number allowed.
        greatest: The highest number allowed; infinity itself is not a number.

    Raises:
        UsageError: Not one or two numbers in order within the bounds; the message says what is allowed.
    """
    numbers = (value, value) if isinstance(value, int | float) else value
    if (
        not isinstance(numbers, Sequence)
        or len(numbers) != 2
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
        or not least <= numbers[0] <= numbers[1] <= greatest
    ):
        bounds = f"from {least:g} to {greatest:g}" if greatest < math.inf else f"from {least:g} on"
        raise UsageError(f"{scheme}: {name} is one number or two in order, {bounds}, not {value}")
    return float(numbers[0]), float(numbers[1])


def in_words(low: float, high: float, law: str = "uniform in") -> str:
    """How a number between ``low`` and ``high`` is drawn, for :meth:`Scheme.rules`; a point is not drawn."""
    return f"{low:g}" if low == high else f"{law} {low:g}…{high:g}"
