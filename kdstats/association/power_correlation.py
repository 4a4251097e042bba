"""How many schemes and pairs show a correlation of a given size, and the other way round."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kdstats.association.noncentral import fisher_moments, mean_z_power, pearson_power
from kdstats.association.power_gap import MOST, check_level, check_target, fewest
from kdstats.association.result import Result
from kdstats.errors import UsageError

LEAST_SCHEMES = 5
FEW_PAIRS = 3
FEW_PAIRS_NOTE = (
    "the test changes from 1 to 2 pairs: one pair is tested by its points, several by how far their correlations agree, "
    "which t(pairs - 1) makes very weak at 2 and 3 pairs; there each pair by itself shows more"
)
"""Why the power falls where a second pair is added."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_OVER_PAIRS = _NODES, _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, slots=True)
class CorrelationPower(Result):
    """The answer for one correlation.

    Attributes:
        asked: ``schemes``, ``pairs``, ``r`` or ``power``: what was solved for.
        r: True Pearson correlation of predictor and outcome within a pair; with several pairs tanh of the mean z.
        r_seen: The same after attenuation by ``reliability``: what the data show on average.
        schemes: Points of one pair.
        pairs: Panels.
        tau: Standard deviation of the true Fisher z over pairs.
        reliability: Share of the outcome's variance over schemes that is not noise over seeds.
        power: Chance that the two-sided test of "no correlation" rejects.
        target: Power asked for (where ``asked`` is not ``power``).
        alpha: Level for all tests together.
        alpha_each: Level of this test.
        comparisons: Number of tests that the level is divided over.
        adjust: ``holm``, ``bonferroni`` or ``none``.
        method: How it was computed, in words that can stand in a caption.
        notes: Assumptions and warnings that stay with the number.
    """

    asked: str
    r: float
    r_seen: float
    schemes: int
    pairs: int
    tau: float
    reliability: float
    power: float
    target: float
    alpha: float
    alpha_each: float
    comparisons: int
    adjust: str
    method: str
    notes: tuple[str, ...] = ()


def correlation_power_of(
    r: float, schemes: int, pairs: int = 1, *, tau: float = 0.0, alpha: float = 0.05
) -> float:
    """Power of the test of no correlation.

    One pair: exact for bivariate normal points. Several: the Hartung–Knapp test of the mean Fisher z as in
    :func:`~kdstats.association.meta.meta_analysis`, with z taken as normal with the exact mean
    and variance that points and τ give it.

    Args:
        r: Correlation that the data show on average.
        schemes: Points of each pair, at least 5.
        pairs: Panels.
        tau: Standard deviation of z over pairs; only with several.
        alpha: Two-sided level of this test.
    """
    if pairs == 1:
        return pearson_power(r, schemes, alpha)
    # Over pairs the true z is normal with sd τ; mean and variance of the observed z follow from both levels.
    steps, shares = (_OVER_PAIRS[0] * tau, _OVER_PAIRS[1]) if tau else (np.zeros(1), np.ones(1))
    means, variances = np.array([fisher_moments(math.tanh(math.atanh(r) + x), schemes) for x in steps]).T
    mean = float(shares @ means)
    spread = math.sqrt(float(shares @ (variances + (means - mean) ** 2)))
    return mean_z_power(mean, spread, 1 / (schemes - 3), pairs, alpha)


def correlation_power(
    *,
    r: float | None = None,
    schemes: int | None = None,
    pairs: int | None = None,
    tau: float = 0.0,
    reliability: float = 1.0,
    target: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
    adjust: str = "holm",
) -> CorrelationPower:
    """What is left out of ``r, schemes, pairs`` is solved for; all three give the power.

    With ``r`` alone: the schemes needed in one pair. With ``schemes`` alone: the smallest correlation one pair
    shows.

    Args:
        r: True correlation within a pair; the sign does not matter.
        schemes: Points of each pair.
        pairs: Panels.
        tau: Standard deviation of the true Fisher z over pairs (0.60 in the ten published panels of wang2022).
        reliability: Share of the outcome's variance over schemes that is not noise over seeds; the correlation seen is
            ``r · sqrt(reliability)`` (Spearman 1904).
        target: Power to reach.
        alpha: Two-sided level, for all tests together.
        comparisons: Number of correlations that will be tested.
        adjust: ``holm``, ``bonferroni`` or ``none``; Holm is planned at its first step.

    Raises:
        UsageError: Numbers out of range, nothing to solve for, or a power that no design reaches.
    """
    each = check_level(alpha, comparisons, adjust)
    _check(r, schemes, pairs, tau, reliability)
    if pairs is None and (r is None or schemes is None):
        pairs = 1
    asked = "schemes" if schemes is None else "r" if r is None else "pairs" if pairs is None else "power"
    if asked != "power":
        check_target(target, each)
    if pairs == 1 and tau > 0:
        raise UsageError("tau is the spread of correlations over pairs; one pair has none: give --pairs")
    seen = None if r is None else abs(r) * math.sqrt(reliability)

    def reaches(n: int | None, k: int | None) -> bool:
        return correlation_power_of(seen or 0.0, n or 0, k or 0, tau=tau, alpha=each) >= target

    if seen is not None and schemes is None and pairs is not None:
        schemes = _whole(fewest(lambda n: reaches(n, pairs), LEAST_SCHEMES), "schemes", tau)
    elif seen is not None and schemes is not None and pairs is None:
        # One pair is another test (exact, without heterogeneity): it is asked first, where it makes sense.
        one = tau == 0 and reaches(schemes, 1)
        pairs = 1 if one else _whole(fewest(lambda k: reaches(schemes, k), 2), "pairs", tau)
    elif seen is None and schemes is not None and pairs is not None:
        seen = _smallest(schemes, pairs, tau, each, target)
        r = seen / math.sqrt(reliability)
        if r >= 1:
            raise UsageError(
                f"with a reliability of {reliability:g} no correlation is seen with power {target:g} by {schemes} "
                f"schemes in {pairs} pairs; take more seeds, schemes or pairs"
            )
    if r is None or seen is None or schemes is None or pairs is None:
        raise UsageError("give --r (to learn the schemes), --schemes (to learn the smallest r), or both")
    found = correlation_power_of(seen, schemes, pairs, tau=tau, alpha=each)
    return CorrelationPower(
        asked=asked,
        r=float(r),
        r_seen=math.copysign(seen, r),
        schemes=schemes,
        pairs=pairs,
        tau=tau,
        reliability=reliability,
        power=found,
        target=target,
        alpha=alpha,
        alpha_each=each,
        comparisons=comparisons,
        adjust=adjust,
        method=_method(pairs),
        notes=_notes(pairs, tau, schemes, asked),
    )


def _check(r: float | None, schemes: int | None, pairs: int | None, tau: float, reliability: float) -> None:
    if r is not None and not 0 < abs(r) < 1:
        raise UsageError(f"a correlation to be seen lies strictly between 0 and 1 in size, not {r}")
    if schemes is not None and not LEAST_SCHEMES <= schemes <= MOST:
        raise UsageError(
            f"a correlation needs at least {LEAST_SCHEMES} schemes (at most {MOST:,}), not {schemes}"
        )
    if pairs is not None and not 1 <= pairs <= MOST:
        raise UsageError(f"at least 1 pair (at most {MOST:,}), not {pairs}")
    if not (math.isfinite(tau) and tau >= 0):
        raise UsageError(f"tau is a standard deviation on Fisher's z scale, 0 or more, not {tau}")
    if not 0 < reliability <= 1:
        raise UsageError(f"a reliability lies in (0, 1], not {reliability}")


def _whole(found: float, what: str, tau: float) -> int:
    if math.isinf(found):
        why = f": pairs that differ by tau = {tau:g} limit it, not schemes; take more pairs" if tau else ""
        raise UsageError(f"no design of up to {MOST:,} {what} has that power{why}")
    return int(found)


def _smallest(schemes: int, pairs: int, tau: float, alpha: float, target: float) -> float:
    from scipy.optimize import brentq

    top = 1 - 1e-12

    def excess(r: float) -> float:
        return correlation_power_of(r, schemes, pairs, tau=tau, alpha=alpha) - target

    if excess(top) < 0:
        raise UsageError(f"{schemes} schemes in {pairs} pairs show no correlation with power {target:g}")
    return float(brentq(excess, 0.0, top, xtol=1e-12, rtol=1e-12))


def _method(pairs: int) -> str:
    if pairs == 1:
        return "two-sided test of Pearson's r, exact for bivariate normal points"
    return "two-sided Hartung-Knapp test of the mean Fisher z over pairs, z taken as normal"


def _notes(pairs: int, tau: float, schemes: int, asked: str) -> tuple[str, ...]:
    out = [FEW_PAIRS_NOTE] if pairs <= FEW_PAIRS and (pairs > 1 or asked == "pairs") else []
    if pairs > 1:
        out.append(
            "pairs are taken as independent; those that share a teacher, a student or a data set show less"
        )
        if tau == 0:
            out.append("tau = 0: the correlation is taken as the same in every pair")
        if schemes < 7:
            out.append(
                "with fewer than 7 schemes Fisher's z is not quite normal; the power is good to about 0.02"
            )
    out.append("rank coefficients need about a tenth more points where points are normal (efficiency 0.91)")
    return tuple(out)
