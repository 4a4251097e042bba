"""Should mixup be at the teacher, at the student, at both or at none, and at which temperature?

MIX-KD's claim: a teacher trained with mixup is smooth already, so a low temperature is better with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.names import MIXUPS
from analyses.study.settings import FIXED, TrainedRun, trained_runs
from analyses.study.traits import Need
from analyses.words import CANNOT, listed

QUESTION = "Should mixup be at the teacher, at the student, at both or at none, and at which temperature?"
NEEDS: tuple[Need, ...] = (
    (
        lambda has: bool(has.of(*MIXUPS)) and ("identity" in has.schemes or has.several("temperature")),
        "it needs mixup, and beside it identity or several temperatures",
    ),
)
NONE, TEACHER, STUDENT, BOTH = "none", "teacher", "student", "both"
_TEACHER = frozenset({"teacher_sha256"})


@dataclass(frozen=True, slots=True, eq=False)
class MixupPlacement:
    """The result.

    Attributes:
        placement: Over the placements, one stratum a temperature.
        temperature: Over temperatures, one stratum a placement.
        unknown: Teachers of which no card says how they were trained.
        findings: Those of both, and what cannot be answered.
    """

    placement: LevelComparison
    temperature: LevelComparison
    unknown: tuple[str, ...]
    findings: tuple[str, ...]


def run(study: Study, *others: Study) -> MixupPlacement:
    """Compares placements at every temperature and temperatures at every placement.

    A teacher's placement is the ``scheme`` under ``teachers`` in ``study.json``. A teacher without it takes part in
    comparisons of the student's mixup under that same teacher only.

    Args:
        study: A study with ``identity`` and a scheme of mixup.
        others: More of them: the other teacher, the other temperatures.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    # An average of the student was trained as the student is; where mixup lies is no question there.
    runs = tuple(r for r in trained_runs(study, *others) if r.settings["teaching"] == FIXED)
    unknown = tuple(sorted({r.pair.split("/")[0] for r in runs if teacher_mixup(r) is None}))
    placement = compare(
        study,
        runs,
        Axis(
            "placement of mixup",
            _placement,
            frozenset({"scheme", "scheme.*"}) | (frozenset() if unknown else _TEACHER),
            NONE if not unknown else f"{NONE} at the student",
        ),
        "no run with a fixed teacher used identity or a scheme of mixup",
    )
    temperature = compare(
        study,
        runs,
        Axis("temperature", _temperature, frozenset({"temperature"})),
        "no run used identity or a scheme of mixup with the objective kd",
    )
    findings = [*placement.findings, *temperature.findings]
    if unknown:
        findings.insert(
            0,
            f"The teacher's side {CANNOT} its card does not say how {listed(unknown)} "
            f"{'was' if len(unknown) == 1 else 'were'} trained.",
        )
    return MixupPlacement(placement, temperature, unknown, tuple(findings))


def teacher_mixup(run: TrainedRun) -> bool | None:
    """Whether the run's teacher was trained with mixup; None where the study's card does not tell."""
    card = run.study.card.teachers.get(run.pair.split("/")[0], {})
    if "scheme" not in card:
        return None
    return _is_mixup(str(card["scheme"] or "identity"))


def _is_mixup(scheme: str) -> bool:
    return scheme.partition("(")[0].partition("@")[0] in MIXUPS


def _student(run: TrainedRun) -> bool | None:
    mixed = _is_mixup(run.scheme)
    return mixed if mixed or run.scheme == "identity" else None


def _placement(run: TrainedRun) -> str | None:
    student, teacher = _student(run), teacher_mixup(run)
    if student is None:
        return None
    if teacher is None:
        return "mixup at the student" if student else f"{NONE} at the student"
    return {(False, False): NONE, (True, False): TEACHER, (False, True): STUDENT, (True, True): BOTH}[
        (teacher, student)
    ]


def _temperature(run: TrainedRun) -> float | None:
    if _student(run) is None or run.settings["objective"] != "kd":
        return None
    return float(run.settings["temperature"])
