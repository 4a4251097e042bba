"""The wild cluster bootstrap-t of a slope: a test, and the interval that comes from inverting it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.coefficients import Floats, in_given_units
from kdstats.association.panels import Columns
from kdstats.association.result import Result
from kdstats.association.within import Within, check_residuals, within
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence

WEIGHTS = ("rademacher", "webb")
FEW_CLUSTERS = 4
_POINTS = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.array([-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5)]),
}
_TIE = 1e-9  # relative: values of t that are equal but for rounding count as equal


@dataclass(frozen=True, slots=True)
class WildBootstrap(Result):
    """A slope with its wild cluster bootstrap test and interval.

    Attributes:
        estimate: Least-squares slope with group effects.
        low: Lower end of the interval; -inf where no slope however low is rejected.
        high: Upper end alike.
        p_value: Two-sided, for the slope ``null``.
        t: CR1 t statistic of ``null``.
        null: Slope that ``p_value`` tests.
        confidence: Nominal coverage.
        weights: ``"rademacher"`` or ``"webb"``.
        draws: Weight vectors behind it.
        exact: Whether these are all there are.
        clusters: Number of clusters.
        groups: Number of groups.
        n: Number of points.
        notes: Warnings that stay with the numbers.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    t: float
    null: float
    confidence: float
    weights: str
    draws: int
    exact: bool
    clusters: int
    groups: int
    n: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, ready for JSON; an end without limit is None."""
        ends = {name: v if math.isfinite(v) else None for name, v in (("low", self.low), ("high", self.high))}
        return {**Result.to_dict(self), **ends}


def wild_bootstrap(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns = None,
    cluster: Columns = None,
    label: str | None = None,
    standardised: bool = False,
    null: float = 0.0,
    weights: str | None = None,
    draws: int = 9_999,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> WildBootstrap:
    """Restricted wild cluster bootstrap-t of the slope with group effects (Cameron, Gelbach and Miller 2008).

    Residuals of the fit with the slope held at ``null`` are multiplied by one random weight a cluster; the CR1 t
    of each such sample is compared with the observed one, two-sided. All m^G weight vectors are counted where
    there are at most ``draws`` of them: p is then the share at least as extreme, the observed one included.
    Otherwise p = (b + 1)/(draws + 1). p is never 0. The interval holds the slopes that are not rejected.

    Two-point (Rademacher) weights on G clusters give 2^(G-1) different |t| at most, so p is at least 2^(1-G): with
    5 clusters no slope is rejected at 5 % and the interval has no ends. Webb's (2014) six points repair that; they
    are the default below 11 clusters.

    Coverage at 9 points a pair, 0.95 nominal, with 3, 5 and 10 pairs (2,000 replications; see
    benchmarks/results/coverage_regression.md), Webb's weights: one slope 0.995, 0.942, 0.949; slopes that differ
    between pairs 0.995, 0.940, 0.951, and with predictors that spread unlike each other 0.997, 0.972, 0.945.
    Errors that schemes have in common over pairs are not seen: 0.991, 0.704, 0.525. With 3 pairs the interval is
    several times as long as that of CR2 (:func:`~kdstats.association.regression.regress`). Rademacher's weights with 10
    pairs: 0.955, 0.957, 0.946, and 0.533 under shared errors; with 3 and 5 pairs no interval has ends. More than 10
    clusters, where they are the default, have not been simulated.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell pairs apart; each gets an intercept.
        cluster: Column or columns that tell clusters apart; the groups where absent.
        label: Column that names the points.
        standardised: Divide both columns by their standard deviation within each group.
        null: Slope to test.
        weights: ``"rademacher"``, ``"webb"``, or None for the default.
        draws: Largest number of weight vectors.
        confidence: Nominal coverage, a fraction.
        rng: Source of the weights; not used where all are counted.

    Raises:
        UsageError: See :func:`~kdstats.association.within.within`; also no groups or clusters, unknown weights,
            fewer than 99 draws, a ``null`` that is not finite.
        CheckError: A column is constant within a group, no residual is left, every cluster gives one slope.
    """
    check_confidence(confidence)
    if weights is not None and weights not in WEIGHTS:
        raise unknown("kind of weights", weights, WEIGHTS)
    if draws < 99:
        raise UsageError(f"draws must be at least 99, got {draws}")
    if not math.isfinite(null):
        raise UsageError(f"the null slope must be finite, got {null}")
    data = within(df, x=x, y=y, group=group, cluster=cluster, label=label, standardised=standardised)
    if data.clusters < 2:
        raise UsageError("the wild cluster bootstrap needs at least 2 clusters: give group or cluster")
    kind = weights or default_weights(data.clusters)
    test = WildTest(data, kind, draws, rng)
    estimate, low, high = (
        in_given_units(end, data.exponent, "the slope")
        for end in (data.slope, *test.interval(1 - confidence))
    )
    scaled_null = in_given_units(null, -data.exponent, "the null slope")
    return WildBootstrap(
        estimate=estimate,
        low=low,
        high=high,
        p_value=test.p_value(scaled_null),
        t=test.t(scaled_null),
        null=null,
        confidence=confidence,
        weights=kind,
        draws=len(test.omega),
        exact=test.exact,
        clusters=data.clusters,
        groups=data.groups,
        n=data.n,
        notes=(*data.notes, *_notes(test, low, high, confidence)),
    )


def default_weights(clusters: int) -> str:
    """Webb's six points below 11 clusters, Rademacher's two from there on."""
    return "webb" if clusters < 11 else "rademacher"


def _notes(test: WildTest, low: float, high: float, confidence: float) -> list[str]:
    notes = []
    if test.clusters < FEW_CLUSTERS:
        notes.append(
            f"with {test.clusters} clusters the bootstrap is far longer than needed: see cr2 of regress"
        )
    if not (math.isfinite(low) and math.isfinite(high)):
        least = test.smallest
        notes.append(
            f"p cannot fall below {least:.3g} with {test.clusters} clusters and these weights, so the "
            f"{100 * confidence:g} % interval has no end"
            if least > 1 - confidence
            else "no slope far out is rejected: the interval has no end"
        )
    return notes


class WildTest:
    """The test as a function of the slope under the null hypothesis.

    With s_c = ẍ_c'r the score of cluster c under the restricted residuals r = ÿ - b ẍ, and T_cd the part of the
    score of cluster c that the weight of cluster d moves (diagonal where groups lie within clusters), the sample
    with weights w has slope b + w's/S and scores T w - S_c w's/S: two small products replace all refits.

    Args:
        data: Columns without their group means.
        weights: ``"rademacher"`` or ``"webb"``.
        draws: Largest number of weight vectors.
        rng: Source of the weights.
    """

    def __init__(self, data: Within, weights: str, draws: int, rng: np.random.Generator) -> None:
        points, g = _POINTS[weights], data.clusters
        self.clusters, self.exact = g, points.size**g <= draws
        if self.exact:
            self.omega = np.array(list(itertools.product(points, repeat=g)))
        else:
            self.omega = rng.choice(points, size=(draws, g))
        residuals = data.y - data.slope * data.x
        check_residuals(residuals, data.y)
        self._slope, self._sxx = data.slope, data.sxx
        self._share = data.per_cluster(data.x**2)
        self._tx, self._ty = _moves(data, data.x), _moves(data, data.y)
        scores = data.per_cluster(data.x * residuals)
        self._robust = float((scores**2).sum())
        if self._robust <= 1e-24 * self._sxx * float(residuals @ residuals):
            raise CheckError(
                "every cluster gives the same slope: no spread is left between them (is a panel there twice?)"
            )
        g_factor = g / (g - 1) * (data.n - 1) / (data.n - data.groups - 1)
        self._factor = math.sqrt(g_factor)

    @property
    def smallest(self) -> float:
        """Least p-value that these weights can give."""
        if not self.exact:
            return 1 / (len(self.omega) + 1)
        alike = int((np.abs(self.omega - self.omega[:, :1]) < 1e-12).all(axis=1).sum())
        return alike / len(self.omega)

    def t(self, slope: float) -> float:
        """CR1 t statistic of the hypothesis that the slope is ``slope``."""
        return (self._slope - slope) * self._sxx / math.sqrt(self._robust) / self._factor

    def samples(self, slope: float) -> Floats:
        """Bootstrap t statistics under the hypothesis, (draws,); infinite where a sample has no spread."""
        moves = self._ty - slope * self._tx
        shift = self.omega @ moves.sum(axis=0)
        scores = self.omega @ moves.T - np.outer(shift / self._sxx, self._share)
        spread = np.sqrt((scores**2).sum(axis=1))
        scale = float(np.sqrt((moves**2).sum()))
        out = np.full(shift.size, np.inf)
        fine = spread > 1e-12 * scale
        out[fine] = shift[fine] / spread[fine] / self._factor
        return out

    def p_value(self, slope: float) -> float:
        """Two-sided p of the hypothesis that the slope is ``slope``."""
        bound = abs(self.t(slope)) * (1 - _TIE)
        extreme = int(np.count_nonzero(np.abs(self.samples(slope)) >= bound))
        return extreme / len(self.omega) if self.exact else (extreme + 1) / (len(self.omega) + 1)

    def interval(self, level: float) -> tuple[float, float]:
        """Lowest and highest slope with p above ``level``; infinite where there is none."""
        if self.smallest > level:
            return -math.inf, math.inf
        unit = math.sqrt(self._robust) * self._factor / self._sxx
        return self._end(-unit, level), self._end(unit, level)

    def _end(self, unit: float, level: float) -> float:
        # p is a step function of the slope and need not fall steadily: walk outwards in growing steps to the last
        # slope that is kept, then halve.
        inner, outer = 0.0, math.inf
        for step in np.geomspace(0.25, 1e5, 80):
            if self.p_value(self._slope + step * unit) > level:
                inner, outer = float(step), math.inf
            elif math.isinf(outer):
                outer = float(step)
        if math.isinf(outer):
            return math.copysign(math.inf, unit)
        while outer - inner > 1e-7 * outer:
            middle = (inner + outer) / 2
            if self.p_value(self._slope + middle * unit) > level:
                inner = middle
            else:
                outer = middle
        return self._slope + inner * unit


def _moves(data: Within, column: Floats) -> Floats:
    """T_cd = ẍ_c' (I - D(D'D)^-1 D') r_d for a column r without group means, (clusters, clusters)."""
    if data.nested:
        return np.diag(data.per_cluster(data.x * column))
    spread = np.zeros((data.n, data.clusters))
    spread[np.arange(data.n), data.cluster] = column
    centred = data.centre(spread)
    out = np.zeros((data.clusters, data.clusters))
    np.add.at(out, data.cluster, data.x[:, None] * centred)
    return out
