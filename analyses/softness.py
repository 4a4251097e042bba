"""Is it covariance or softness: does a lower dependence of views go with the outcome beyond their softer labels?

A scheme lowers T. stddev by softer predictions (a smaller spread of single inputs) or by less dependence between inputs
(a smaller design effect); :mod:`analyses.dependence` splits the best scheme's gain. Here every scheme's gain is split,
and the two factors are set against the students' test loss, each with the entropy of views held fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses import dependence
from analyses.dependence import REFERENCE
from analyses.inference.association import HOLDS, ONE_SCHEME, UNCLEAR
from analyses.inference.readings import in_words, partial_readings, plain_readings, sign_of
from analyses.study import Study
from analyses.study.teacher_numbers import OUTCOME, PARTS, collect, usable
from analyses.study.traits import MEASURED, SEVERAL, Need
from analyses.words import count, interval, listed, number, p_value, percent, records
from kdstats.estimators.components import SPREAD
from kdstats.figures.style import PAGE, marks, plain, style

QUESTION = "Is it covariance or softness: does less dependence go with the outcome beyond softer labels?"
NEEDS: tuple[Need, ...] = (SEVERAL, MEASURED)
FACTORS = {
    "view_entropy": "entropy of views",
    "log_spread": "spread of single inputs (log)",
    "log_effect": "design effect (log)",
}
TESTS = (("log_effect", "view_entropy"), ("log_effect", "log_spread"), ("view_entropy", "log_effect"))


@dataclass(frozen=True, slots=True)
class SoftnessFacts:
    """What the two panels show, for their caption."""

    teacher: str
    pair: str
    schemes: int
    partial: tuple[float, float, float] | None
    n: int

    def caption(self) -> str:
        """The caption, from the fields."""
        text = (
            f"Left: change of the pool variance behind T. stddev against {REFERENCE} (teacher {self.teacher}, "
            f"{count(self.schemes, 'scheme')}), as the sum of log ratios: spread of single inputs (softer to the left) "
            "and design effect (less dependent to the left); tick: the sum. Point estimates."
        )
        if self.partial is None:
            return f"{text} Right: nothing to draw."
        r, low, high = self.partial
        return (
            f"{text} Right: what the entropy of views leaves of the design effect and of the students' mean test loss "
            f"({self.pair}, n = {count(self.n, 'scheme')}): partial r {number(r, 2)} {interval(low, high, 2)}."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Softness:
    """The result, unrounded.

    Attributes:
        split: A row per teacher and scheme other than identity: ``teacher, scheme, change, softer, dependence``
            (fractions, see :class:`analyses.dependence.Dependence`), ``softer_share`` of the logarithm of the change (NaN
            where T. stddev is not told from identity's), ``differs``, ``entropy``; point estimates.
        points: ``pair, scheme, test_loss``, the four parts, ``view_entropy, log_spread, log_effect``.
        correlations: ``pair, predictor, p_holm`` (over :data:`FACTORS`) and the fields of a reading; BCa intervals.
        partials: ``pair`` and the columns of :func:`analyses.inference.readings.partial_readings` for :data:`TESTS`.
        refused: ``(pair, factor)`` → why it takes no part.
        findings: In words.
    """

    split: pd.DataFrame
    points: pd.DataFrame
    correlations: pd.DataFrame
    partials: pd.DataFrame
    refused: dict[tuple[str, str], str]
    findings: tuple[str, ...]

    def figure(self, pair: str) -> tuple[Figure, SoftnessFacts] | None:
        """The split of the pair's teacher and the added-variable plot; None where the teacher was not measured."""
        teacher = pair.split("/")[0]
        rows = self.split[self.split["teacher"] == teacher] if len(self.split) else self.split
        return _draw(teacher, pair, rows, self.points, self.partials) if len(rows) else None


def run(study: Study) -> Softness:
    """Splits every scheme's gain, and asks what either factor says of the outcome.

    Raises:
        MissingError: A measurement lacks one of the parts.
    """
    measured = dependence.run(study)
    split = _split(measured.table)
    points = _points(study)
    refused: dict[tuple[str, str], str] = {}
    correlations, partials = [], []
    for pair in study.pairs:
        rows = points[points["pair"] == pair].reset_index(drop=True)
        names, why = usable(rows, FACTORS)
        refused |= {(pair, name): reason for name, reason in why.items()}
        if names:
            correlations += plain_readings(pair, rows, names, OUTCOME, study.seed)
        tests = [test for test in TESTS if set(test) <= set(names)]
        if tests:
            found, not_found = partial_readings(rows, tests, OUTCOME, study.seed)
            refused |= {(pair, f"{a} given {b}"): why for (a, b), why in not_found.items()}
            if len(found):
                partials.append(found.assign(pair=pair))
    table = pd.DataFrame(correlations)
    beyond = pd.concat(partials, ignore_index=True) if partials else pd.DataFrame()
    findings = (
        *(f"{teacher}: no teacher-only measurement is in the study." for teacher in measured.absent),
        *_of_split(split),
        *(text for pair in study.pairs for text in _of_outcome(pair, table, beyond, refused)),
    )
    return Softness(split, points, table, beyond, refused, findings)


def _split(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    rows = table[(table["scheme"] != REFERENCE) & table["change"].notna()].reset_index(drop=True)
    shares = [
        math.log1p(row["softer"]) / math.log1p(row["change"])
        if row["differs"] is True and row["change"] != 0
        else math.nan
        for row in records(rows)
    ]
    kept = ["teacher", "scheme", "change", "softer", "dependence", "differs", "entropy"]
    return rows[kept].assign(softer_share=shares)


def _points(study: Study) -> pd.DataFrame:
    points = collect(study)
    parts = points[list(PARTS)].to_numpy(dtype=np.float64)
    spread = points[list(SPREAD)].to_numpy(dtype=np.float64).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_spread, log_effect = np.log(spread), np.log(parts.sum(axis=1) / spread)
    out = points[["pair", "scheme", OUTCOME, *PARTS, "view_entropy"]].copy()
    out["log_spread"] = np.where(np.isfinite(log_spread), log_spread, math.nan)
    out["log_effect"] = np.where(np.isfinite(log_effect), log_effect, math.nan)
    return out


def _of_split(split: pd.DataFrame) -> Iterator[str]:
    if split.empty:
        return
    for teacher, rows in split.groupby("teacher", sort=False):
        told = records(rows[[differs is True for differs in rows["differs"]]])
        lower = [row for row in told if row["change"] < 0]
        if not lower:
            yield f"{teacher}: no scheme has a T. stddev that is told from {REFERENCE}'s and lower (n = {len(rows)})."
        for row in lower:
            share = row["softer_share"]
            if 0 <= share <= 1:
                how = f"{number(100 * share, 0)} % of its logarithm is softer predictions, the rest less dependence"
            elif share > 1:
                how = "softer predictions, against more dependence"
            else:
                how = "less dependence, against sharper predictions"
            yield (
                f"{teacher}: {row['scheme']} changes the variance behind T. stddev by {percent(row['change'])} "
                f"against {REFERENCE}: spread {percent(row['softer'])}, design effect {percent(row['dependence'])}; "
                f"{how} (point estimates)."
            )
        aside = len(rows) - len(told)
        if aside:
            yield (
                f"{teacher}: {count(aside, 'scheme')} cannot be told from {REFERENCE} by T. stddev, so nothing is "
                "split."
            )


def _of_outcome(
    pair: str, correlations: pd.DataFrame, partials: pd.DataFrame, refused: dict[tuple[str, str], str]
) -> Iterator[str]:
    missing = {FACTORS[name]: why for (of, name), why in refused.items() if of == pair and name in FACTORS}
    if missing:
        yield f"{pair}: not compared: {'; '.join(f'{name}: {why}' for name, why in missing.items())}."
    if len(correlations):
        own = records(correlations[correlations["pair"] == pair])
        each = [
            f"{FACTORS[row['predictor']]} {_SAYS[row['kind']]} (r {number(row['r'], 2)} "
            f"{interval(row['low'], row['high'], 2)}, {p_value(row['p_holm'])}{sign_of(row)})"
            for row in own
        ]
        if each:
            n = count(int(own[0]["n"]), "scheme")
            yield f"{pair}: with the test loss, {listed(each)} (n = {n}, Holm over {len(each)})."
    if len(partials):
        for row in records(partials[partials["pair"] == pair]):
            what, given = FACTORS[row["predictor"]], FACTORS[row["given"]]
            lead = in_words(row, f"{pair}: {what} given {given}")
            n = f"n = {count(int(row['n']), 'scheme')}"
            if row["kind"] == HOLDS:
                yield f"{lead} goes with the test loss, whichever scheme is left out ({n})."
            elif row["kind"] == ONE_SCHEME:
                yield f"{lead}; for the others this study cannot tell ({n})."
            else:
                yield f"{lead}: this study cannot tell whether it goes with the test loss ({n})."


_SAYS = {HOLDS: "goes", ONE_SCHEME: "goes by one scheme only", UNCLEAR: "is unclear"}


def _draw(
    teacher: str, pair: str, split: pd.DataFrame, points: pd.DataFrame, partials: pd.DataFrame
) -> tuple[Figure, SoftnessFacts]:
    rows = records(split.sort_values("change"))
    looks = marks([*(row["scheme"] for row in rows), *points["scheme"]])
    with style():
        figure = Figure(figsize=(PAGE, 0.9 + 0.2 * max(8, len(rows))), layout="constrained")
        left, right = figure.subplots(1, 2)
        for y, row in enumerate(rows):
            soft, rest = math.log1p(row["softer"]), math.log1p(row["dependence"])
            left.barh(y - 0.18, soft, 0.34, color="#56b4e9")
            left.barh(y + 0.18, rest, 0.34, color="#de8f05", hatch="////", edgecolor="white", linewidth=0)
            left.plot([soft + rest] * 2, [y - 0.42, y + 0.42], color="#1a1a1a", linewidth=1.2)
        left.axvline(0, color="#555555", linewidth=0.6)
        left.set_yticks(range(len(rows)), [plain(looks[row["scheme"]].text) for row in rows])
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.tick_params(axis="y", length=0)
        left.set_xlabel(f"log ratio to {REFERENCE}")
        left.legend(
            handles=[
                left.barh([math.nan], [math.nan], color="#56b4e9", label="spread (softness)"),
                left.barh(
                    [math.nan],
                    [math.nan],
                    color="#de8f05",
                    hatch="////",
                    edgecolor="white",
                    label="design effect",
                ),
            ],
            loc="best",
        )
        here = points[points["pair"] == pair]
        found = _partial_of(partials, pair)
        if found is None:
            right.set_axis_off()
        else:
            _added_variable(right, here, looks)
    known = None if found is None else (found["r"], found["low"], found["high"])
    return figure, SoftnessFacts(teacher, pair, len(rows), known, len(here))


def _partial_of(partials: pd.DataFrame, pair: str) -> dict[str, Any] | None:
    if partials.empty:
        return None
    here = partials[
        (partials["pair"] == pair)
        & (partials["predictor"] == "log_effect")
        & (partials["given"] == "view_entropy")
    ]
    return records(here)[0] if len(here) else None


def _added_variable(ax: Axes, rows: pd.DataFrame, looks: Any) -> None:
    given = rows["view_entropy"].to_numpy(dtype=np.float64)
    basis = np.column_stack([np.ones_like(given), given])
    left = []
    for name in ("log_effect", OUTCOME):
        column = rows[name].to_numpy(dtype=np.float64)
        left.append(column - basis @ np.linalg.lstsq(basis, column, rcond=None)[0])
    for x, y, scheme in zip(*left, rows["scheme"], strict=True):
        look = looks[scheme]
        (point,) = ax.plot(x, y, look.marker, color=look.color, label=plain(look.text))
        point.set(markeredgecolor="white", markeredgewidth=0.35)
    ax.axhline(0, color="#cccccc", linewidth=0.5, zorder=0)
    ax.set(xlabel="design effect (log), less what entropy explains", ylabel="test loss (nats), alike")
    ax.legend(loc="best", ncols=2, handletextpad=0.2, fontsize=5)
