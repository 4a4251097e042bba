"""Numbers as ``kdstats correlate`` prints them; nothing is rounded before."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Four decimals, with a true minus sign."""
    return _signed(value, 4)


def p_text(value: float) -> str:
    """A p-value as papers print it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def bracket(low: float, high: float) -> str:
    """An interval of correlations."""
    return f"[{_signed(low, 3)}, {_signed(high, 3)}]"


def short(value: float, low: float, high: float) -> str:
    """A correlation with its interval, two decimals, but none that rounds to ±1 unless it is ±1."""
    return f"{_inner(value)} [{_inner(low)}, {_inner(high)}]"


def digits(value: float, places: int = 3) -> str:
    """A number of any size to ``places`` significant digits; an end without limit is an infinity sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if math.isnan(value):
        return "unknown"
    text = f"{value:#.{places}g}" if 1e-4 <= abs(value) < 10**places or value == 0 else f"{value:.{places}g}"
    return text.rstrip(".").replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval of numbers of any size."""
    return f"[{digits(low)}, {digits(high)}]"


def _inner(value: float) -> str:
    for places in (2, 3, 4):
        if abs(round(value, places)) < 1 or abs(value) == 1:
            return _signed(value, places)
    return _signed(value, 4)


def _signed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # + 0.0 turns -0.0 into 0.0
