"""One question, one file: ``QUESTION`` and ``run(study)``, which gives a frozen result.

Kinds of frame, and the parameter name each one always has: ``runs`` (one row per trained student), ``study``
(one row per pair and scheme). A result holds tables (unrounded), figure functions whose facts write their own
caption, and ``findings``: sentences built from the numbers, which claim no more than the intervals do.
"""

from __future__ import annotations

import importlib
from typing import Any

from kdstats.errors import unknown

# Page order. Modules are imported on use, so listing them costs nothing.
ANALYSES: dict[str, str] = {
    "ranking": "analyses.ranking",
    "prediction": "analyses.prediction",
    "dependence": "analyses.dependence",
    "covariance": "analyses.covariance",
    "training": "analyses.training",
    "fairness": "analyses.fairness",
    "left_out": "analyses.left_out",
}


def get(name: str) -> Any:
    """The module of an analysis; raises ``UsageError`` with the nearest names for an unknown one."""
    if name not in ANALYSES:
        raise unknown("analysis", name, ANALYSES)
    return importlib.import_module(ANALYSES[name])
