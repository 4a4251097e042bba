"""Does T. stddev, measured on the teacher alone, predict the student's test loss?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.inference import seeds as seeds_
from analyses.inference.association import ONE_SCHEME, UNCLEAR, Reading, read_association
from analyses.study import Study
from analyses.words import CONFIDENCE, count, estimate, interval, listed, number, p_value, records
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
        readings: Pair → how far its r may be put into words.
        choices: One a pair of two or more schemes.
        regret: Over the pairs that have a correlation; None when there are none.
        meta: Mean correlation over pairs; None with fewer than two.
        refused: Pair → why it has no correlation.
        findings: Sentences.
    """

    points: pd.DataFrame
    correlations: pd.DataFrame
    leave_one_out: pd.DataFrame
    readings: dict[str, Reading]
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
            bars="± 1 standard error, of T. stddev as measured and of the test loss over seeds",
        )


def run(study: Study) -> Prediction:
    """Correlates, pair by pair, T. stddev with the mean test loss after the last epoch."""
    points = study.outcomes
    points = points[points["t_stddev"].notna()].reset_index(drop=True)
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
    result = Prediction(
        points=points,
        correlations=correlations,
        leave_one_out=left,
        readings=_readings(fit, correlations),
        choices=tuple(choice for pair in study.pairs if (choice := _choose(study, pair))),
        regret=over,
        meta=meta,
        refused=refused,
        findings=(),
    )
    return replace(result, findings=(*_findings(result, study.pairs), *_helped(study)))


def _helped(study: Study) -> tuple[str, ...]:
    out = []
    for pair in study.pairs:
        names = [
            s for s, m in study.measured(pair).items() if m.student and s in set(study.points(pair)["scheme"])
        ]
        if names:
            out.append(
                f"{pair}: the T. stddev of {listed(names)} was measured with a student's help, not "
                "before training."
            )
    return tuple(out)


def _readings(fit: pd.DataFrame, correlations: pd.DataFrame) -> dict[str, Reading]:
    if correlations.empty:
        return {}
    rows = records(correlations[correlations["method"] == "pearson"])
    return {str(row["pair"]): read_association(fit[fit["pair"] == row["pair"]], X, Y, row) for row in rows}


def _refusal(points: pd.DataFrame) -> str:
    if len(points) < SMALLEST_N:
        have = count(len(points), "scheme")
        return f"{have} with both numbers; a correlation with an interval needs {SMALLEST_N}"
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
    lowest = points.iloc[int(points[X].to_numpy().argmin())]
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
            out += [_association(pair, result.readings[pair]), *_ranks(result, pair)]
        choice = result.choice(pair)
        if choice:
            out.append(_cost(choice))
    if result.meta:
        m = result.meta
        reading = (
            "this study cannot tell whether it differs from 0"
            if m.low <= 0 <= m.high
            else f"{'higher' if m.estimate > 0 else 'lower'} T. stddev goes with higher test loss over them"
        )
        out.append(
            f"Over {count(m.k, 'pair')} (random effects, not pooled): mean r {number(m.estimate, 2)} "
            f"{interval(m.low, m.high, 2)}: {reading}."
        )
    if result.regret and result.regret.k > 1:
        sentence = result.regret.sentence(predictor="T. stddev", unit="nats", kind="pairs")
        out.append(f"Choosing by it: {sentence}.")
    return tuple(out)


def _association(pair: str, found: Reading) -> str:
    tail = _tail(found)
    if found.kind == UNCLEAR:
        return f"{pair}: this study cannot tell whether T. stddev predicts the test loss ({tail})."
    if found.kind == ONE_SCHEME:
        how = "rise together" if found.r > 0 else "run against each other"
        return f"{pair}: T. stddev and test loss {how} ({tail}), but {found.caveat()}."
    lead = "" if found.r > 0 else "against the theory, "
    which = "lower" if found.r > 0 else "higher"
    return (
        f"{pair}: {lead}schemes with a lower T. stddev left the student with a {which} test loss ({tail}); "
        f"it survives leaving any one scheme out (weakest: {found.rest()})."
    )


def _tail(found: Reading) -> str:
    return (
        f"r {number(found.r, 2)} {interval(found.low, found.high, 2)}, permutation "
        f"{p_value(found.p_permutation)}, "
        f"n = {count(found.n, 'scheme')}"
    )


def _ranks(result: Prediction, pair: str) -> tuple[str, ...]:
    """Said only where the ranks do not follow where r goes."""
    r, rho = result.readings[pair], result.coefficient(pair, "spearman")
    if rho is None or r.kind == UNCLEAR or not rho["low"] <= 0 <= rho["high"]:
        return ()
    ends = interval(rho["low"], rho["high"], 2)
    return (
        f"{pair}: by ranks the study cannot tell: ρ {number(rho['estimate'], 2)} {ends} "
        f"(n = {count(int(rho['n']), 'scheme')}).",
    )


def _cost(choice: Choice) -> str:
    cost = estimate(choice.regret, choice.low, choice.high)
    what = "is also the one with the lowest test loss" if choice.hit else f"is not the best, {choice.best} is"
    return (
        f"{choice.pair}: the scheme with the lowest T. stddev, {choice.chosen}, {what}; regret {cost} nats "
        f"(n = {count(choice.schemes, 'scheme')})."
    )
