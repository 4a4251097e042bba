"""How should RecursiveMix be set: largest box α, weight ω of the region's consistency, its head, its resizing?"""

from __future__ import annotations

from dataclasses import dataclass

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import Need

QUESTION = "How should RecursiveMix be set: largest box α, weight ω of the region's consistency, its head, its resizing?"
NEEDS: tuple[Need, ...] = (
    (
        lambda has: (
            len(has.of("recursive_mix")) > 1
            or (bool(has.of("recursive_mix")) and has.several("beta", "objective.head"))
        ),
        "no two settings of recursive_mix were trained",
    ),
)
SCHEME, CONSISTENCY = "recursive_mix", "region_consistency"
DEFAULT_ALPHA, DEFAULT_RESIZE, DEFAULT_HEAD = 0.5, "nearest", "own"
NAMES = ("alpha", "omega", "head", "resize")


@dataclass(frozen=True, slots=True, eq=False)
class RecursiveSweeps:
    """The result: one comparison a setting (:data:`NAMES`), and the findings of all."""

    alpha: LevelComparison
    omega: LevelComparison
    head: LevelComparison
    resize: LevelComparison
    findings: tuple[str, ...]


def run(study: Study, *others: Study) -> RecursiveSweeps:
    """Compares the values of each setting, all else alike.

    Args:
        study: A study with schemes such as ``recursive_mix(alpha=0.3)``.
        others: More of them: one for each ω (``kd.beta`` with the objective ``region_consistency``) or head.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    absent, without = f"no run used {SCHEME}", f"no run used {SCHEME} with the objective {CONSISTENCY}"
    found = {
        "alpha": compare(
            study, runs, Axis("α of the box", _alpha, frozenset({"scheme.alpha"}), DEFAULT_ALPHA), absent
        ),
        "omega": compare(
            study,
            runs if any(map(_consistent, runs)) else (),
            Axis("ω of the consistency", _omega, frozenset({"beta", "objective"}), 0.0),
            without,
        ),
        "head": compare(
            study, runs, Axis("head of the region", _head, frozenset({"objective.head"}), "own"), without
        ),
        "resize": compare(
            study,
            runs,
            Axis("resizing", _resize, frozenset({"scheme.resize"}), DEFAULT_RESIZE),
            absent,
        ),
    }
    findings = tuple(text for name in NAMES for text in found[name].findings)
    return RecursiveSweeps(**found, findings=findings)


def _is(run: TrainedRun) -> bool:
    return str(run.settings["scheme"]).partition("@")[0] == SCHEME


def _alpha(run: TrainedRun) -> float | None:
    return float(run.settings.get("scheme.alpha", DEFAULT_ALPHA)) if _is(run) else None


def _resize(run: TrainedRun) -> str | None:
    return str(run.settings.get("scheme.resize", DEFAULT_RESIZE)) if _is(run) else None


def _omega(run: TrainedRun) -> float | None:
    if _is(run) and run.settings["objective"] == "kd":
        return 0.0  # the same loss without the term
    return float(run.settings["beta"]) if _consistent(run) else None


def _head(run: TrainedRun) -> str | None:
    return str(run.settings.get("objective.head", DEFAULT_HEAD)) if _consistent(run) else None


def _consistent(run: TrainedRun) -> bool:
    return _is(run) and run.settings["objective"] == CONSISTENCY
