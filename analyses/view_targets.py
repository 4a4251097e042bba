"""What should a mixed view be taught: the teacher's answer to it, mixed labels, or mixed teacher logits?

Wang et al. (v1, table 1) compare teacher labels ("TLmixup", "TLCutMix") with the mixed hard labels of mixup and CutMix.
"""

from __future__ import annotations

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import Need

QUESTION = (
    "What should a mixed view be taught: the teacher's answer to it, mixed labels, or mixed teacher logits?"
)
NEEDS: tuple[Need, ...] = ((lambda has: has.several("targets"), "all runs have one target of the views"),)
MIXED_LABELS = "mixed labels"
NAMES = {
    "teacher": "teacher's answer",
    "labels": MIXED_LABELS,
    "interpolated": "mixed teacher logits",
}


def run(study: Study, *others: Study) -> LevelComparison:
    """Compares the targets of the views, all else alike.

    Args:
        study: A study.
        others: More of them, where each was run with other targets.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    axis = Axis("target of the views", _target, frozenset({"targets"}), MIXED_LABELS)
    return compare(study, trained_runs(study, *others), axis, "no run is there")


def _target(run: TrainedRun) -> str:
    kind = str(run.settings["targets"])
    return NAMES.get(kind, kind)
