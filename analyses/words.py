"""Numbers in sentences: as many digits as the uncertainty carries, and the interval beside the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

CONFIDENCE = 0.95
LEVEL = f"{100 * CONFIDENCE:g} %"
CANNOT = "cannot be answered from this study because"


def decimals(width: float, most: int = 4) -> int:
    """Decimal places that show ``width`` with two significant digits; ``most`` when it is 0 or unknown."""
    if not math.isfinite(width) or width <= 0:
        return most
    return min(most, max(0, 1 - math.floor(math.log10(width))))


def number(value: float, places: int) -> str:
    """``value`` with a true minus; exactly 0 is ``0``, and what rounds to nothing has no sign."""
    if value == 0:
        return "0"
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−")


def interval(low: float, high: float, places: int) -> str:
    """``[low, high]``."""
    return f"[{number(low, places)}, {number(high, places)}]"


def estimate(value: float, low: float, high: float, most: int = 4) -> str:
    """``value [low, high]``; "no spread" stands for an interval that cannot be formed."""
    if math.isnan(low) or math.isnan(high):
        return f"{number(value, most)} (no spread)"
    places = decimals(high - low, most)
    return f"{number(value, places)} {interval(low, high, places)}"


def p_value(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def probability(p: float) -> str:
    """A probability found by simulation: ``> 0.999`` and ``< 0.001`` rather than 1 and 0."""
    if math.isnan(p):
        return "unknown"
    return "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"{p:.2f}" if p < 0.995 else f"{p:.3f}"


def percent(fraction: float, places: int = 0) -> str:
    """A signed share, ``−31 %``."""
    text = number(100 * fraction, places)
    return f"{'+' if fraction > 0 and not text.startswith('−') else ''}{text} %"


def count(n: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def sizes(ns: Sequence[int], noun: str = "seed") -> str:
    """``3 seeds``, or ``2 to 3 seeds``."""
    low, high = min(ns), max(ns)
    return count(low, noun) if low == high else f"{low} to {high} {noun}s"


def capital(text: str) -> str:
    """``text`` with its first letter raised; not for sentences that begin with a name such as ``cutmix``."""
    return text[:1].upper() + text[1:]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries with text keys."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
