"""Which criterion should pick the views, and does picking help at all?

Wang et al. (v1, table 2) compare no picking, the teacher's entropy, the student's entropy and the divergence between
the two, by accuracy; their v3 finds another order by test loss.
"""

from __future__ import annotations

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.names import split
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import PICKING, Need

QUESTION = "Which criterion should pick the views, and does picking help at all?"
NEEDS: tuple[Need, ...] = (PICKING,)
NONE = "no picking"
CRITERIA = {
    "teacher": "teacher's entropy",
    "student": "student's entropy",
    "kl": "teacher–student KL",
    "dissimilarity": "dissimilarity",
}


def run(study: Study, *others: Study) -> LevelComparison:
    """Compares the criteria over the views of one base scheme, with the base scheme itself as reference.

    Args:
        study: A study with schemes such as ``cutmix``, ``cutmix_pick_teacher``, ``pick(mixup,criterion=kl)``.
        others: More of them.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    bases = {base for run_ in runs for base, criterion in (split(run_.scheme),) if criterion is not None}

    def level(run_: TrainedRun) -> str | None:
        base, criterion = split(run_.scheme)
        if base not in bases:
            return None
        return NONE if criterion is None else CRITERIA.get(criterion, criterion)

    axis = Axis(
        "picking criterion",
        level,
        frozenset({"scheme", "scheme.*"}),
        NONE,
        # Views of mixup and of CutMix differ in more than the criterion.
        within=lambda run_: split(run_.scheme)[0],
    )
    return compare(study, runs, axis, "no run picks its views")
