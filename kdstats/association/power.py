"""Power: one door to the planning of seeds, schemes and pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kdstats.association.pilot import Spread, spread_of
from kdstats.association.power_correlation import CorrelationPower, correlation_power
from kdstats.association.power_gap import GapPower, gap_power
from kdstats.errors import UsageError


def power(
    *,
    gap: float | None = None,
    seeds: int | None = None,
    sd: float | None = None,
    correlation: float | None = None,
    df: float = math.inf,
    runs: pd.DataFrame | None = None,
    value: str = "test_loss_last",
    scheme: str = "scheme",
    seed: str = "seed",
    group: Sequence[str] | None = None,
    paired: bool = True,
    pooled: int = 2,
    confidence: float = 0.95,
    r: float | None = None,
    schemes: int | None = None,
    pairs: int | None = None,
    tau: float = 0.0,
    reliability: float = 1.0,
    target: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
    adjust: str = "holm",
) -> GapPower | CorrelationPower:
    """Plans a study: what is left out is solved for.

    *A gap between two schemes* (``gap`` or ``seeds``): seeds needed, smallest gap, or power. The spread is ``sd``
    with ``correlation``, or comes from pilot ``runs``, and its uncertainty is carried into ``low … high``.

    *A correlation over schemes* (``r`` or ``schemes``): schemes or pairs needed, smallest correlation, or power.

    Args:
        gap: Difference of two schemes' means, unit of the outcome.
        seeds: Seeds of each scheme.
        sd: Standard deviation over seeds of one scheme.
        correlation: Of two schemes over common seeds, if they are compared seed by seed; goes with ``sd``.
        df: Degrees of freedom behind ``sd``.
        runs: Pilot runs, one row each, instead of ``sd``; ``value, scheme, seed, group`` are its columns.
        value: Column of the outcome.
        scheme: Column of the scheme.
        seed: Column of the seed.
        group: Columns that tell pairs apart.
        paired: Whether schemes are compared seed by seed; goes with ``runs``.
        pooled: Schemes whose residual the test pools.
        confidence: Of the interval that the uncertainty of the sd leaves.
        r: True correlation within a pair.
        schemes: Points of each pair.
        pairs: Panels.
        tau: Standard deviation of the true Fisher z over pairs.
        reliability: Share of the outcome's variance over schemes that is not noise over seeds.
        target: Power to reach.
        alpha: Two-sided level, for all comparisons together.
        comparisons: Number of tests.
        adjust: ``holm``, ``bonferroni`` or ``none``.

    Returns:
        :class:`~kdstats.association.power_gap.GapPower` or
        :class:`~kdstats.association.power_correlation.CorrelationPower`.

    Raises:
        UsageError: Both questions or none, or numbers out of range.
        CheckError: Runs that hold NaN, a run twice, or no spread.

    >>> power(gap=0.01, sd=0.01, correlation=0.5).seeds
    10
    >>> power(r=0.8, target=0.9).schemes
    11
    """
    about_gap, about_r = gap is not None or seeds is not None, r is not None or schemes is not None
    if about_gap == about_r:
        raise UsageError("ask for a gap (gap, seeds) or for a correlation (r, schemes, pairs)")
    if about_r:
        if sd is not None or runs is not None:
            raise UsageError(
                "sd and runs belong to a gap; a correlation takes r, schemes, pairs, tau, reliability"
            )
        return correlation_power(
            r=r,
            schemes=schemes,
            pairs=pairs,
            tau=tau,
            reliability=reliability,
            target=target,
            alpha=alpha,
            comparisons=comparisons,
            adjust=adjust,
        )
    if (sd is None) == (runs is None):
        raise UsageError("the spread over seeds is needed once: sd, or runs of a pilot")
    if pairs is not None or tau or reliability != 1.0:
        raise UsageError("pairs, tau and reliability belong to a correlation, not to a gap")
    if runs is not None:
        if correlation is not None or math.isfinite(df):
            raise UsageError("correlation and df come from the runs; leave them out")
        spread = spread_of(runs, value=value, scheme=scheme, seed=seed, group=group, paired=paired)
    else:
        spread = Spread.given(sd if sd is not None else 0.0, correlation=correlation, df=df)
    return gap_power(
        spread,
        gap=gap,
        seeds=seeds,
        target=target,
        alpha=alpha,
        comparisons=comparisons,
        adjust=adjust,
        pooled=pooled,
        confidence=confidence,
    )
