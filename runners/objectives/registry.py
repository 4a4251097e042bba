"""Name → objective. A module is imported when its objective is asked for."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from kdstats.errors import UsageError, unknown
from runners.objectives.ce import CE
from runners.objectives.kd import KD
from runners.objectives.mix_ce import MixCE
from runners.objectives.objective import Objective
from runners.objectives.weighted_sum import Total

_OBJECTIVES = {
    "kd": "kd:KD",
    "ce": "ce:CE",
    "mix_ce": "mix_ce:MixCE",
    "std_logits": "std_logits:StdLogits",
    "at": "at:AT",
    "sp": "sp:SP",
    "cc": "cc:CC",
    "vid": "vid:VID",
    "rkd": "rkd:RKD",
    "pkt": "pkt:PKT",
    "fitnet": "fitnet:FitNet",
    "nst": "nst:NST",
    "crd": "crd:CRD",
    "dkd": "dkd:DKD",
    "region_consistency": "region_consistency:RegionConsistency",
}
ALIASES = {
    "hinton": "kd",
    "kl": "kd",
    "cross_entropy": "ce",
    "hard_mix": "mix_ce",
    "mixstd": "std_logits",
    "mix_kd": "std_logits",
    "attention": "at",
    "similarity": "sp",
    "correlation": "cc",
    "hint": "fitnet",
    "contrast": "crd",
    "region": "region_consistency",
}


def names() -> list[str]:
    """All objective names."""
    return list(_OBJECTIVES)


def canonical(name: str) -> str:
    """The name of an objective from any spelling of it (case, hyphens, aliases).

    Raises:
        UsageError: Unknown, with the nearest.
    """
    folded = name.strip().lower().replace("-", "_")
    folded = ALIASES.get(folded, folded)
    if folded not in _OBJECTIVES:
        raise unknown(
            "objective", name, [*_OBJECTIVES, *ALIASES], "`python -m runners.objectives` lists them."
        )
    return folded


def objective_class(name: str) -> type[Objective]:
    """The class behind a name; its attributes are its card."""
    module, _, cls = _OBJECTIVES[canonical(name)].partition(":")
    found: type[Objective] = getattr(importlib.import_module(f"runners.objectives.{module}"), cls)
    return found


def get(name: str, **params: Any) -> Objective:
    """An objective by name; ``params`` are its own, under our names or the published ones (``kd_T``, ``nce_k``).

    Raises:
        UsageError: Unknown name or parameter, or a value that makes no sense.
    """
    cls = objective_class(name)
    known = [p for p in inspect.signature(cls).parameters if p not in ("args", "kwargs")]
    given: dict[str, Any] = {}
    for key, value in params.items():
        ours = cls.renamed.get(key, key)
        if ours not in known:
            if not known:
                raise UsageError(f"the objective {cls.name} has no parameters; {key} was given")
            raise unknown(f"parameter of the objective {cls.name}", key, [*known, *cls.renamed])
        if ours in given:
            raise UsageError(f"the objective {cls.name} was given {ours} twice, once as {key}")
        given[ours] = value
    try:
        return cls(**given)
    except TypeError:
        values = ", ".join(f"{k}={v!r}" for k, v in given.items())
        raise UsageError(f"objective {cls.name}: a parameter has the wrong kind of value: {values}") from None


def total(
    name: str | Objective,
    *,
    gamma: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    temperature: float | None = None,
    student_temperature: float | None = None,
    hard: str = "ce",
    **params: Any,
) -> Total:
    """``γ CE + α KL + β L`` with the objective ``name`` as L and its published weights.

    ``kd`` and ``ce`` are the first two summands themselves; ``mix_ce`` takes the place of CE.

    Args:
        name: See :func:`names`; or an objective from :func:`get`, where one of its own parameters is called as
            one here (the temperature of ``dkd``).
        gamma: Weight of the cross-entropy, instead of the published one.
        alpha: Weight of the KL (for example 1 beside CRD, RepDistiller's "CRD+KD").
        beta: Weight of the objective.
        temperature: T_t of the KL, instead of 4.
        student_temperature: T_s of the KL, instead of T_t.
        hard: What γ weighs: ``ce``, or ``mix_ce`` where the images are mixed views and their labels are to be mixed
            alike (MIX-KD, RecursiveMix); ``ce`` takes the class of the image that a view is based on.
        params: The objective's own.

    Raises:
        UsageError: Unknown names or parameters, or weights without an objective.
    """
    given = {"temperature": temperature, "student_temperature": student_temperature}
    softness = {key: value for key, value in given.items() if value is not None}
    if isinstance(name, Objective):
        objective, cls = name, type(name)
        if params:
            raise UsageError(f"the objective {cls.name} is made already; give {', '.join(params)} to get()")
    else:
        cls = objective_class(name)
        objective = get(name, **params, **(softness if cls is KD else {}))
    weights = [
        own if own is not None else published
        for own, published in zip((gamma, alpha, beta), vars(cls.weights).values(), strict=True)
    ]
    labelled = get(hard)
    if not isinstance(labelled, (CE, MixCE)):
        raise unknown("cross-entropy with labels", hard, ("ce", "mix_ce"))
    if isinstance(objective, KD):
        return Total(*weights, hard=labelled, soft=objective)
    soft = KD(**softness)
    if isinstance(objective, (CE, MixCE)):
        return Total(*weights, hard=labelled if isinstance(objective, CE) else objective, soft=soft)
    return Total(*weights, hard=labelled, soft=soft, other=objective)
