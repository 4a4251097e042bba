"""What a teacher alone says of a scheme beside T. stddev, one row per pair and scheme, next to the students' outcome.

Every number comes from the passes behind T. stddev, so none of them costs anything more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analyses.study import Study
from analyses.study.measured import Measured
from analyses.words import count, listed, records
from kdstats.association.panels import SMALLEST_N
from kdstats.estimators.components import DEPENDENCE, SPREAD

T_STDDEV, OUTCOME = "t_stddev", "test_loss"
# Rival → words, where it is in a row of results. Affinity: Gontijo-Lopes et al. (ICLR 2021), there of a model trained
# without the scheme, here of the teacher.
RIVALS: dict[str, tuple[str, tuple[str, str]]] = {
    "view_entropy": ("entropy of views", ("rivals", "view_entropy")),
    "view_accuracy": ("teacher's accuracy on views", ("rivals", "view_accuracy")),
    "kl_view_original": ("KL of view and original", ("rivals", "kl_view_original")),
    "cov_cross": ("cross-image covariance", ("components", "cov_cross")),
}
WORDS = {T_STDDEV: "T. stddev"} | {name: words for name, (words, _) in RIVALS.items()}
PARTS = SPREAD + DEPENDENCE


def collect(study: Study) -> pd.DataFrame:
    """``pair, scheme, t_stddev, test_loss``, rivals, parts of the variance, ``design_effect``; NaN where absent.

    Rows are the schemes with a T. stddev and an outcome, pairs in the card's order. Units: entropy and KL in nats,
    accuracy a fraction, covariance and parts in probability².
    """
    rows = []
    for pair in study.pairs:
        measured = study.measured(pair)
        for row in records(study.points(pair)):
            kept = {key: row[key] for key in ("pair", "scheme", T_STDDEV, OUTCOME)}
            rows.append(kept | _numbers(measured.get(str(row["scheme"]))))
    names = dict.fromkeys(("pair", "scheme", T_STDDEV, OUTCOME, *RIVALS, *PARTS, "design_effect"))
    return pd.DataFrame(rows, columns=list(names))


def _numbers(found: Measured | None) -> dict[str, float]:
    row: Mapping[str, Any] = {} if found is None else found.row
    parts = row.get("components") or {}
    out = {name: _float((row.get(where[0]) or {}).get(where[1])) for name, (_, where) in RIVALS.items()}
    out |= {part: _float(parts.get(part)) for part in PARTS}
    return out | {"design_effect": _float(row.get("design_effect"))}


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def refusal(rows: pd.DataFrame, column: str) -> str:
    """Why a column of one pair cannot be correlated with the outcome; empty where it can."""
    if len(rows) < SMALLEST_N:
        have = f"{count(len(rows), 'scheme')} with T. stddev and test loss"
        return f"{have}; a correlation with an interval needs {SMALLEST_N}"
    lacking = [str(name) for name in rows["scheme"][rows[column].isna()]]
    if len(lacking) == len(rows):
        return "not on record in the teacher-only measurements"
    if lacking:
        return f"not on record for {listed(lacking)}"
    values = rows[column]
    if float(values.max() - values.min()) <= 1e-13 * float(values.abs().max()):
        return "the same for all schemes"
    return ""


def usable(rows: pd.DataFrame, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The columns of one pair that can be correlated with the outcome, and why the others cannot."""
    outcome, asked = refusal(rows, OUTCOME), tuple(names)
    refused = {
        name: why
        for name in asked
        if (why := refusal(rows, name) or (f"the test loss is {outcome}" if outcome else ""))
    }
    return [name for name in asked if name not in refused], refused
