"""How far a correlation over a handful of schemes may be put into words.

Nine points with one far from the rest give a high r whatever the other eight do. So an association is stated
only where three things agree: the interval excludes 0, the permutation test (which does not lean on
normality) is below 5 %, and the interval still excludes 0, on the same side, when any one scheme is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.words import CONFIDENCE, interval, number
from kdstats.association.coefficients import coefficient
from kdstats.association.intervals import z_interval
from kdstats.association.panels import SMALLEST_N

UNCLEAR, ONE_SCHEME, HOLDS = "unclear", "one scheme", "holds"


@dataclass(frozen=True, slots=True)
class Reading:
    """What may be said of one Pearson correlation.

    Attributes:
        kind: :data:`UNCLEAR` (interval or permutation test allow 0), :data:`ONE_SCHEME` (it does not survive
            leaving one scheme out) or :data:`HOLDS`.
        r: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        p_permutation: Permutation p.
        n: Schemes.
        without: Scheme whose omission weakens it most.
        r_without: r without that scheme; NaN where that leaves a constant column.
        low_without: Lower end of its interval; NaN where too few schemes are left for one.
        high_without: Upper end.
    """

    kind: str
    r: float
    low: float
    high: float
    p_permutation: float
    n: int
    without: str
    r_without: float
    low_without: float
    high_without: float

    def rest(self) -> str:
        """``without autoaugment r 0.35 [−0.46, 0.84]``."""
        if math.isnan(self.r_without):
            return f"without {self.without} one of the two does not vary"
        text = f"without {self.without} r {number(self.r_without, 2)}"
        if math.isnan(self.low_without):
            return f"{text}, too few schemes for an interval"
        return f"{text} {interval(self.low_without, self.high_without, 2)}"

    def caveat(self) -> str:
        """Why :data:`ONE_SCHEME` is no claim: it rests on that scheme, or too few are left to tell."""
        if math.isnan(self.low_without) and not math.isnan(self.r_without):
            return f"{self.n} schemes are too few to tell whether this rests on one of them"
        return f"this rests on one scheme: {self.rest()}; for the others the study cannot tell"


def read_association(rows: pd.DataFrame, x: str, y: str, found: Mapping[str, Any]) -> Reading:
    """The reading of one panel.

    Args:
        rows: Its points, with the column ``scheme``.
        x: Predictor.
        y: Outcome.
        found: The row ``pearson`` of :func:`kdstats.correlate` over the same points.
    """
    sign = math.copysign(1.0, found["estimate"])
    weakest = min(
        (_without(rows, x, y, at) for at in range(len(rows))), key=lambda item: _strength(item, sign)
    )
    scheme, r, low, high = weakest
    kind = HOLDS
    if found["low"] <= 0 <= found["high"] or not found["p_permutation"] < 1 - CONFIDENCE:
        kind = UNCLEAR
    elif not (low > 0 if sign > 0 else high < 0):  # also where the ends are NaN
        kind = ONE_SCHEME
    return Reading(
        kind=kind,
        r=float(found["estimate"]),
        low=float(found["low"]),
        high=float(found["high"]),
        p_permutation=float(found["p_permutation"]),
        n=int(found["n"]),
        without=scheme,
        r_without=r,
        low_without=low,
        high_without=high,
    )


def _without(rows: pd.DataFrame, x: str, y: str, at: int) -> tuple[str, float, float, float]:
    scheme = str(rows["scheme"].iloc[at])
    left = rows.drop(index=rows.index[at])
    if min(left[x].nunique(), left[y].nunique()) < 2:
        return scheme, math.nan, math.nan, math.nan
    r = coefficient("pearson", left[x], left[y]).estimate
    if len(left) < SMALLEST_N:
        return scheme, r, math.nan, math.nan
    ends = z_interval("pearson", r, len(left), confidence=CONFIDENCE)
    return scheme, r, ends.low, ends.high


def _strength(item: tuple[str, float, float, float], sign: float) -> float:
    return -math.inf if math.isnan(item[1]) else sign * item[1]
