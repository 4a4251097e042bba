"""Intervals of correlation coefficients from normal theory, and the shape of an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from kdstats.association.coefficients import check_method
from kdstats.errors import UsageError, unknown
from kdstats.estimators.intervals import check_confidence

INTERVALS = ("z", "bca")
NAMES = {"pearson": "fisher-z", "spearman": "bonett-wright-z", "kendall": "normal-score"}


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends in [-1, 1], how they were formed, and warnings that stay with them."""

    low: float
    high: float
    method: str
    notes: tuple[str, ...] = ()


def check_interval(name: str) -> str:
    """``name`` if it is one of :data:`INTERVALS`; ``UsageError`` with the nearest one otherwise."""
    if name not in INTERVALS:
        raise unknown("interval", name, INTERVALS)
    return name


def z_interval(method: str, estimate: float, n: int, *, confidence: float = 0.95) -> Interval:
    """The normal-theory interval of one coefficient.

    * Pearson: Fisher's z, atanh(r) ± q/sqrt(n - 3).
    * Spearman: Bonett and Wright (2000), atanh(r) ± q sqrt((1 + r²/2)/(n - 3)).
    * Kendall: all tau with |t - tau| <= q sd(tau), where sd is the exact standard deviation of t under a
      bivariate normal law (see :func:`kendall_variance`). The usual atanh(t) ± q sqrt(0.437/(n - 4))
      (Fieller, Hartley and Pearson 1957) covers 0.84 at tau = 0.8 and n = 9, so it is not used.

    Coverage at n = 9, 0.95 nominal, bivariate normal with correlation 0, 0.5, 0.9 (200,000 replications):
    Pearson 0.949, 0.950, 0.952; Spearman 0.963, 0.964, 0.961; Kendall 0.955, 0.954, 0.959. At n = 5
    Spearman's covers up to 0.99. Spearman's and Kendall's targets are the population values (6/pi)
    asin(rho/2) and (2/pi) asin(rho).

    Args:
        method: pearson, spearman or kendall.
        estimate: The coefficient.
        n: Number of points, at least 5.
        confidence: Nominal coverage, a fraction.

    Raises:
        UsageError: Unknown method, n below 5, estimate outside [-1, 1], confidence outside (0, 1).
    """
    check_method(method)
    check_confidence(confidence)
    if n < 5:
        raise UsageError(f"an interval needs at least 5 points, got {n}")
    if not -1 <= estimate <= 1:
        raise UsageError(f"a correlation lies between -1 and 1, got {estimate!r}")
    q = float(special.ndtri(0.5 + confidence / 2))
    if method == "kendall":
        return _kendall_score(estimate, n, q)
    if method == "pearson" and abs(estimate) == 1:
        return Interval(
            estimate, estimate, NAMES[method], ("the points lie on a line: the interval has no width",)
        )
    z, se, notes = fisher(method, estimate, n)
    low, high = math.tanh(z - q * se), math.tanh(z + q * se)
    return Interval(min(low, estimate), max(high, estimate), NAMES[method], notes)


def fisher(method: str, estimate: float, n: int) -> tuple[float, float, tuple[str, ...]]:
    """Fisher's transform of a coefficient with its standard error, and notes.

    Standard errors: 1/sqrt(n - 3) for Pearson; sqrt((1 + r²/2)/(n - 3)) for Spearman (Bonett and Wright
    2000); for Kendall sqrt(0.437/(n - 4)) (Fieller et al. 1957). A rank coefficient of ±1
    has no finite transform: it is moved half a step of its scale inwards (1 - 6/(n³ - n) for Spearman,
    1 - 2/(n² - n) for Kendall), with a note.

    Raises:
        UsageError: Pearson's r is ±1 (no finite transform and no natural step).
    """
    check_method(method)
    if method == "pearson":
        if abs(estimate) >= 1:
            raise UsageError("Pearson's r is exactly ±1: Fisher's z is infinite")
        return math.atanh(estimate), 1 / math.sqrt(n - 3), ()
    limit = min(1 - (6 / (n**3 - n) if method == "spearman" else 2 / (n * n - n)), math.nextafter(1, 0))
    inner = min(max(estimate, -limit), limit)
    notes = () if inner == estimate else (f"an estimate this near ±1 is moved to {inner:.4g} for Fisher's z",)
    variance = (1 + inner**2 / 2) / (n - 3) if method == "spearman" else 0.437 / (n - 4)
    return math.atanh(inner), math.sqrt(variance), notes


def kendall_variance(tau: float, n: int) -> float:
    """Exact variance of Kendall's t for n points of a bivariate normal law without ties.

    Var(t) = 2/(n(n-1)) [ 1 - tau² + 2(n-2)(1/9 - a²) ] with a = (2/pi) asin(rho/2) and rho = sin(pi tau/2)
    (Esscher 1924; Kendall and Gibbons 1990, chapter 10).

    >>> abs(kendall_variance(0.0, 9) - 2 * (2 * 9 + 5) / (9 * 9 * 8)) < 1e-15
    True
    """
    if abs(tau) == 1:
        return 0.0  # the formula gives rounding errors there
    rho, cosine = math.sin(math.pi * abs(tau) / 2), math.cos(math.pi * tau / 2)
    # 1/9 - a² = (1/3 - |a|)(1/3 + |a|), the first factor from asin(u) - asin(v) so that nothing cancels near
    # ±1.
    sine = 0.5 * cosine**2 / (math.sqrt(1 - rho * rho / 4) + rho * math.sqrt(3) / 2)
    below = 2 / math.pi * math.asin(sine)
    return 2 / (n * (n - 1)) * ((1 - tau) * (1 + tau) + 2 * (n - 2) * below * (2 / 3 - below))


def _kendall_score(estimate: float, n: int, q: float) -> Interval:
    def gap(tau: float) -> float:
        return abs(estimate - tau) - q * math.sqrt(kendall_variance(tau, n))

    # sd is 0 at ±1 and positive inside, so each side has one root between the estimate and ±1. From an
    # estimate of ±1 itself the search starts at a point known to lie inside, since Var >= 2(1 -
    # tau²)/(n(n-1)).
    step = min(1.0, q * q / (n * (n - 1)))
    if 1 - abs(estimate) < 1e-13:  # tau-b can miss ±1 by its last digit
        estimate = math.copysign(1.0, estimate)
    start = math.copysign(1 - step, estimate) if abs(estimate) == 1 else estimate
    low = -1.0 if estimate == -1 else float(optimize.brentq(gap, -1.0, start))
    high = 1.0 if estimate == 1 else float(optimize.brentq(gap, start, 1.0))
    return Interval(low, high, NAMES["kendall"])
