"""How often should temporary teachers take turns, and how many should there be?"""

from __future__ import annotations

from dataclasses import dataclass

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import FOLLOWING, Need

QUESTION = "How often should temporary teachers take turns, and how many should there be?"
NEEDS: tuple[Need, ...] = (
    FOLLOWING,
    (
        lambda has: has.several("teaching.period", "teaching.teachers"),
        "all runs have one period and one number of teachers",
    ),
)
PUBLISHED_PERIOD, PUBLISHED_TEACHERS = 1.0, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class SwitchingPeriod:
    """The result: over the period (each unit by itself) and over the number of teachers."""

    period: LevelComparison
    teachers: LevelComparison
    findings: tuple[str, ...]


def run(study: Study, *others: Study) -> SwitchingPeriod:
    """Compares periods and numbers of teachers, each with all else alike.

    Args:
        study: A study.
        others: More of them, one for each period or number.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    absent = "no run has teachers that follow the student"
    period = compare(
        study,
        runs,
        Axis("period of a shift", _period, frozenset({"teaching.period"}), PUBLISHED_PERIOD),
        absent,
    )
    teachers = compare(
        study,
        runs,
        Axis("number of teachers", _teachers, frozenset({"teaching.teachers"}), PUBLISHED_TEACHERS),
        absent,
    )
    return SwitchingPeriod(period, teachers, (*period.findings, *teachers.findings))


def _period(run: TrainedRun) -> float | None:
    return float(run.settings["teaching.period"]) if "teaching.period" in run.settings else None


def _teachers(run: TrainedRun) -> float | None:
    return float(run.settings["teaching.teachers"]) if "teaching.teachers" in run.settings else None
