"""Power of two-sided t tests, by averaging normal tails over the estimated spread.

A t statistic is normal once its denominator is given, so its power is the mean of a normal tail over the law of
s = sqrt(χ²/df). One Gauss–Legendre rule over that law serves the t test (where it is the noncentral t, and scipy's
``nct.cdf`` returns NaN for many shifts), Pearson's correlation and the mean over pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kdstats.errors import UsageError

Floats = NDArray[np.float64]
_FINE = np.polynomial.legendre.leggauss(64)
_COARSE = np.polynomial.legendre.leggauss(14)  # for mean and variance of a smooth function
_NORMAL = np.polynomial.hermite_e.hermegauss(30)
_TAIL = 1e-15
LEAST_ALPHA = 1e-12


def chi_rule(
    df: float, breaks: Sequence[float] = (), rule: tuple[Floats, Floats] = _FINE
) -> tuple[Floats, Floats]:
    """Nodes s and weights of ``E[f(s)]``, s = sqrt(χ²_df / df); the weights sum to 1.

    Args:
        df: Degrees of freedom.
        breaks: Where f bends or changes fast; the rule is applied between them.
        rule: Nodes and weights on [-1, 1] of each piece.
    """
    ends = np.sqrt(special.chdtri(df, np.array([1 - _TAIL, _TAIL])) / df)
    inside = [b for b in breaks if ends[0] < b < ends[1]]
    cuts = np.unique([ends[0], 0.5 * (ends[0] + 1), 1.0, 0.5 * (ends[1] + 1), ends[1], *inside])
    half = np.diff(cuts)[:, None] / 2
    s = (cuts[:-1, None] + half * (rule[0] + 1)).ravel()
    log_density = (df - 1) * np.log(s) - df * (s**2 - 1) / 2
    weights = (half * rule[1]).ravel() * np.exp(log_density - log_density.max())
    return s, weights / weights.sum()


def t_critical(alpha: float, df: float) -> float:
    """The two-sided critical value of Student's t.

    Raises:
        UsageError: Less than 1 degree of freedom, or a level outside [1e-12, 1), where tails are lost to rounding.
    """
    if not df >= 1:
        raise UsageError(f"a t test has at least 1 degree of freedom, not {df:g}")
    if not LEAST_ALPHA <= alpha < 1:
        raise UsageError(f"the level of a test lies between {LEAST_ALPHA:g} and 1, not {alpha:g}")
    return -float(special.stdtrit(df, alpha / 2))


def t_power(shift: float, df: float, alpha: float) -> float:
    """Power of a two-sided t test: ``P(|T| > t_crit)`` for T noncentral t with ``shift`` and ``df``.

    >>> round(t_power(2.5, 9, 0.05), 4)  # a paired t test of 10 pairs and a standardised gap of 0.79
    0.6061
    """
    critical = t_critical(alpha, df)
    s, weights = chi_rule(df, [(abs(shift) + step) / critical for step in (-8, -3, 0, 3, 8)])
    edge = critical * s
    return _probability(weights @ (special.ndtr(shift - edge) + special.ndtr(-shift - edge)))


def pearson_power(r: float, n: int, alpha: float) -> float:
    """Power of the test of no correlation from ``n`` bivariate normal points with Pearson correlation ``r``.

    Given the predictor's values, the statistic is noncentral t with n − 2 degrees of freedom and the shift
    ``r/sqrt(1 − r²) · sqrt(χ²_{n−1})`` (the regression t), so one more mean over χ² makes it exact.
    """
    if abs(r) >= 1:
        return 1.0
    s, weights = chi_rule(n - 2)
    w, outer = chi_rule(n - 1)
    edge = t_critical(alpha, n - 2) * s
    shift = r / math.sqrt(1 - r * r) * math.sqrt(n - 1) * w[:, None]
    return _probability(outer @ (special.ndtr(shift - edge) + special.ndtr(-shift - edge)) @ weights)


def fisher_moments(r: float, n: int) -> tuple[float, float]:
    """Mean and variance of Fisher's z of ``n`` bivariate normal points, by quadrature.

    ``atanh(r̂) = asinh(T/sqrt(n − 2))`` with T as in :func:`pearson_power`. The usual values, ``atanh r`` and
    ``1/(n − 3)``, are 0.07 and 14 % off at n = 5 and r = 0.5.
    """
    s, inner = chi_rule(n - 2, rule=_COARSE)
    w, outer = chi_rule(n - 1, rule=_COARSE)
    normal, weights = _NORMAL[0], _NORMAL[1] / _NORMAL[1].sum()
    shift = r / math.sqrt(1 - r * r) * math.sqrt(n - 1) * w[:, None, None]
    z = np.arcsinh((shift + normal[:, None]) / (s * math.sqrt(n - 2)))
    mean = float(outer @ (weights @ (z @ inner).T))
    square = float(outer @ (weights @ (((z - mean) ** 2) @ inner).T))
    return mean, square


def mean_z_power(mean: float, spread: float, variance: float, pairs: int, alpha: float) -> float:
    """Power of the Hartung–Knapp test of a mean z over ``pairs`` of equal size.

    With equal nominal variances v the test of :func:`~kdstats.association.meta.meta_analysis` divides the mean by
    sqrt(max(v, s²)/k), s² the observed variance of the z: the DerSimonian–Laird weights cancel, and the factor that
    is kept from shrinking the interval puts v under s². Mean and s² are independent for normal z.

    Args:
        mean: Expected z.
        spread: Standard deviation of one pair's z, over pairs and sampling.
        variance: What the test takes for the sampling variance of one pair's z, v.
        pairs: k, at least 2.
        alpha: Two-sided level.
    """
    s, weights = chi_rule(pairs - 1, [math.sqrt(variance) / spread])
    edge = t_critical(alpha, pairs - 1) * np.maximum(math.sqrt(variance), spread * s) / spread
    shift = mean / (spread / math.sqrt(pairs))
    return _probability(weights @ (special.ndtr(shift - edge) + special.ndtr(-shift - edge)))


def _probability(value: float | Floats) -> float:
    return min(max(float(value), 0.0), 1.0)
