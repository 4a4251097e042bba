"""Does dividing logits by their own standard deviation help, and in which of the losses?

MIX-KD's three versions: v1 is distillation at a fixed temperature with mixed labels, v3 exchanges the temperature for
each image's own deviation in the distillation, v2 (the release) in the cross-entropy as well.
"""

from __future__ import annotations

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import Need

QUESTION = "Does dividing logits by their own standard deviation help, and in which of the losses?"
NEEDS: tuple[Need, ...] = (
    (
        lambda has: (
            has.has("objective", "std_logits")
            and any(len(v) > 1 for k, v in has.values.items() if k.startswith("objective."))
        ),
        "no two versions of the objective std_logits were trained",
    ),
)
FIXED_TEMPERATURE = "v1 (fixed temperature)"
VERSIONS = {
    "v1": FIXED_TEMPERATURE,
    "v2": "v2 (both losses rescaled)",
    "v3": "v3 (distillation rescaled)",
}
RELEASED = "v2"  # what an objective without parameters is


def run(study: Study, *others: Study) -> LevelComparison:
    """Compares the versions of the objective ``std_logits``, all else alike.

    Plain ``kd`` is no version: its cross-entropy is weighed outside, so it differs in several settings at once; v1
    is the same loss within this objective.

    Args:
        study: A study.
        others: More of them, one for each version.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    axis = Axis(
        "version of the loss",
        _version,
        frozenset({"objective.version"}),
        FIXED_TEMPERATURE,
    )
    return compare(
        study, trained_runs(study, *others), axis, "no run was trained with the objective std_logits"
    )


def _version(run: TrainedRun) -> str | None:
    if run.settings["objective"] != "std_logits":
        return None
    version = str(run.settings.get("objective.version", RELEASED))
    return VERSIONS.get(version, version)
