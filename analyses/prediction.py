"""Does T. stddev, measured on the teacher alone, predict the student's test loss?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses import seeds as seeds_
from analyses.seeds import CONFIDENCE
from analyses.study import Study
from analyses.words import count, estimate, excludes_zero, interval, number, p_value
from kdstats.association.correlate import correlate
from kdstats.association.loo import leave_one_out
from kdstats.association.meta import MetaAnalysis, meta_analysis
from kdstats.association.panels import SMALLEST_N
from kdstats.association.regret import Regret, regret
from kdstats.figures.correlation import CorrelationFacts, correlation_figure

QUESTION = "Does T. stddev, measured on the teacher alone, predict the student's test loss?"
X, Y = "t_stddev", "test_loss"
MEANING = (
    "If these schemes were a random sample of all schemes, intervals formed like this would hold the true "
    "correlation in {confidence:g} % of studies; schemes chosen by hand are no such sample, so read it as "
    "sampling error alone."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What choosing the lowest T. stddev would have cost in one pair; losses in nats.

    Attributes:
        pair: ``teacher/student``.
        chosen: Scheme with the lowest T. stddev.
        best: Scheme with the lowest mean test loss.
        regret: Mean test loss of the chosen minus that of the best.
        low: Lower end of its interval (seeds' spread, flat prior); NaN without spread.
        high: Upper end.
        schemes: Schemes to choose from.
        student: Student that had a part in measuring the chosen scheme; None for the teacher alone.
    """

    pair: str
    chosen: str
    best: str
    regret: float
    low: float
    high: float
    schemes: int
    student: str | None

    @property
    def hit(self) -> bool:
        """Whether the chosen scheme is the best one."""
        return self.chosen == self.best

    def answer(self) -> str:
        """The second sentence of a report."""
        cost = estimate(self.regret, self.low, self.high)
        how = f"with the help of the student {self.student}" if self.student else "on the teacher alone"
        what = "it too" if self.hit else f"{self.chosen} instead"
        return f"T. stddev, measured {how}, would have chosen {what}: regret {cost} nats."


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The result.

    Attributes:
        points: One row per pair and scheme with T. stddev and test loss.
        correlations: Frame of :func:`kdstats.association.correlate.correlate`, one panel a pair.
        leave_one_out: Frame of :func:`kdstats.association.loo.leave_one_out`.
        choices: One a pair of two or more schemes.
        regret: Over the pairs that have a correlation; None when there are none.
        meta: Mean correlation over pairs; None with fewer than two.
        refused: Pair → why it has no correlation.
        findings: Sentences.
    """

    points: pd.DataFrame
    correlations: pd.DataFrame
    leave_one_out: pd.DataFrame
    choices: tuple[Choice, ...]
    regret: Regret | None
    meta: MetaAnalysis | None
    refused: dict[str, str]
    findings: tuple[str, ...]

    def coefficient(self, pair: str, method: str = "pearson") -> dict[str, Any] | None:
        """The row of one coefficient; None where the pair has none."""
        if self.correlations.empty:
            return None
        rows = self.correlations[
            (self.correlations["pair"] == pair) & (self.correlations["method"] == method)
        ].to_dict("records")
        return {str(k): v for k, v in rows[0].items()} if rows else None

    def choice(self, pair: str) -> Choice | None:
        """The choice of one pair."""
        return next((c for c in self.choices if c.pair == pair), None)

    def figure(self) -> tuple[Figure, CorrelationFacts] | None:
        """Scatter with line, band and both error bars; None where no pair has a correlation."""
        if self.correlations.empty:
            return None
        points = self.points[~self.points["pair"].isin(self.refused)]
        return correlation_figure(
            points,
            x=X,
            y=Y,
            group="pair",
            label="scheme",
            x_se="t_stddev_se",
            y_se="test_loss_se",
            results=self.correlations,
            x_name="T. stddev",
            y_name="student test loss (nats)",
            titles={points["pair"].iloc[0]: ""} if points["pair"].nunique() == 1 else None,
            bars="± 1 standard error, of T. stddev over pools and of the test loss over seeds",
        )


def run(study: Study) -> Prediction:
    """Correlates, pair by pair, T. stddev with the mean test loss after the last epoch."""
    points = pd.concat([study.points(pair) for pair in study.pairs], ignore_index=True) if study.pairs else study.study
    for column in ("t_stddev_se", "test_loss_se"):
        if column not in points:
            points = points.assign(**{column: math.nan})
    refused = {pair: why for pair in study.pairs if (why := _refusal(study.points(pair)))}
    fit = points[~points["pair"].isin(refused)]
    correlations = left = pd.DataFrame()
    over = meta = None
    if len(fit):
        columns: dict[str, Any] = {"x": X, "y": Y, "group": "pair", "label": "scheme"}
        correlations = correlate(fit, **columns, confidence=CONFIDENCE, seed=study.seed)
        left = leave_one_out(fit, **columns)
        over = regret(fit, **columns, confidence=CONFIDENCE, rng=study.rng("regret over pairs"))
        r = correlations[correlations["method"] == "pearson"]
        if len(r) > 1 and (r["estimate"].abs() < 1).all():
            meta = meta_analysis(r["estimate"], r["n"], confidence=CONFIDENCE)
    choices = tuple(choice for pair in study.pairs if (choice := _choose(study, pair)))
    result = Prediction(points, correlations, left, choices, over, meta, refused, ())
    return Prediction(points, correlations, left, choices, over, meta, refused, _findings(result, study.pairs))


def _refusal(points: pd.DataFrame) -> str:
    if len(points) < SMALLEST_N:
        return (
            f"{count(len(points), 'scheme')} with both numbers; a correlation with an interval needs {SMALLEST_N}"
        )
    for column, name in ((X, "T. stddev"), (Y, "the test loss")):
        values = points[column]
        if float(values.max() - values.min()) < 1e-13 * float(values.abs().max()):
            return f"{name} is the same for all schemes"
    return ""


def _choose(study: Study, pair: str) -> Choice | None:
    points = study.points(pair)
    if len(points) < 2:
        return None
    known = set(points["scheme"])
    found = seeds_.of_runs(study.used[study.used["scheme"].isin(known)], pair)
    lowest = points.loc[points[X].idxmin()]
    chosen = found.schemes.index(str(lowest["scheme"]))
    value, low, high = found.regret(chosen, study.rng(f"regret {pair}"))
    measured = study.measured(pair).get(str(lowest["scheme"]))
    return Choice(
        pair=pair,
        chosen=found.schemes[chosen],
        best=found.schemes[found.best],
        regret=value,
        low=low,
        high=high,
        schemes=len(points),
        student=measured.student if measured else None,
    )


def _findings(result: Prediction, pairs: tuple[str, ...]) -> tuple[str, ...]:
    out = []
    for pair in pairs:
        if pair in result.refused:
            out.append(f"{pair}: no correlation ({result.refused[pair]}).")
        else:
            out += [_association(result, pair), _hangs_on(result, pair)]
        choice = result.choice(pair)
        if choice:
            out.append(_cost(choice))
    if result.meta:
        m = result.meta
        reading = (
            "this study cannot tell whether it differs from 0"
            if m.low <= 0 <= m.high
            else f"{'higher' if m.estimate > 0 else 'lower'} T. stddev goes with higher test loss over these pairs"
        )
        out.append(
            f"Over {count(m.k, 'pair')} (random effects, not pooled): mean r {number(m.estimate, 2)} "
            f"{interval(m.low, m.high, 2)}: {reading}."
        )
    if result.regret and result.regret.k > 1:
        sentence = result.regret.sentence(predictor="T. stddev", unit="nats", kind="pairs")
        out.append(f"Choosing by it: {sentence}.")
    return tuple(out)


def coefficient_text(row: dict[str, Any], symbol: str) -> str:
    """``r 0.91 [0.62, 0.98]``."""
    return f"{symbol} {number(row['estimate'], 2)} {interval(row['low'], row['high'], 2)}"


def _association(result: Prediction, pair: str) -> str:
    row = result.coefficient(pair)
    if row is None:
        return f"{pair}: no correlation."
    tail = f"{coefficient_text(row, 'r')}, permutation {p_value(row['p_permutation'])}, n = {count(row['n'], 'scheme')}"
    if not excludes_zero(row):
        return f"{pair}: this study cannot tell whether T. stddev predicts the test loss ({tail})."
    if row["estimate"] > 0:
        return f"{pair}: schemes with a lower T. stddev left the student with a lower test loss ({tail})."
    return f"{pair}: against the theory, schemes with a lower T. stddev left the student with a higher test loss ({tail})."


def _hangs_on(result: Prediction, pair: str) -> str:
    frame = result.leave_one_out
    row = frame[(frame["pair"] == pair) & (frame["method"] == "pearson")].iloc[0]
    span = f"between {number(row['lowest'], 2)} and {number(row['highest'], 2)}"
    text = f"{pair}: leaving one scheme out moves r {span}"
    if row["without"]:
        text += f"; it hangs most on {row['without']} ({number(row['without_estimate'], 2)} without it)"
    return f"{text} (n = {count(int(row['n']), 'scheme')})."


def _cost(choice: Choice) -> str:
    cost = estimate(choice.regret, choice.low, choice.high)
    what = "is also the one with the lowest test loss" if choice.hit else f"is not the best, {choice.best} is"
    return (
        f"{choice.pair}: the scheme with the lowest T. stddev, {choice.chosen}, {what}; regret {cost} nats "
        f"(n = {count(choice.schemes, 'scheme')})."
    )
