"""Intervals of shares."""

from __future__ import annotations

from analyses.words import CONFIDENCE


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a share of ``n`` (Wilson 1927), at :data:`analyses.words.CONFIDENCE`."""
    from statsmodels.stats.proportion import (
        proportion_confint,  # a second that other questions need not wait for
    )

    low, high = proportion_confint(share * n, n, alpha=1 - CONFIDENCE, method="wilson")
    # At shares of 0 and 1 an end is the share itself, but for rounding.
    return min(float(low), share), max(float(high), share)
