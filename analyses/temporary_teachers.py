"""Do temporary teachers in shifts leave a better student than one lasting average, or than a fixed teacher?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.settings import FIXED, SILENT, TrainedRun, trained_runs, value_key
from analyses.study.traits import Need
from analyses.words import listed

QUESTION = "Do temporary teachers in shifts leave a better student than one lasting average, or than a fixed teacher?"
NEEDS: tuple[Need, ...] = (
    (
        lambda has: has.several("teaching", "teaching.teachers", "teaching.restart"),
        "all runs are taught in one way",
    ),
)
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
    runs = trained_runs(study, *others)
    found = compare(study, runs, axis, "no run used one scheme throughout")
    return replace(found, findings=(*found.findings, *_without_fixed(found, runs)))


def _who(run: TrainedRun) -> str | None:
    if run.settings.get("teaching.then"):
        return None
    return f"{run.teaching} {run.pair.split('/')[0]}" if run.settings["teaching"] == FIXED else run.teaching


def _without_fixed(found: LevelComparison, runs: Sequence[TrainedRun]) -> list[str]:
    """Why a comparison of moving teachers has no fixed one beside them, and what would give it one."""
    if not found.answered or any(FIXED in str(level) for level in found.table["level"]):
        return []
    fixed = [r for r in runs if r.settings["teaching"] == FIXED]
    if not fixed:
        return [
            "A fixed teacher is not among these runs; a study of one, trained with the same loss and recipe and given "
            "beside this one, is compared too."
        ]
    following = [r for r in runs if r.settings["teaching"] != FIXED]
    keys = sorted({key for r in runs for key in r.settings} - SILENT - _FREE)
    apart = [
        key
        for key in keys
        if not key.startswith("teaching.")
        and {value_key(r.settings.get(key)) for r in fixed}.isdisjoint(
            value_key(r.settings.get(key)) for r in following
        )
    ]
    why = f"differ in {listed(apart)}" if apart else "share no one set of settings with the others"
    return [f"The fixed teacher is not compared: its runs {why}, and a difference could come from that."]
