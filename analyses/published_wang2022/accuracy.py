"""Do CutMixPick and longer schedules raise the published accuracies, over pairs rather than pair by pair?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analyses.words import CONFIDENCE, records
from kdstats.association.multiplicity import holm
from kdstats.errors import CheckError
from kdstats.estimators.intervals import t_quantile
from kdstats.published.wang2022 import DATASETS, Wang2022

QUESTION = (
    "Do CutMixPick and longer schedules raise the published accuracies, over pairs rather than pair by pair?"
)
RUNS = 3
BOTH = "both"
LONG = {"cifar100": 960, "tinyimagenet": 480}
CAUTION = (
    "The accuracy rows called CutMixPick equal, digit for digit, rows of the first submission whose criterion was the "
    "teacher-student KL divergence; the points of the scatter panels use the entropy criteria. The two parts of the "
    "study are not about the same scheme. Standard deviations are over 3 runs, whose seeds were not fixed."
)
# Name → weights of the methods in a difference; {long} is the longer schedule of the data set.
CONTRASTS: dict[str, dict[str, int]] = {
    "CutMix added to KD": {"KD+CutMix": 1, "KD": -1},
    "CutMixPick added to KD": {"KD+CutMixPick": 1, "KD": -1},
    "CutMixPick instead of CutMix": {"KD+CutMixPick": 1, "KD+CutMix": -1},
    "longer, KD": {"KD_{long}": 1, "KD": -1},
    "longer, KD+CutMixPick": {"KD+CutMixPick_{long}": 1, "KD+CutMixPick": -1},
    "CutMixPick added to KD, longer": {"KD+CutMixPick_{long}": 1, "KD_{long}": -1},
    "what longer adds to CutMixPick's gain": {
        "KD+CutMixPick_{long}": 1,
        "KD_{long}": -1,
        "KD+CutMixPick": -1,
        "KD": 1,
    },
    "CutMixPick and longer, against KD": {"KD+CutMixPick_{long}": 1, "KD": -1},
    "CutMixPick added to CRD": {"CRD+CutMixPick": 1, "CRD": -1},
    "CRD added to KD+CutMixPick, longer": {"CRD+CutMixPick_{long}": 1, "KD+CutMixPick_{long}": -1},
}


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """The result.

    Attributes:
        table: The published table: ``panel, dataset, teacher, student, method, top1, std``, percent.
        pairs: One row per contrast, data set and pair: ``difference, se, low, high`` in points (Welch's t of 3 runs
            each), ``teacher``.
        contrasts: One row per contrast and data set, and over both (each pair's mean of the two): ``difference, low,
            high`` (t over pairs), ``p_value``, ``p_holm`` (over the contrasts of a data set), ``pairs, positive,
            alone`` (pairs whose own interval excludes 0 on the side of the mean), ``teacher_low, teacher_high`` (t
            over teachers, each the mean of its pairs), ``teachers``.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    contrasts: pd.DataFrame

    def contrast(self, name: str, dataset: str) -> dict[str, Any]:
        """The row of one contrast on one data set, or on :data:`BOTH`."""
        rows = self.contrasts
        return records(rows[(rows["contrast"] == name) & (rows["dataset"] == dataset)])[0]


def run(study: Wang2022) -> Accuracy:
    """Differences of mean accuracies within a pair, then over pairs as the units."""
    table = study.accuracy
    cells = {
        (row["dataset"], row["panel"], row["method"]): (float(row["top1"]), float(row["std"]))
        for row in records(table)
    }
    teachers = dict(zip(table["panel"], table["teacher"], strict=True))
    rows = []
    for name, weights in CONTRASTS.items():
        for dataset in LONG:
            for panel in dict.fromkeys(table.loc[table["dataset"] == dataset, "panel"]):
                found = _difference(cells, dataset, panel, weights)
                rows.append(
                    {
                        "contrast": name,
                        "dataset": dataset,
                        "pair": panel.removeprefix(f"{dataset} "),
                        "teacher": teachers[panel],
                        **found,
                    }
                )
    pairs = pd.DataFrame(rows)
    over = []
    for name in CONTRASTS:
        own = pairs[pairs["contrast"] == name]
        both = own.groupby(["pair", "teacher"], sort=False)[["difference"]].mean().reset_index()
        over.append({"contrast": name, "dataset": BOTH, **_over_pairs(both), "alone": None})
        for dataset in LONG:
            part = own[own["dataset"] == dataset]
            over.append({"contrast": name, "dataset": dataset, **_over_pairs(part), "alone": _alone(part)})
    contrasts = pd.DataFrame(over)
    contrasts["p_holm"] = contrasts.groupby("dataset", sort=False)["p_value"].transform(
        lambda p: holm(p.to_numpy())
    )
    return Accuracy(table=table, pairs=pairs, contrasts=contrasts)


def _difference(
    cells: dict[tuple[str, str, str], tuple[float, float]], dataset: str, panel: str, weights: dict[str, int]
) -> dict[str, float]:
    """A contrast of independent means of 3 runs, with Welch and Satterthwaite's degrees of freedom."""
    value, parts = 0.0, []
    for template, weight in weights.items():
        method = template.format(long=LONG[dataset])
        top1, std = cells.get((dataset, panel, method), (math.nan, math.nan))
        if math.isnan(top1) or math.isnan(std):
            raise CheckError(f"{panel}: the table has no mean and spread of {method}")
        value += weight * top1
        parts.append(std**2 / RUNS)
    variance = sum(parts)
    dof = variance**2 / sum(part**2 / (RUNS - 1) for part in parts)
    half = t_quantile(CONFIDENCE, dof) * math.sqrt(variance)
    return {"difference": value, "se": math.sqrt(variance), "low": value - half, "high": value + half}


def _over_pairs(part: pd.DataFrame) -> dict[str, float | int]:
    d = part["difference"].to_numpy(dtype=float)
    low, high, p = _t_interval(d)
    by_teacher = part.groupby("teacher", sort=False)["difference"].mean().to_numpy(dtype=float)
    teacher_low, teacher_high, _ = _t_interval(by_teacher)
    return {
        "difference": float(d.mean()),
        "low": low,
        "high": high,
        "p_value": p,
        "pairs": d.size,
        "positive": int((d > 0).sum()),
        "teacher_low": teacher_low,
        "teacher_high": teacher_high,
        "teachers": by_teacher.size,
    }


def _alone(part: pd.DataFrame) -> int:
    up = float(part["difference"].mean()) > 0
    return int(((part["low"] > 0) if up else (part["high"] < 0)).sum())


def _t_interval(values: np.ndarray) -> tuple[float, float, float]:
    mean, se = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
    half = t_quantile(CONFIDENCE, values.size - 1) * se
    return mean - half, mean + half, float(2 * special.stdtr(values.size - 1, -abs(mean) / se))


def dataset_name(key: str) -> str:
    """Printed name of a data set, or of both."""
    return "both" if key == BOTH else DATASETS[key]
