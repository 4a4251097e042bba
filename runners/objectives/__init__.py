"""Distillation objectives by name: callables ``(student_logits, teacher_logits, labels) -> loss``."""

from __future__ import annotations

from runners.objectives.card import Weights
from runners.objectives.evaluation import Evaluation
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs, shapes_of
from runners.objectives.registry import ALIASES, canonical, get, names, objective_class, total
from runners.objectives.weighted_sum import Total, TotalEvaluation

__all__ = [
    "ALIASES",
    "Evaluation",
    "Objective",
    "Outputs",
    "Total",
    "TotalEvaluation",
    "Weights",
    "canonical",
    "get",
    "names",
    "objective_class",
    "shapes_of",
    "total",
]
