"""Distillation objectives by name: callables ``(student_logits, teacher_logits, labels) -> loss`` in nats."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdstats.errors import UsageError, unknown

Objective = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]

_OBJECTIVES = {
    "kd": "runners.objectives.kd:KD",
    "ce": "runners.objectives.ce:CE",
}


def names() -> list[str]:
    """All objective names."""
    return list(_OBJECTIVES)


def get(name: str, **params: Any) -> Objective:
    """An objective by name; ``params`` are its own.

    Raises:
        UsageError: Unknown name or parameter.
    """
    if name not in _OBJECTIVES:
        raise unknown("objective", name, _OBJECTIVES)
    module, _, cls = _OBJECTIVES[name].partition(":")
    try:
        objective: Objective = getattr(importlib.import_module(module), cls)(**params)
    except TypeError as error:
        raise UsageError(f"objective {name}: {str(error).partition('() ')[2] or error}") from None
    return objective
