"""When a probe may stop: a look at the interval, then a plan for the next one."""

from __future__ import annotations

import math

from kdstats.errors import UsageError

FIRST_LOOK = 80
# For units of whole pools: the interval at 16 pools is too short where epochs hold few (0.91), at 40 it covers.
FIRST_POOLS = 40
_MARGIN = 1.1
_FARTHEST = 4


def check_tolerance(tol: float) -> float:
    """``tol`` if it is a sensible relative half-width; raises ``UsageError`` otherwise."""
    if not 1e-4 <= tol < 1:
        raise UsageError(
            f"the tolerance is a relative half-width between 0.0001 and 1, not {tol}; 0.02 means ±2 %"
        )
    return tol


def next_look(units: int, half_width: float, tol: float, cap: int) -> int:
    """How many units to have before looking again; ``units`` itself means: stop.

    Each look plans the next with a tenth to spare, but never beyond four times the units: a half-width from few of
    them is itself uncertain. Few looks are taken, and the half-width hardly depends on where the estimate happens to
    lie, so the interval at stopping keeps its coverage (simulated in ``tests/estimators/test_sequential.py``).

    Args:
        units: Units so far.
        half_width: Relative half-width of the widest interval now.
        tol: Relative half-width asked for.
        cap: Most units allowed.
    """
    return min(units_for(units, half_width, tol, cap), _FARTHEST * units)


def units_for(units: int, half_width: float, tol: float, cap: int) -> int:
    """How many units the half-width asked for seems to take, with a tenth to spare; arguments as in :func:`next_look`.

    The half-width falls as one over the square root of the units.
    """
    if half_width <= tol or units >= cap:
        return units
    planned = math.ceil(units * (half_width / tol) ** 2 * _MARGIN)
    return min(max(planned, units + 1), cap)
