"""Does it help to give every teacher's shift an augmentation of its own?

Dual Teacher pairs its two temporary teachers with two strong augmentations in turn.
"""

from __future__ import annotations

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.names import in_turn
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import FOLLOWING, Need

QUESTION = "Does it help to give every teacher's shift an augmentation of its own?"
NEEDS: tuple[Need, ...] = (
    FOLLOWING,
    (lambda has: has.several("teaching.then"), "no shift has a scheme of its own beside others"),
)


def run(study: Study, *others: Study) -> LevelComparison:
    """Compares the schemes of the shifts, one throughout among them, all else alike.

    Args:
        study: A study with ``[teaching] then``.
        others: More of them: the same teaching with one scheme throughout, or with others.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    shifts = any(run_.settings.get("teaching.then") for run_ in runs)

    def level(run_: TrainedRun) -> str | None:
        return in_turn(run_) if shifts and "teaching.period" in run_.settings else None

    axis = Axis(
        "schemes of the shifts",
        level,
        frozenset({"scheme", "scheme.*", "teaching.then"}),
    )
    return compare(study, runs, axis, "no run has schemes of their own for its shifts (teaching.then)")
