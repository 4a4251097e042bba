"""How many digits of a mean are worth printing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from kdstats.errors import UsageError

_MOST = 12


def decimals_of(standard_errors: Iterable[float], *, digits: int = 2, fallback: int = 4) -> int:
    """Decimals at which the median standard error of a column shows ``digits`` significant digits.

    One number for a whole column, so that its cells can be compared by eye.

    Args:
        standard_errors: Of the column's means; NaN and 0 say nothing and are passed over.
        digits: Significant digits of the standard error, at least 1.
        fallback: Decimals where no standard error is known.

    >>> decimals_of([0.0123, 0.0101, float("nan")]), decimals_of([12.0]), decimals_of([])
    (3, 0, 4)
    """
    if digits < 1:
        raise UsageError(f"at least 1 significant digit, not {digits}")
    known = [s for s in standard_errors if math.isfinite(s) and s > 0]
    if not known:
        return fallback
    # Rounding first: 0.0996 is printed as 0.10, which has one digit more than its logarithm says.
    lead = math.floor(math.log10(float(f"{statistics.median(known):.{digits - 1}e}")))
    return min(max(digits - 1 - lead, 0), _MOST)


def with_decimals(value: float, decimals: int) -> str:
    """``value`` as a plain decimal with a true minus sign; never −0.

    >>> with_decimals(-0.00001, 3), with_decimals(-1.5, 1)
    ('0.000', '−1.5')
    """
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def inside_one(value: float) -> str:
    """A correlation to two decimals, or to as many up to four as keep it from looking like ±1 when it is not.

    >>> inside_one(0.9951), inside_one(-0.31), inside_one(1.0), inside_one(0.99996)
    ('0.995', '−0.31', '1.00', '1.0000')
    """
    for places in (2, 3, 4):
        if abs(round(value, places)) < 1 or abs(value) == 1:
            return with_decimals(value, places)
    return with_decimals(value, 4)
