"""How many seeds show a gap between two schemes, what a number of seeds shows, and with what chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kdstats.association.noncentral import LEAST_ALPHA, t_critical, t_power
from kdstats.association.pilot import Spread
from kdstats.association.result import Result
from kdstats.errors import UsageError, unknown
from kdstats.estimators.intervals import check_confidence

ADJUSTMENTS = ("holm", "bonferroni", "none")
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class GapPower(Result):
    """The answer for one gap.

    Attributes:
        asked: ``seeds``, ``gap`` or ``power``: which of the three was solved for.
        gap: Difference of two schemes' means, unit of the outcome.
        seeds: Seeds of each scheme.
        power: Chance that the two-sided test sees the gap with these seeds, if the sd is the pilot's.
        low: Lower end of what was asked for, over the interval of the sd; equal to ``high`` where it is known.
        high: Upper end; infinite where the wide end of the sd needs more than a million seeds.
        target: Power asked for (where ``asked`` is not ``power``).
        alpha: Level for all comparisons together.
        alpha_each: Level of this comparison's test.
        comparisons: Number of comparisons that the level is divided over.
        adjust: ``holm``, ``bonferroni`` or ``none``.
        pooled: Schemes whose spread is pooled in the test.
        df: Degrees of freedom of the test.
        sd_difference: Standard deviation of a difference of two runs.
        spread: Where it comes from.
        confidence: Nominal coverage of ``low … high``.
        method: How it was computed, in words that can stand in a caption.
        notes: Warnings that stay with the number.
    """

    asked: str
    gap: float
    seeds: int
    power: float
    low: float
    high: float
    target: float
    alpha: float
    alpha_each: float
    comparisons: int
    adjust: str
    pooled: int
    df: int
    sd_difference: float
    spread: Spread
    confidence: float
    method: str
    notes: tuple[str, ...] = ()


def check_level(alpha: float, comparisons: int, adjust: str) -> float:
    """The level of one test out of ``comparisons``; Holm's first step, which is Bonferroni's."""
    if not 0 < alpha < 1:
        raise UsageError(f"alpha lies between 0 and 1, not {alpha}; 0.05 is usual")
    if comparisons < 1:
        raise UsageError(f"at least 1 comparison, not {comparisons}")
    if adjust not in ADJUSTMENTS:
        raise unknown("adjustment", adjust, ADJUSTMENTS)
    each = alpha if adjust == "none" else alpha / comparisons
    if each < LEAST_ALPHA:
        raise UsageError(
            f"the level of one test is {each:g}; below {LEAST_ALPHA:g} its power is lost to rounding"
        )
    return each


def check_target(target: float, alpha: float) -> float:
    """``target`` if it is a power that a test of level ``alpha`` can be asked for."""
    if not alpha < target < 1:
        raise UsageError(
            f"the power asked for lies between alpha ({alpha:g}) and 1, not {target}; 0.8 is usual"
        )
    return target


def test_df(seeds: int, pooled: int, paired: bool) -> int:
    """Degrees of freedom of the residual of ``pooled`` schemes with ``seeds`` each."""
    return (seeds - 1) * (pooled - 1) if paired else (seeds - 1) * pooled


def power_of(
    gap: float, seeds: int, sd: float, *, alpha: float, pooled: int = 2, paired: bool = True
) -> float:
    """Power of the t test of a gap: noncentral t with shift ``gap · sqrt(seeds) / sd``.

    Args:
        gap: Difference of the means.
        seeds: Of each scheme, at least 2.
        sd: Of a difference of two runs.
        alpha: Two-sided level of this test.
        pooled: Schemes whose residual is pooled; 2 is the plain paired or two-sample t test.
        paired: Whether the seeds' common effect is taken out.
    """
    return t_power(gap * math.sqrt(seeds) / sd, test_df(seeds, pooled, paired), alpha)


def seeds_for(
    gap: float, sd: float, *, target: float, alpha: float, pooled: int = 2, paired: bool = True
) -> float:
    """Fewest seeds (at least 2) with the power asked for; infinite above a million."""
    return fewest(
        lambda n: power_of(gap, n, sd, alpha=alpha, pooled=pooled, paired=paired) >= target, least=2
    )


def gap_for(
    seeds: int, sd: float, *, target: float, alpha: float, pooled: int = 2, paired: bool = True
) -> float:
    """Smallest gap that ``seeds`` seeds show with the power asked for."""
    # The gap scales with sd, so it is solved once for the shift.
    df = test_df(seeds, pooled, paired)
    return (
        smallest(lambda shift: t_power(shift, df, alpha) - target, t_critical(alpha, df))
        * sd
        / math.sqrt(seeds)
    )


def fewest(enough: Callable[[int], bool], least: int) -> float:
    """The smallest whole number from ``least`` on that is enough (monotone); infinite above a million."""
    high = least
    while not enough(high):
        if high >= MOST:
            return math.inf
        high = min(2 * high, MOST)
    low = max(high // 2, least - 1)
    if high == least:
        return least
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest(excess: Callable[[float], float], start: float) -> float:
    """The root of an increasing function that is negative at 0."""
    from scipy.optimize import brentq

    high = start
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-12 * high, rtol=1e-12))


def gap_power(
    spread: Spread,
    *,
    gap: float | None = None,
    seeds: int | None = None,
    target: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
    adjust: str = "holm",
    pooled: int = 2,
    confidence: float = 0.95,
) -> GapPower:
    """Seeds needed (``gap`` given), smallest gap (``seeds`` given) or power (both given).

    Under Holm a single gap is tested at alpha/m at worst, so its seeds are Bonferroni's; where the other gaps are
    found too it is tested at up to alpha, and a note gives the seeds for that best case.

    Args:
        spread: Of a difference; see :meth:`Spread.given` and :func:`~kdstats.association.pilot.spread_of`.
        gap: Difference of two schemes' means; its sign does not matter.
        seeds: Seeds of each scheme.
        target: Power to reach.
        alpha: Two-sided level, for all comparisons together.
        comparisons: Number of gaps that will be tested.
        adjust: ``holm``, ``bonferroni`` or ``none``.
        pooled: Schemes whose residual the test pools; their number in the study if its analysis does so.
        confidence: Of the interval that the uncertainty of the pilot's sd leaves.

    Raises:
        UsageError: Neither gap nor seeds, a gap of 0, fewer than 2 seeds, or levels out of range.
    """
    each = check_level(alpha, comparisons, adjust)
    check_confidence(confidence)
    if pooled < 2:
        raise UsageError(f"a comparison has at least 2 schemes, not {pooled}")
    if gap is not None and not (math.isfinite(gap) and gap != 0):
        raise UsageError(f"a gap is a number other than 0, not {gap}")
    if seeds is not None and not 2 <= seeds <= MOST:
        raise UsageError(f"a spread over seeds needs at least 2 seeds (and at most {MOST:,}), not {seeds}")
    if gap is None or seeds is None:
        check_target(target, each)
    ends = spread.interval(confidence)
    level: dict[str, Any] = {"alpha": each, "pooled": pooled, "paired": spread.paired}
    notes = list(spread.notes)
    if seeds is None:
        if gap is None:
            raise UsageError(
                "give a gap (to learn the seeds), seeds (to learn the smallest gap), or both (power)"
            )
        asked = "seeds"
        needed, low, high = (seeds_for(abs(gap), sd, target=target, **level) for sd in (spread.sd, *ends))
        if math.isinf(needed):
            raise UsageError(f"a gap of {gap:g} needs more than {MOST:,} seeds at an sd of {spread.sd:.3g}")
        seeds = int(needed)
        if adjust == "holm" and comparisons > 1:
            best = seeds_for(abs(gap), spread.sd, target=target, **{**level, "alpha": alpha})
            notes.append(f"gap {gap:g}: {best:.0f} seeds if Holm finds all the others, {seeds} at worst")
    elif gap is None:
        asked = "gap"
        gap, low, high = (gap_for(seeds, sd, target=target, **level) for sd in (spread.sd, *ends))
    else:
        asked = "power"
        high, low = (power_of(abs(gap), seeds, sd, **level) for sd in ends)
    if not math.isinf(spread.df) and spread.df < 10:
        factor = ends[1] / ends[0]
        notes.append(
            f"the pilot's sd rests on {spread.df:g} degrees of freedom: the ends of its interval differ {factor:.1f}-fold"
        )
    test = "paired t test" if spread.paired else "two-sample t test"
    residual = "" if pooled == 2 else f", residual pooled over {pooled} schemes"
    return GapPower(
        asked=asked,
        gap=float(gap),
        seeds=seeds,
        power=power_of(abs(gap), seeds, spread.sd, **level),
        low=float(low),
        high=float(high),
        target=target,
        alpha=alpha,
        alpha_each=each,
        comparisons=comparisons,
        adjust=adjust,
        pooled=pooled,
        df=test_df(seeds, pooled, spread.paired),
        sd_difference=spread.sd,
        spread=spread,
        confidence=confidence,
        method=f"{test}{residual}, two-sided, noncentral t",
        notes=tuple(notes),
    )


def with_unpaired(plan: GapPower, alone: Spread) -> GapPower:
    """A plan of a paired comparison, with a note where one without pairing needs fewer seeds.

    Args:
        plan: With pairing.
        alone: The spread of the same runs without it.
    """
    if plan.asked != "seeds":
        return plan
    needed = seeds_for(
        abs(plan.gap), alone.sd, target=plan.target, alpha=plan.alpha_each, pooled=plan.pooled, paired=False
    )
    if needed >= plan.seeds:
        return plan
    note = f"gap {plan.gap:g}: without pairing (--unpaired) {needed:.0f} seeds are enough, not {plan.seeds}"
    return replace(plan, notes=(*plan.notes, note))
