"""Do the students of one teacher rank the schemes alike, so that a number of the teacher alone can stand for all?

Wang et al. (v3) show the order for two students of one teacher. T. stddev knows no student: it can predict the order
under several only as far as they agree. Students may agree by the views they share (:mod:`.inference.shared_draws`), so
where their residuals go together each is judged by seeds of its own.
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

from analyses import prediction
from analyses.inference.association import HOLDS, ONE_SCHEME, Reading
from analyses.inference.shared_draws import SharedDraws, means_apart, shared_draws
from analyses.inference.student_concordance import (
    Concordance,
    concordance_of,
    interval_of_concordance,
    p_of_concordance,
)
from analyses.study import Study, networks_of
from analyses.study.traits import SEVERAL, Need
from analyses.words import CONFIDENCE, count, interval, listed, number, p_value, records
from kdstats.association.correlate import correlate
from kdstats.association.multiplicity import holm
from kdstats.association.panels import SMALLEST_N
from kdstats.figures.correlation import CorrelationFacts, correlation_figure

QUESTION = "Do the students of one teacher rank the schemes alike, and does T. stddev predict all of them?"
NEEDS: tuple[Need, ...] = (SEVERAL, (lambda has: has.students > 1, "no teacher has two students"))


@dataclass(frozen=True, slots=True, eq=False)
class StudentInvariance:
    """The result, unrounded.

    Attributes:
        points: ``group, first, second, panel, scheme`` and both students' mean test losses (nats) with standard errors,
            over disjoint seeds where their residuals go together.
        shared: A row per two students: ``panel, residual_r`` (NaN without common seeds), ``seeds`` in common, ``apart``
            (each has seeds of its own).
        agreement: A row per two students of a teacher and coefficient: ``panel, group, first, second, method, estimate,
            low, high, p_permutation, p_holm`` (over all panels, for each coefficient), ``n``.
        concordance: One per teacher with more than two students.
        predicted: ``group, pair, kind, r, low, high, n``: how T. stddev goes with each student's loss.
        refused: Group, or group and students → why they are not compared.
        findings: In words.
    """

    points: pd.DataFrame
    shared: pd.DataFrame
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
    twos = [_two(study, group, *two) for group, pairs in groups.items() for two in combinations(pairs, 2)]
    points = pd.concat([rows for rows, _ in twos], ignore_index=True) if twos else pd.DataFrame()
    draws = {panel: shared for _, (panel, shared) in twos}
    refused |= {panel: why for panel, shared in draws.items() if (why := shared.refusal())}
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
    findings = _findings(groups, agreement, draws, concordance, readings, refused)
    shared = pd.DataFrame(
        {"panel": panel, "residual_r": one.r, "seeds": len(one.seeds), "apart": one.apart}
        for panel, one in draws.items()
    )
    return StudentInvariance(points, shared, agreement, concordance, predicted, refused, tuple(findings))


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


def _two(study: Study, group: str, one: str, two: str) -> tuple[pd.DataFrame, tuple[str, SharedDraws]]:
    """Points of two students, and the name of their panel with what they share."""
    names = {"group": group, "first": _student(one), "second": _student(two)}
    panel = f"{group}: {names['first']} and {names['second']}"
    shared = shared_draws(study, (one, two))
    if shared.apart and not shared.refusal():
        rows = means_apart(shared)
    else:
        a, b = (
            _losses(study, pair).rename(columns={"test_loss": f"{side}_loss", "test_loss_se": f"{side}_se"})
            for pair, side in ((one, "first"), (two, "second"))
        )
        rows = a.join(b, how="inner")
    rows.index.name = "scheme"
    return rows.reset_index().assign(**names, panel=panel), (panel, shared)


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
        elif str(panel) not in refused:
            kept.append(rows)
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


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
    shared = shared_draws(study, pairs)
    if why := shared.refusal():
        refused[group] = why
        return None
    losses = table.to_numpy(dtype=np.float64)
    if shared.apart:
        losses = np.column_stack([own.mean(axis=0) for own in shared.parts()])
    students = tuple(_student(pair) for pair in pairs)
    p = p_of_concordance(losses, study.rng(f"concordance {group}"))
    return Concordance(
        group, students, len(losses), concordance_of(losses), *interval_of_concordance(losses), p
    )


def _findings(
    groups: dict[str, tuple[str, ...]],
    agreement: pd.DataFrame,
    draws: dict[str, SharedDraws],
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
            by = {row["method"]: row for row in records(rows)}
            yield _agreement(str(panel), by, agreement, draws[str(panel)].said())
    for found in concordance:
        yield _together(found)
    for group, pairs in groups.items():
        yield from _predicted(group, pairs, readings)


def _agreement(panel: str, by: dict[str, dict[str, Any]], table: pd.DataFrame, said: str) -> str:
    rho, tau = by["spearman"], by["kendall"]
    tail = (
        f"ρ {number(rho['estimate'], 2)} {interval(rho['low'], rho['high'], 2)}, "
        f"τ {number(tau['estimate'], 2)} {interval(tau['low'], tau['high'], 2)}, permutation {p_value(tau['p_holm'])}"
    )
    panels = table["panel"].nunique()
    tail += f", n = {count(int(rho['n']), 'scheme')}" + (f", Holm over {panels} panels" if panels > 1 else "")
    tail += f"; {said}" if said else ""
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
    text = f"{group}: T. stddev predicts the test loss of {len(holds)} of {len(pairs)} students"
    text += " with an interval that excludes 0"
    if one:
        text += f", of {listed([_student(pair) for pair in one])} by one scheme only"
    yield f"{text} ({listed(each)}; {n})."
