"""Numbers as ``kdstats correlate`` prints them; nothing is rounded before."""

from __future__ import annotations

import math

from kdstats.tables import inside_one, with_decimals


def number(value: float) -> str:
    """Four decimals, with a true minus sign."""
    return with_decimals(value, 4)


def p_text(value: float) -> str:
    """A p-value as papers print it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def bracket(low: float, high: float) -> str:
    """An interval of correlations."""
    return f"[{with_decimals(low, 3)}, {with_decimals(high, 3)}]"


def short(value: float, low: float, high: float) -> str:
    """A correlation with its interval, two decimals, but none that rounds to ±1 unless it is ±1."""
    return f"{inside_one(value)} [{inside_one(low)}, {inside_one(high)}]"


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
