"""Settings of plans: intervals of the seeds needed, and rejections of simulated tests against the power computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.coverage_case import Array, Case, Trial
from kdstats.association.meta import meta_analysis
from kdstats.association.noncentral import t_critical
from kdstats.association.pilot import Spread
from kdstats.association.power_correlation import correlation_power_of
from kdstats.association.power_gap import gap_power, power_of, seeds_for


def planned_seeds(seeds: int, schemes: int, gap: float, comparisons: int) -> Case:
    """Whether the interval of seeds needed, from a pilot of ``seeds × schemes`` runs, holds the true number."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sd = math.sqrt(2.0)  # residual sd 1
        alpha = 0.05 / comparisons
        truth = seeds_for(gap * sd, sd, target=0.8, alpha=alpha, pooled=schemes)
        df = (seeds - 1) * (schemes - 1)

        def trial() -> Trial:
            seen = sd * math.sqrt(rng.chisquare(df) / df)
            spread = Spread(seen, df, True, seen, 0.0, "pilot")
            plan = gap_power(spread, gap=gap * sd, comparisons=comparisons, pooled=schemes)
            reached = power_of(gap * sd, plan.seeds, sd, alpha=alpha, pooled=schemes)
            return Trial(plan.low <= truth <= plan.high, plan.seeds / truth - 1, extra=reached)

        return trial

    def note(reached: Array) -> str:
        low, middle = np.quantile(reached, [0.1, 0.5])
        return f"true power of the plan: median {middle:.2f}, lowest tenth below {low:.2f}"

    setting = f"pilot {seeds} seeds x {schemes} schemes, gap {gap} sd, {comparisons} comparisons"
    return Case("power: seeds needed (interval)", setting, make, note=note)


def reached_power(seeds: int, schemes: int, shift: float, paired: bool) -> Case:
    """Rejections of the t test on simulated runs against the power that was computed."""
    sd = math.sqrt(2.0)
    gap = shift * sd / math.sqrt(seeds)

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        df = (seeds - 1) * (schemes - 1) if paired else (seeds - 1) * schemes
        critical = t_critical(0.05, df)

        def trial() -> Trial:
            y = rng.normal(size=(schemes, seeds)) + (2 * rng.normal(size=seeds) if paired else 0)
            y[0] += gap
            left = y - y.mean(1, keepdims=True) - ((y.mean(0) - y.mean()) if paired else 0)
            t = (y[0].mean() - y[1].mean()) / math.sqrt((left**2).sum() / df * 2 / seeds)
            return Trial(abs(t) > critical)

        return trial

    setting = f"{'paired' if paired else 'unpaired'}, {seeds} seeds, residual pooled over {schemes} schemes"
    nominal = power_of(gap, seeds, sd, alpha=0.05, pooled=schemes, paired=paired)
    return Case("power: rejections of a gap", setting, make, nominal)


def reached_correlation(r: float, schemes: int, pairs: int, tau: float) -> Case:
    """Rejections of scipy's test (one pair) or of ``meta_analysis`` (several) on bivariate normal points."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        def trial() -> Trial:
            rho = np.tanh(math.atanh(r) + tau * rng.normal(size=(pairs, 1)))
            x = rng.normal(size=(pairs, schemes))
            y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
            x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
            seen = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
            if pairs == 1:
                t = seen[0] * math.sqrt((schemes - 2) / (1 - seen[0] ** 2))
                return Trial(abs(t) > t_critical(0.05, schemes - 2))
            return Trial(meta_analysis(seen, schemes).p_value < 0.05)

        return trial

    nominal = correlation_power_of(r, schemes, pairs, tau=tau)
    setting = f"r={r}, {schemes} schemes, {pairs} pairs, tau={tau}"
    return Case("power: rejections of no correlation", setting, make, nominal)


def cases() -> Iterator[Case]:
    """Every setting."""
    for seeds, schemes in ((3, 2), (3, 9), (5, 2), (5, 9), (10, 2)):
        yield planned_seeds(seeds, schemes, 1.0, 1)
        yield planned_seeds(seeds, schemes, 0.5, 8)
    for seeds in (3, 5, 10):
        for schemes in (2, 9):
            for paired in (True, False):
                yield reached_power(seeds, schemes, 3.0, paired)
    for r, schemes, pairs, tau in (
        (0.6, 9, 1, 0.0),
        (0.9, 9, 1, 0.0),
        (0.5, 20, 1, 0.0),
        (0.6, 9, 3, 0.0),
        (0.6, 9, 10, 0.6),
        (0.9, 9, 3, 0.6),
        (0.5, 5, 10, 0.3),
    ):
        yield reached_correlation(r, schemes, pairs, tau)
