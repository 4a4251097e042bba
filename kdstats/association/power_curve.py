"""Power along one quantity of a plan: the curve behind an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kdstats.association.power_correlation import LEAST_SCHEMES, CorrelationPower, correlation_power_of
from kdstats.association.power_gap import GapPower, power_of

POINTS = 40


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """Power against ``axis``.

    Attributes:
        axis: ``seeds``, ``gap``, ``schemes``, ``pairs`` or ``r``: what the points differ in.
        at: Values of it, ascending.
        power: Power at each.
        low: The same at the wide end of the pilot's sd; equal to ``power`` where the sd is known.
        high: At the narrow end.
        held: What is held fixed, as a label.
        answer: Where on the axis the answer lies.
    """

    axis: str
    at: tuple[float, ...]
    power: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    held: str
    answer: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def power_curve(plan: GapPower | CorrelationPower, until: float = 0.0) -> PowerCurve:
    """The curve of a plan: along what was solved for, or along seeds or schemes where the power was asked.

    Args:
        plan: The answer.
        until: Least end of the axis, so that curves of several plans can end together.
    """
    return _gap(plan, until) if isinstance(plan, GapPower) else _correlation(plan, until)


def _gap(plan: GapPower, until: float) -> PowerCurve:
    ends = plan.spread.interval(plan.confidence)

    def power(gap: float, seeds: int, sd: float) -> float:
        return power_of(gap, seeds, sd, alpha=plan.alpha_each, pooled=plan.pooled, paired=plan.spread.paired)

    size = abs(plan.gap)
    if plan.asked == "gap":
        gaps = np.linspace(0.0, max(2 * size, until), POINTS + 1)[1:].tolist()
        rows = [[power(g, plan.seeds, sd) for sd in (plan.sd_difference, *ends)] for g in gaps]
        return _curve("gap", gaps, rows, f"{plan.seeds} seeds", size)
    far = plan.high if plan.asked == "seeds" and np.isfinite(plan.high) else plan.seeds
    seeds = _whole(2, max(2 * plan.seeds, min(1.2 * far, 20 * plan.seeds), 8, until))
    rows = [[power(size, n, sd) for sd in (plan.sd_difference, *ends)] for n in map(int, seeds)]
    return _curve("seeds", seeds, rows, f"gap {plan.gap:.3g}", plan.seeds)


def _correlation(plan: CorrelationPower, until: float) -> PowerCurve:
    seen = abs(plan.r_seen)

    def along(
        axis: str, at: list[float], power: Callable[[float], float], held: str, answer: float
    ) -> PowerCurve:
        return _curve(axis, at, [[power(x)] * 3 for x in at], held, answer)

    def power(r: float, schemes: int, pairs: int) -> float:
        return correlation_power_of(
            r, schemes, pairs, tau=plan.tau if pairs > 1 else 0.0, alpha=plan.alpha_each
        )

    shrink = abs(plan.r_seen / plan.r)
    design = f"{plan.schemes} schemes, {plan.pairs} pair{'s' * (plan.pairs > 1)}"
    if plan.asked == "r":
        rs = np.linspace(0.05, 0.99, POINTS).tolist()
        return along("r", rs, lambda r: power(shrink * r, plan.schemes, plan.pairs), design, plan.r)
    if plan.asked == "pairs":
        # One pair is tested exactly and without heterogeneity: another question, so not on the same line.
        pairs = _whole(2, max(2 * plan.pairs, 10, until))
        held = f"r = {plan.r:.3g}, {plan.schemes} schemes"
        return along("pairs", pairs, lambda k: power(seen, plan.schemes, int(k)), held, plan.pairs)
    schemes = _whole(LEAST_SCHEMES, max(2 * plan.schemes, 20, until))
    held = f"r = {plan.r:.3g}" + (f", {plan.pairs} pairs" if plan.pairs > 1 else "")
    return along("schemes", schemes, lambda n: power(seen, int(n), plan.pairs), held, plan.schemes)


def _whole(start: int, end: float) -> list[float]:
    return [float(n) for n in np.unique(np.geomspace(start, end, POINTS).round())]


def _curve(axis: str, at: list[float], rows: list[list[float]], held: str, answer: float) -> PowerCurve:
    # The first end of the sd's interval is the narrow one: more power.
    middle, high, low = (tuple(float(x) for x in column) for column in np.array(rows).T)
    at = [int(x) for x in at] if axis in ("seeds", "schemes", "pairs") else at
    return PowerCurve(axis, tuple(at), middle, low, high, held, answer)
