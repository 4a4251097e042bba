"""From delete-one values to a standard error, a bias correction and an interval.

Source: Efron & Tibshirani 1993, chapter 11 (jackknife), Shao & Tu 1995, section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import UsageError

Array = NDArray[np.float64]


def check_confidence(confidence: float) -> float:
    """``confidence`` if it lies strictly between 0 and 1; raises ``UsageError`` otherwise."""
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"a confidence level lies between 0 and 1, not {confidence}; 0.95 is usual")
    return confidence


def t_quantile(confidence: float, df: float) -> float:
    """Two-sided quantile of Student's t; the normal one for infinite ``df``."""
    check_confidence(confidence)
    if math.isinf(df):
        return NormalDist().inv_cdf(0.5 + confidence / 2)
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + confidence / 2))


@dataclass(frozen=True, slots=True)
class Jackknife:
    """The delete-one jackknife of one statistic.

    Attributes:
        value: The statistic of all units.
        corrected: The same less its first-order bias.
        se: Standard error.
        pseudo: ``[J]`` pseudo-values, which behave like independent observations of the statistic.
    """

    value: float
    corrected: float
    se: float
    pseudo: Array

    @property
    def bias(self) -> float:
        """What the jackknife takes off the statistic, with its sign: ``corrected`` less ``value``."""
        return self.corrected - self.value

    @staticmethod
    def of(value: float, left_out: Array) -> Jackknife:
        """From the statistic of all J units and its J delete-one values."""
        j = len(left_out)
        pseudo = j * value - (j - 1) * left_out
        return Jackknife(value, float(pseudo.mean()), float(pseudo.std(ddof=1)) / math.sqrt(j), pseudo)
