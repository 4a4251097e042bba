"""One question, one file: ``QUESTION`` and ``run(study)``, which gives a frozen result.

Kinds of frame, and the parameter name each one always has: ``runs`` (one row per trained student), ``study``
(one row per pair and scheme). A result holds tables (unrounded), figure functions whose facts write their own
caption, and ``findings``: sentences built from the numbers, which claim no more than the intervals do. ``NEEDS`` says
what a study must have for a question on request (:mod:`analyses.study.traits`), ``LONG`` why it is only asked by name,
``HEADS`` what its columns are called where the name means something else in other analyses.

Beside the questions lie the rooms that they rest on: ``study`` reads what is on disk, ``inference`` has the intervals and
tests, ``figures`` the larger drawings, ``words`` the numbers in sentences.
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
# Asked on request: ``run(study, *others)`` compares settings over the variants of a study or several studies, the
# others read the records or ask the networks, which a page of every study need not wait for.
ON_REQUEST: dict[str, str] = {
    name: f"analyses.{name}"
    for name in (
        "epoch_sweep",
        "view_targets",
        "picking",
        "pick_ratio",
        "picked_views",
        "label_disagreement",
        "convergence",
        "mixup_placement",
        "partial_mixup",
        "std_logits",
        "smoothness",
        "calibration",
        "robustness",
        "feature_projection",
        "recursive_sweeps",
        "mixing_depth",
        "step_dependence",
        "overhead",
        "best_and_last",
        "data_maps",
        "current_teacher",
        "temporary_teachers",
        "teacher_distance",
        "switching_period",
        "shift_schemes",
        "rival_predictors",
        "softness",
        "student_invariance",
        "which_scheme",
        "seeds_needed",
        "draw_granularity",
    )
}


def get(name: str) -> Any:
    """The module of an analysis; raises ``UsageError`` with the nearest names for an unknown one."""
    known = ANALYSES | ON_REQUEST
    if name not in known:
        raise unknown("analysis", name, known)
    return importlib.import_module(known[name])
