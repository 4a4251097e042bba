"""Do temporary teachers in shifts leave a better student than one lasting average, or than a fixed teacher?"""

from __future__ import annotations

from analyses.levels import Axis, LevelComparison, compare
from analyses.settings import FIXED, TrainedRun, trained_runs
from analyses.study import Study

QUESTION = "Do temporary teachers in shifts leave a better student than one lasting average, or than a fixed teacher?"
SINGLE = "1 lasting average"
# Who teaches is what is compared: a trained teacher's name and weights belong to it.
_FREE = frozenset({"pair", "teacher", "teacher_arch", "teacher_sha256", "teaching", "teaching.*"})


def run(study: Study, *others: Study) -> LevelComparison:
    """Compares who teaches, under one scheme throughout and all else alike.

    Runs whose shifts have schemes of their own are left to :mod:`analyses.shift_schemes`: they differ in the views too.

    Args:
        study: A study.
        others: More of them, one for each way of teaching.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    axis = Axis("way of teaching", _who, _FREE, SINGLE)
    return compare(study, trained_runs(study, *others), axis, "no run used one scheme throughout")


def _who(run: TrainedRun) -> str | None:
    if run.settings.get("teaching.then"):
        return None
    return f"{run.teaching} {run.pair.split('/')[0]}" if run.settings["teaching"] == FIXED else run.teaching
