"""Are students as sure as they are right, and does augmentation change that?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyses.inference.calibration_error import BINS, LEAST_IN_BIN, Floats, calibration_error, equal_mass
from analyses.inference.over_seeds import against, summarise
from analyses.inference.shares import wilson
from analyses.study import Study
from analyses.study.networks import STUDENT, TEACHER, left_out, panel
from analyses.study.traits import WEIGHTS, Need
from analyses.words import CANNOT, CONFIDENCE, LEVEL, count, estimate, number, p_value, records, sizes
from kdstats.figures.style import COLUMN, marks, plain, style

QUESTION = "Are students as sure as they are right, and does augmentation change that?"
NEEDS: tuple[Need, ...] = (WEIGHTS,)
REFERENCE = "identity"
Hits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CalibrationFacts:
    """What the reliability diagram shows, for its caption."""

    pair: str
    schemes: int
    images: int
    bins: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Accuracy against mean confidence on {self.images:,} test images in {self.bins} bins of equal mass "
            f"({self.pair}; the teacher, dashed, and students of {count(self.schemes, 'scheme')}, their seeds "
            f"together). Bars: {LEVEL} Wilson intervals over images of one seed's size. Below the line: too sure."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The result.

    Attributes:
        per_network: ``role, pair, scheme, seed, ece, ece_null, p_calibrated, rms, rms_low, rms_high, squared,
            overconfidence``; ``rms`` is the root of the debiased squared error with its interval over images.
        table: Students' means over seeds with intervals of ``ece, squared, overconfidence``.
        differences: ``pair, scheme, difference, low, high`` of the ECE against identity within seeds, holding together.
        reliability: ``role, pair, scheme, bin, confidence, accuracy, low, high, n``.
        images: How many were asked.
        findings: In words.
    """

    per_network: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    reliability: pd.DataFrame
    images: int
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, CalibrationFacts] | None:
        """Reliability diagram of the first pair; None where no network could be asked."""
        return None if self.reliability.empty else _draw(self.reliability, self.images)


def run(study: Study, images: int | None = None) -> Calibration:
    """Compares confidence and accuracy of every teacher and last student on the test images.

    Args:
        study: A study with weights.
        images: Only the first so many test images.

    Raises:
        CheckError: A network answers with NaN or infinity.
    """
    asked = panel(study, images)
    missing: list[str] = []
    empty = pd.DataFrame()
    rows, values, n = [], [], 0
    for one in asked.each(missing):
        answers = one.answers()
        confidence, hit = np.exp(answers.log_probabilities.max(axis=1)), answers.correct
        n = len(hit)
        if n < LEAST_IN_BIN * BINS:
            why = f"{count(n, 'test image')} are too few for {BINS} bins"
            return Calibration(empty, empty, empty, empty, n, (f"This {CANNOT} {why}.",))
        # The same draws for every network, so that their nulls differ by confidences alone.
        found = calibration_error(confidence, hit, study.rng("calibration"))
        low, high = found.rms_interval
        rows.append(
            one.key
            | {"ece": found.ece, "ece_null": found.ece_null, "p_calibrated": found.p_calibrated}
            | {"rms": found.rms, "rms_low": low, "rms_high": high, "squared": found.squared}
            | {"overconfidence": found.overconfidence, "accuracy": float(hit.mean())}
        )
        values.append((one.key, confidence, hit))
    if not rows:
        return Calibration(empty, empty, empty, empty, 0, (asked.refused or left_out(missing)[0],))
    per_network = pd.DataFrame(rows)
    students = per_network[per_network["role"] == STUDENT]
    measures = ["ece", "squared", "overconfidence", "ece_null"]
    table = summarise(students, measures) if len(students) else empty
    gaps = against(students, "ece", REFERENCE) if len(students) else {}
    differences = pd.DataFrame(
        [
            {"pair": pair, "scheme": scheme, "difference": gap[0], "low": gap[1], "high": gap[2]}
            for (pair, scheme), gap in gaps.items()
        ]
    )
    findings = (*left_out(missing), *_findings(per_network, table, differences))
    return Calibration(per_network, table, differences, _reliability(values), n, findings)


def _reliability(values: list[tuple[dict[str, Any], Floats, Hits]]) -> pd.DataFrame:
    together: dict[tuple[object, ...], list[tuple[Floats, Hits]]] = {}
    for key, confidence, hit in values:
        together.setdefault((key["role"], key["pair"], key["scheme"]), []).append((confidence, hit))
    rows = []
    for (role, pair, scheme), parts in together.items():
        confidence = np.concatenate([c for c, _ in parts])
        hit = np.concatenate([h for _, h in parts]).astype(float)
        of = equal_mass(confidence)
        for bin_ in range(BINS):
            own = of == bin_
            accuracy = float(hit[own].mean())
            # Seeds see the same images, so they add no independent ones.
            n = int(own.sum()) / len(parts)
            low, high = wilson(accuracy, n)
            rows.append(
                {"role": role, "pair": pair, "scheme": scheme, "bin": bin_ + 1}
                | {"confidence": float(confidence[own].mean()), "accuracy": accuracy}
                | {"low": low, "high": high, "n": int(own.sum())}
            )
    return pd.DataFrame(rows)


def _findings(per_network: pd.DataFrame, table: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    for row in per_network[per_network["role"] == TEACHER].to_dict("records"):
        sure = row["p_calibrated"] < 1 - CONFIDENCE
        verdict = _way(row["overconfidence"]) if sure else "not told from perfect calibration"
        yield (
            f"Teacher {row['scheme']}: ECE {number(row['ece'], 4)}, of which {number(row['ece_null'], 4)} would appear "
            f"under perfect calibration ({p_value(row['p_calibrated'])}): {verdict}; debiased root-mean-square error "
            f"{estimate(row['rms'], row['rms_low'], row['rms_high'])} (interval over images)."
        )
    if table.empty:
        return
    for pair, rows in table.groupby("pair", sort=False):
        low = records(rows.sort_values("ece"))[0]
        yield (
            f"{pair}: the students of {low['scheme']} have the lowest mean ECE, "
            f"{estimate(low['ece'], max(low['ece_low'], 0.0), low['ece_high'])} ({number(low['ece_null'], 4)} under "
            f"perfect calibration; they are {_way(low['overconfidence'])}; n = "
            f"{sizes([int(n) for n in rows['seeds']])} a scheme)."
        )
    if differences.empty:
        return
    for pair, rows in differences.groupby("pair", sort=False):
        told = rows[(rows["low"] > 0) | (rows["high"] < 0)]
        if told.empty:
            yield f"{pair}: no scheme's ECE can be told from that of {REFERENCE}."
        for row in told.to_dict("records"):
            way = "worse" if row["low"] > 0 else "better"
            yield (
                f"{pair}: {row['scheme']} leaves students {way} calibrated than {REFERENCE}: ECE differs by "
                f"{estimate(row['difference'], row['low'], row['high'])} (intervals of {len(rows)} schemes hold "
                "together)."
            )


def _way(overconfidence: float) -> str:
    points = number(100 * abs(overconfidence), 1)
    return f"{'too sure' if overconfidence > 0 else 'not sure enough'} by {points} points on average"


def _draw(reliability: pd.DataFrame, images: int) -> tuple[Figure, CalibrationFacts]:
    pair = str(reliability["pair"].iloc[0])
    here = reliability[reliability["pair"] == pair]
    looks = marks(here["scheme"])
    with style():
        figure = Figure(figsize=(COLUMN * 1.2, COLUMN * 1.25), layout="constrained")
        ax = figure.add_subplot()
        ax.plot([0, 1], [0, 1], color="#949494", linewidth=0.6)
        for (role, scheme), part in here.groupby(["role", "scheme"], sort=False):
            teacher = role == TEACHER
            look = looks[str(scheme)]
            ax.errorbar(
                part["confidence"],
                part["accuracy"],
                [
                    (part["accuracy"] - part["low"]).clip(lower=0),
                    (part["high"] - part["accuracy"]).clip(lower=0),
                ],
                color="#1a1a1a" if teacher else look.color,
                marker="o" if teacher else look.marker,
                linestyle="--" if teacher else "-",
                markersize=3,
                elinewidth=0.5,
                label=plain(f"teacher {scheme}" if teacher else look.text),
            )
        low = float(min(here["confidence"].min(), here["low"].min()))
        ax.set_xlim(max(0.0, low - 0.03), 1.01)
        ax.set_ylim(max(0.0, low - 0.03), 1.01)
        ax.set(xlabel="mean confidence", ylabel="accuracy")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    schemes = here[here["role"] == STUDENT]["scheme"].nunique()
    return figure, CalibrationFacts(pair, int(schemes), images, BINS)
