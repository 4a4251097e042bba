"""What choosing by the predictor costs: was the scheme with the lowest predictor the best one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from kdstats.association.bounded import bounded_mean
from kdstats.association.coefficients import Floats, pair_signs
from kdstats.association.panels import Columns, Panel, split
from kdstats.association.result import Result
from kdstats.errors import UsageError, unknown
from kdstats.estimators.intervals import check_confidence

ENDS = ("lowest", "highest")


@dataclass(frozen=True, slots=True)
class PanelRegret:
    """The choice in one panel.

    Attributes:
        panel: Its name.
        chosen: Labels with the chosen end of the predictor; more than one when they tie.
        best: Labels with the best outcome.
        hit: Whether every tied choice has the best outcome.
        low: Loss given up, in units of the outcome, by the best of the tied choices.
        high: By the worst of them.
        expected: By one of them drawn at random.
        concordance: Share of pairs of points (with unlike outcomes) that the predictor orders rightly; a tie in
            the predictor counts half.
        pairs: Number of such pairs.
        n: Number of points.
    """

    panel: str
    chosen: tuple[str, ...]
    best: tuple[str, ...]
    hit: bool
    low: float
    high: float
    expected: float
    concordance: float
    pairs: int
    n: int


@dataclass(frozen=True, slots=True)
class Regret(Result):
    """The choice over all panels.

    Attributes:
        panels: One entry a panel.
        hits: Panels in which the choice was the best.
        k: Number of panels.
        hits_low: Lower end of the Clopper-Pearson interval of the share of hits.
        hits_high: Upper end.
        mean: Mean expected regret, in units of the outcome.
        low: Lower end of its interval (:func:`~kdstats.association.bounded.bounded_mean`, between 0 and the
            widest spread of outcomes within any panel); NaN with one panel.
        high: Upper end.
        confidence: Nominal coverage of both intervals.
        concordance: Share of rightly ordered pairs over all panels.
        pairs: Pairs behind it.
        choose: ``"lowest"`` or ``"highest"`` predictor.
        better: Which outcome is better, ``"lowest"`` or ``"highest"``.
        notes: Warnings that stay with the numbers.
    """

    panels: tuple[PanelRegret, ...]
    hits: int
    k: int
    hits_low: float
    hits_high: float
    mean: float
    low: float
    high: float
    confidence: float
    concordance: float
    pairs: int
    choose: str
    better: str
    notes: tuple[str, ...]

    def sentence(
        self,
        *,
        predictor: str,
        unit: str,
        kind: str = "panels",
        what: str = "scheme",
        names: Mapping[str, str] | None = None,
    ) -> str:
        """What the choice has been worth, from the fields alone.

        Args:
            predictor: Name of the predictor, e.g. ``"T. stddev"``.
            unit: Unit of the outcome, e.g. ``"nats"``.
            kind: What a panel is called in the plural, e.g. ``"published panels"``.
            what: What a point is called.
            names: Printed name of a panel, by its name.
        """
        called = names or {}
        if self.k == 1:
            (only,) = self.panels
            cost = "" if only.hit else f"; it cost {_span(only.low, only.high)} {unit}"
            return f"{self.choose} {predictor} was {'' if only.hit else 'not '}the best {what}{cost}"
        text = f"{self.choose} {predictor} was the best {what} in {self.hits} of {self.k} {kind}"
        missed = [panel for panel in self.panels if not panel.hit]
        if not missed:
            return text
        if len(missed) <= 3:
            costs = (
                f"on {called.get(p.panel, p.panel)} it cost {_span(p.low, p.high)} {unit}" for p in missed
            )
            return "; ".join([text, *costs])
        span = _span(min(p.low for p in missed), max(p.high for p in missed))
        return f"{text}; in the other {len(missed)} it cost {span} {unit}"


def _span(low: float, high: float) -> str:
    a, b = f"{low:.2g}", f"{high:.2g}"
    return a if a == b else f"{a}–{b}"


def regret(
    df: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: Columns = None,
    label: str | None = None,
    choose: str = "lowest",
    better: str = "lowest",
    confidence: float = 0.95,
    resamples: int = 9_999,
    rng: np.random.Generator,
) -> Regret:
    """Regret of choosing in every panel the point with the lowest predictor.

    Most panels have no regret, so neither Student's t nor a bootstrap over panels can give the mean an interval:
    panels that are alike have no spread, yet the next may differ. The bounded interval takes the widest spread
    of outcomes seen in any panel as the most that a choice can cost, and is wide where panels are few: it covers
    0.969 to 0.998 at a nominal 0.95 with 3, 5 and 10 panels of 9 points (correlation 0.5 to 0.97; 2,000
    replications; benchmarks/results/coverage_regression.md), Student's t 0.39 to 0.94.

    Args:
        df: One row per point.
        x: Column of the predictor.
        y: Column of the outcome.
        group: Column or columns that tell panels apart.
        label: Column that names the points.
        choose: Which end of the predictor is chosen.
        better: Which end of the outcome is better (``"highest"`` for an accuracy).
        confidence: Nominal coverage, a fraction.
        resamples: Random weights of panels behind the interval of the mean.
        rng: Source of the weights.

    Raises:
        UsageError: See :func:`~kdstats.association.panels.split`; also an unknown end, no resamples.
        CheckError: A column is constant within a panel.
    """
    for name, value in (("choose", choose), ("better", better)):
        if value not in ENDS:
            raise unknown(f"value of {name}", value, ENDS)
    check_confidence(confidence)
    if resamples < 1:
        raise UsageError(f"resamples must be at least 1, got {resamples}")
    given = split(df, x=x, y=y, group=group, label=label)
    panels = tuple(choice_in(p, choose, better) for p in given)
    k, hits = len(panels), sum(p.hit for p in panels)
    costs = np.array([p.expected for p in panels])
    tail = (1 - confidence) / 2
    low = high = float("nan")
    notes = []
    if k > 1:
        widest = max(float(p.y.max() - p.y.min()) for p in given)
        low, high = bounded_mean(
            costs, lowest=0.0, highest=widest, confidence=confidence, draws=resamples, rng=rng
        )
        nonzero = int(np.count_nonzero(costs))
        if nonzero <= 3:
            notes.append(
                f"the mean rests on {nonzero} of {k} panels with any regret; its interval allows a choice to cost "
                f"{widest:.2g}, the widest spread in any panel"
            )
    pairs = sum(p.pairs for p in panels)
    return Regret(
        panels=panels,
        hits=hits,
        k=k,
        hits_low=float(special.betaincinv(hits, k - hits + 1, tail)) if hits else 0.0,
        hits_high=float(special.betaincinv(hits + 1, k - hits, 1 - tail)) if hits < k else 1.0,
        mean=float(costs.mean()),
        low=low,
        high=high,
        confidence=confidence,
        concordance=sum(p.concordance * p.pairs for p in panels) / pairs,
        pairs=pairs,
        choose=choose,
        better=better,
        notes=tuple(notes),
    )


def choice_in(panel: Panel, choose: str, better: str) -> PanelRegret:
    """The choice in one panel by the ``choose`` end of the predictor, ``better`` end of the outcome sought."""
    x = panel.x if choose == "lowest" else -panel.x
    y = panel.y if better == "lowest" else -panel.y
    chosen, best = np.flatnonzero(x == x.min()), np.flatnonzero(y == y.min())
    costs = y[chosen] - y.min()
    concordance, pairs = _concordance(x, y)
    return PanelRegret(
        panel=panel.name,
        chosen=tuple(panel.labels[i] for i in chosen),
        best=tuple(panel.labels[i] for i in best),
        hit=bool(costs.max() == 0),
        low=float(costs.min()),
        high=float(costs.max()),
        expected=float(costs.mean()),
        concordance=concordance,
        pairs=pairs,
        n=panel.n,
    )


def _concordance(x: Floats, y: Floats) -> tuple[float, int]:
    if x.size <= 200:  # counting is quicker than sorting there
        upper = np.triu_indices(x.size, 1)
        signs, order = pair_signs(x)[upper], pair_signs(y)[upper]
        pairs = int(np.count_nonzero(order))
        return (1 + float(signs @ order) / pairs) / 2, pairs

    from scipy import stats

    # With C and D the concordant and discordant pairs, (C + ties_x/2)/(pairs with unlike y) = (1 + d)/2,
    # where d = (C - D)/(pairs with unlike y) is Somers' D; C - D is tau-b times its denominator, found in n
    # log n.
    def untied(v: Any) -> int:
        counts = np.unique(v, return_counts=True)[1].astype(object)  # Python integers: no overflow at large n
        return int(v.size * (v.size - 1) // 2 - sum(c * (c - 1) // 2 for c in counts))

    pairs_x, pairs_y = untied(x), untied(y)
    difference = round(float(stats.kendalltau(x, y).statistic) * (float(pairs_x) * float(pairs_y)) ** 0.5)
    return (1 + difference / pairs_y) / 2, pairs_y
