"""Do the students of one teacher rank the schemes alike, so that a number of the teacher alone can stand for all?

Wang et al. (v3) show the order for two students of one teacher. T. stddev knows no student: it can predict the order
under several only as far as they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import special, stats

from analyses import prediction
from analyses.association import HOLDS, ONE_SCHEME, Reading
from analyses.study import Study, networks_of
from analyses.words import CONFIDENCE, count, interval, listed, number, p_value, records
from kdstats.association.correlate import correlate
from kdstats.association.multiplicity import holm
from kdstats.association.panels import SMALLEST_N
from kdstats.figures.correlation import CorrelationFacts, correlation_figure

QUESTION = "Do the students of one teacher rank the schemes alike, and does T. stddev predict all of them?"
PERMUTATIONS = 1_999  # each costs a small correlation matrix
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Concordance:
    """Kendall's coefficient of concordance of several students of one teacher.

    Attributes:
        group: Teacher, with the variant where there are several.
        students: Who ranks.
        schemes: What is ranked.
        w: 1 for one order, 1/m on average for unrelated orders of m students, 0 at least.
        low: Lower end of its interval; NaN where the order is one and the same, which leaves no spread.
        high: Upper end.
        p: Permutation p of "the students rank independently".
    """

    group: str
    students: tuple[str, ...]
    schemes: int
    w: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class StudentInvariance:
    """The result, unrounded.

    Attributes:
        points: ``group, first, second, panel, scheme`` and both students' mean test losses (nats) with standard errors.
        agreement: A row per two students of a teacher and coefficient: ``panel, group, first, second, method, estimate,
            low, high, p_permutation, p_holm`` (over all panels, for each coefficient), ``n``.
        concordance: One per teacher with more than two students.
        predicted: ``group, pair, kind, r, low, high, n``: how T. stddev goes with each student's loss.
        refused: Group, or group and students → why they are not compared.
        findings: In words.
    """

    points: pd.DataFrame
    agreement: pd.DataFrame
    concordance: tuple[Concordance, ...]
    predicted: pd.DataFrame
    refused: dict[str, str]
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, CorrelationFacts] | None:
        """Loss of one student against that of the other, a panel for each two; None where none are compared."""
        if self.agreement.empty:
            return None
        points = self.points[self.points["panel"].isin(set(self.agreement["panel"]))]
        return correlation_figure(
            points,
            x="first_loss",
            y="second_loss",
            group="panel",
            label="scheme",
            x_se="first_se",
            y_se="second_se",
            results=self.agreement,
            x_name="test loss of the first student (nats)",
            y_name="test loss of the second (nats)",
            bars="± 1 standard error over seeds",
        )


def run(study: Study) -> StudentInvariance:
    """Compares, for every teacher with two or more students, the orders in which they put the schemes."""
    refused: dict[str, str] = {}
    groups = _groups(study)
    points = pd.DataFrame([row for group, pairs in groups.items() for row in _points(study, group, pairs)])
    usable = _usable(points, refused)
    agreement = pd.DataFrame()
    if len(usable):
        agreement = correlate(
            usable,
            x="first_loss",
            y="second_loss",
            group="panel",
            label="scheme",
            confidence=CONFIDENCE,
            seed=study.seed,
        )
        agreement["p_holm"] = agreement.groupby("method", sort=False)["p_permutation"].transform(
            lambda p: holm(p.to_numpy(dtype=np.float64))
        )
        names = usable.drop_duplicates("panel")[["panel", "group", "first", "second"]]
        agreement = agreement.merge(names, on="panel", how="left", validate="many_to_one")
    concordance = tuple(
        found for group, pairs in groups.items() if (found := _concordance(study, group, pairs, refused))
    )
    readings = prediction.run(study).readings if groups else {}
    predicted = pd.DataFrame(
        [
            {"group": group, "pair": pair, "kind": r.kind, "r": r.r, "low": r.low, "high": r.high, "n": r.n}
            for group, pairs in groups.items()
            for pair in pairs
            if (r := readings.get(pair))
        ]
    )
    findings = _findings(groups, agreement, concordance, readings, refused)
    return StudentInvariance(points, agreement, concordance, predicted, refused, tuple(findings))


def _groups(study: Study) -> dict[str, tuple[str, ...]]:
    """Teacher (and variant) → its pairs, where there are two or more."""
    found: dict[str, list[str]] = {}
    for pair in study.pairs:
        variant = pair[len(networks_of(pair)) :]
        found.setdefault(f"{networks_of(pair).split('/')[0]}{variant}", []).append(pair)
    return {group: tuple(pairs) for group, pairs in found.items() if len(pairs) > 1}


def _student(pair: str) -> str:
    return networks_of(pair).split("/")[1]


def _losses(study: Study, pair: str) -> pd.DataFrame:
    rows = study.outcomes[study.outcomes["pair"] == pair].set_index("scheme")
    if "test_loss_se" not in rows:
        rows = rows.assign(test_loss_se=math.nan)
    return rows[["test_loss", "test_loss_se"]].astype(float)


def _points(study: Study, group: str, pairs: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for one, two in combinations(pairs, 2):
        a, b = _losses(study, one), _losses(study, two)
        for scheme in a.index.intersection(b.index, sort=False):
            yield {
                "group": group,
                "first": _student(one),
                "second": _student(two),
                "panel": f"{group}: {_student(one)} and {_student(two)}",
                "scheme": str(scheme),
                "first_loss": a.loc[scheme, "test_loss"],
                "second_loss": b.loc[scheme, "test_loss"],
                "first_se": a.loc[scheme, "test_loss_se"],
                "second_se": b.loc[scheme, "test_loss_se"],
            }


def _usable(points: pd.DataFrame, refused: dict[str, str]) -> pd.DataFrame:
    if points.empty:
        return points
    kept = []
    for panel, rows in points.groupby("panel", sort=False):
        if len(rows) < SMALLEST_N:
            refused[str(panel)] = (
                f"{count(len(rows), 'scheme')} in common; a correlation with an interval needs {SMALLEST_N}"
            )
        elif min(rows["first_loss"].nunique(), rows["second_loss"].nunique()) < 2:
            refused[str(panel)] = "one student has the same test loss under all schemes"
        else:
            kept.append(rows)
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


def mean_rank_correlation(losses: Floats) -> float:
    """Mean of Spearman's ρ over all pairs of columns of ``losses`` (schemes, students)."""
    ranks = np.asarray(stats.rankdata(losses, axis=0), dtype=np.float64)
    between = np.asarray(np.corrcoef(ranks.T), dtype=np.float64)
    return float(between[np.triu_indices(losses.shape[1], 1)].mean())


def concordance_of(losses: Floats) -> float:
    """Kendall's W of ``losses`` (schemes, students): (1 + (m − 1) ρ̄)/m with ρ̄ the mean Spearman correlation.

    Kendall and Gibbons (1990), chapter 6; ties are corrected by way of ρ.
    """
    m = int(losses.shape[1])
    return (1 + (m - 1) * mean_rank_correlation(losses)) / m


def interval_of_concordance(losses: Floats) -> tuple[float, float]:
    """Ends for W: delete-one-scheme jackknife of ½ log(W (m − 1)/(1 − W)), Student's t with n − 2 degrees of freedom.

    NaN where all orders are the same or cancel, or become so without one scheme: there is no spread to judge by then.
    Coverage 0.94 to 0.99 at 0.95, 5 to 20 schemes, 3 and 5 students (``benchmarks/results/coverage_rivals.md``).
    """
    n, m = losses.shape
    parts = np.array([concordance_of(losses), *(concordance_of(np.delete(losses, at, 0)) for at in range(n))])
    if parts.max() > 1 - 1e-12 or parts.min() < 1e-12:
        return math.nan, math.nan
    whole, *left = 0.5 * np.log(parts * (m - 1) / (1 - parts))
    se = math.sqrt(float(np.var(left)) * (n - 1))
    reach = float(special.stdtrit(n - 2, 0.5 + CONFIDENCE / 2)) * se
    low, high = (float(special.expit(2 * end - math.log(m - 1))) for end in (whole - reach, whole + reach))
    return low, high


def p_of_concordance(losses: Floats, rng: np.random.Generator) -> float:
    """Permutation p of "the students rank independently": the schemes of every student are shuffled."""
    seen = mean_rank_correlation(losses)
    ranks = np.asarray(stats.rankdata(losses, axis=0), dtype=np.float64)
    moved = (mean_rank_correlation(rng.permuted(ranks, axis=0)) for _ in range(PERMUTATIONS))
    return (1 + sum(value >= seen - 1e-12 for value in moved)) / (1 + PERMUTATIONS)


def _concordance(
    study: Study, group: str, pairs: tuple[str, ...], refused: dict[str, str]
) -> Concordance | None:
    if len(pairs) < 3:
        return None
    table = pd.concat([_losses(study, pair)["test_loss"].rename(pair) for pair in pairs], axis=1).dropna()
    if len(table) < SMALLEST_N or (table.nunique() < 2).any():
        refused[group] = (
            f"{count(len(table), 'scheme')} in common to {len(pairs)} students; a concordance needs {SMALLEST_N} that "
            "differ"
        )
        return None
    losses = table.to_numpy(dtype=np.float64)
    students = tuple(_student(pair) for pair in pairs)
    p = p_of_concordance(losses, study.rng(f"concordance {group}"))
    return Concordance(
        group, students, len(table), concordance_of(losses), *interval_of_concordance(losses), p
    )


def _findings(
    groups: dict[str, tuple[str, ...]],
    agreement: pd.DataFrame,
    concordance: tuple[Concordance, ...],
    readings: dict[str, Reading],
    refused: dict[str, str],
) -> Iterator[str]:
    if not groups:
        yield (
            "This cannot be answered from this study because no teacher has two students (under one variant): add a pair "
            "with the same teacher."
        )
        return
    for name, why in refused.items():
        yield f"{name}: not compared ({why})."
    if len(agreement):
        for panel, rows in agreement.groupby("panel", sort=False):
            yield _agreement(str(panel), {row["method"]: row for row in records(rows)}, agreement)
    for found in concordance:
        yield _together(found)
    for group, pairs in groups.items():
        yield from _predicted(group, pairs, readings)


def _agreement(panel: str, by: dict[str, dict[str, Any]], table: pd.DataFrame) -> str:
    rho, tau = by["spearman"], by["kendall"]
    tail = (
        f"ρ {number(rho['estimate'], 2)} {interval(rho['low'], rho['high'], 2)}, "
        f"τ {number(tau['estimate'], 2)} {interval(tau['low'], tau['high'], 2)}, permutation {p_value(tau['p_holm'])}"
    )
    panels = table["panel"].nunique()
    tail += f", n = {count(int(rho['n']), 'scheme')}" + (f", Holm over {panels} panels" if panels > 1 else "")
    sure = tau["p_holm"] < 1 - CONFIDENCE
    if sure and min(rho["low"], tau["low"]) > 0:
        return f"{panel} rank the schemes alike, if not the same ({tail})."
    if sure and max(rho["high"], tau["high"]) < 0:
        return f"{panel} rank the schemes against each other ({tail})."
    return f"{panel}: this study cannot tell whether they rank the schemes alike ({tail})."


def _together(found: Concordance) -> str:
    said = f"W {number(found.w, 2)}"
    if math.isnan(found.low):
        said += " (no spread to form an interval)"
    else:
        said += f" {interval(found.low, found.high, 2)}"
    tail = f"{said}, permutation {p_value(found.p)}, n = {count(found.schemes, 'scheme')}"
    who = f"{found.group}: {count(len(found.students), 'student')}"
    chance = 1 / len(found.students)  # mean rank correlation 0
    tail += f"; unrelated orders give {number(chance, 2)}, one order 1"
    if found.p < 1 - CONFIDENCE and not found.low <= chance:  # NaN: all orders are the same
        return f"{who} agree on the schemes more than chance would have it ({tail})."
    return f"{who}: this study cannot tell whether they agree on the schemes ({tail})."


def _predicted(group: str, pairs: tuple[str, ...], readings: dict[str, Reading]) -> Iterator[str]:
    known = {pair: readings[pair] for pair in pairs if pair in readings}
    if not known:
        yield f"{group}: no student has enough schemes with a T. stddev to ask whether it predicts them."
        return
    each = [f"{_student(pair)} r {number(r.r, 2)} {interval(r.low, r.high, 2)}" for pair, r in known.items()]
    holds = [pair for pair, r in known.items() if r.kind == HOLDS and r.r > 0]
    one = [pair for pair, r in known.items() if r.kind == ONE_SCHEME and r.r > 0]
    n = f"n = {count(min(r.n for r in known.values()), 'scheme')}"
    if len(holds) == len(pairs):
        yield f"{group}: one T. stddev predicts the test loss of all {len(pairs)} students ({listed(each)}; {n})."
        return
    text = f"{group}: T. stddev predicts the test loss of {len(holds)} of {len(pairs)} students for sure"
    if one:
        text += f", of {listed([_student(pair) for pair in one])} by one scheme only"
    yield f"{text} ({listed(each)}; {n})."
