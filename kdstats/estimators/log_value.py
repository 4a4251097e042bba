"""A positive number on the log scale: its interval, and the pseudo-values that pair it with another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import Jackknife, t_quantile

Array = NDArray[np.float64]
# Skewness of the pseudo-values over sqrt(J); that times the bias in half-widths; bias² over the half-width.
_SKEW, _BOTH, _BIAS, _FEW = 0.3, 0.06, 0.03, 40


@dataclass(frozen=True, slots=True)
class LogValue:
    """A positive number with independent-like pseudo-values of its logarithm, for intervals and comparisons.

    Attributes:
        value: The number itself.
        centre: Logarithm around which the interval sits.
        pseudo: ``[J]`` pseudo-values of the logarithm, one per unit.
        df: Degrees of freedom behind their spread.
        control_slope: How far the control's known value moves this logarithm; 0 without a control.
        control_se: Standard error of that known value, shared by all schemes of one probe.
        law_se: Standard error of the logarithm from draws of λ's law, this value's own: no other shares those draws.
        bias: What the jackknife took off the plain logarithm as bias: ``centre`` less the plain one.
        controls: Names of the control variates that were taken out.
        notes: What else must be said of it.
    """

    value: float
    centre: float
    pseudo: Array
    df: float
    control_slope: float = 0.0
    control_se: float = 0.0
    law_se: float = 0.0
    bias: float = 0.0
    controls: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def relative_se(self) -> float:
        """Standard error of the logarithm."""
        spread = float(self.pseudo.var(ddof=1)) / len(self.pseudo)
        return math.sqrt(spread + (self.control_slope * self.control_se) ** 2 + self.law_se**2)

    def half_width(self, confidence: float) -> float:
        """Half the interval on the log scale: the relative half-width."""
        return t_quantile(confidence, self.df) * self.relative_se

    def estimate(
        self, confidence: float, method: str, definition: str, notes: tuple[str, ...] = ()
    ) -> Estimate:
        """The number with its interval; a warning is added to ``notes`` where the interval may not cover."""
        half = self.half_width(confidence)
        doubt = self.doubt(confidence)
        return Estimate(
            self.value,
            self.value * self.relative_se,
            math.exp(self.centre - half),
            math.exp(self.centre + half),
            len(self.pseudo),
            method,
            confidence,
            definition,
            (*notes, *self.notes, *([doubt] if doubt else [])),
        )

    def doubt(self, confidence: float) -> str:
        """Why the interval may be too short; empty where nothing speaks against it.

        Two things break the jackknife: few units that carry most of the spread (skewed pseudo-values), and a bias
        of the square root that is large beside the interval, because some classes hardly vary in most units. The
        limits separate, in ``benchmarks/coverage.py``, settings that cover 0.93 or more from those that do not;
        near them either can happen.
        """
        j = len(self.pseudo)
        gaps = self.pseudo - self.pseudo.mean()
        half, variance = self.half_width(confidence), float((gaps**2).mean())
        if not (half > 0 and variance > 0):
            return ""
        # With few units these are themselves uncertain, while the t quantile is wide.
        slack = max(1.0, math.sqrt(_FEW / j))
        skew = abs(float((gaps**3).mean())) / variance**1.5 / math.sqrt(j)
        bias = abs(self.bias) / half
        if skew <= slack * _SKEW and skew * bias <= slack * _BOTH and bias * abs(self.bias) <= slack * _BIAS:
            return ""
        return (
            f"a few of the {j} units carry much of the spread of some classes: intervals like this one were "
            "often too short in simulation; take more units"
        )


def centre_of(found: Estimate) -> float:
    """The :attr:`LogValue.centre` of a number from :meth:`LogValue.estimate`: the middle of its interval's logarithms.

    Raises:
        UsageError: The interval is none on the log scale.
    """
    if not 0 < found.low <= found.high < math.inf:
        raise UsageError(f"[{found.low}, {found.high}] is no interval of a positive number")
    return (math.log(found.low) + math.log(found.high)) / 2


def log_jackknife(value: float, left: Array, units: str) -> Jackknife:
    """The jackknife of the logarithm; raises ``CheckError`` where one unit holds all of the variance."""
    check_spread(value, left, units)
    return Jackknife.of(math.log(value), np.log(left))


def check_spread(value: float, left: Array, units: str) -> None:
    """Raises ``CheckError`` where one unit holds all of the variance, so that next to nothing is left without it."""
    if not (left > 1e-6 * value).all():
        raise CheckError(f"all {units} but number {int(np.argmin(left))} are equal: one of them is no spread")
