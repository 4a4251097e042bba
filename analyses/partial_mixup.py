"""How many views should be mixed, and how evenly: the share and the Beta parameter of MIX-KD's partial mixup."""

from __future__ import annotations

from dataclasses import dataclass

from analyses.inference.levels import Axis, LevelComparison, compare
from analyses.study import Study
from analyses.study.names import MIXUPS
from analyses.study.settings import TrainedRun, trained_runs
from analyses.study.traits import Need

QUESTION = "How many views should be mixed, and how evenly?"
NEEDS: tuple[Need, ...] = (
    (lambda has: len(has.of(*MIXUPS)) > 1, "it needs two settings of mixup or partial_mixup"),
)
DEFAULT_UNMIXED, DEFAULT_ALPHA = 0.9, 1.0
WITH_REPLACEMENT = "with_replacement"


@dataclass(frozen=True, slots=True, eq=False)
class PartialMixup:
    """The result.

    Attributes:
        share: Over the share of views that are mixed in truth; ``full_mixup`` is share 1.
        beta: Over α of λ ~ Beta(α, α), each scheme of mixup by itself.
        findings: Those of both.
    """

    share: LevelComparison
    beta: LevelComparison
    findings: tuple[str, ...]


def run(study: Study, *others: Study) -> PartialMixup:
    """Compares shares and Beta parameters, each with all else alike.

    Args:
        study: A study with schemes such as ``partial_mixup(unmixed=0.5)`` and ``mixup(alpha=0.2)``.
        others: More of them.

    Raises:
        MissingError: A run's ``run.json`` is missing or broken.
    """
    runs = trained_runs(study, *others)
    schemes = frozenset({"scheme", "scheme.unmixed", "scheme.sampling"})
    share = compare(
        study,
        runs,
        Axis("mixed share of the views", mixed_share, schemes, 1.0, within=_alpha_text),
        "no run used partial_mixup or full_mixup",
    )
    beta = compare(
        study,
        runs,
        Axis("Beta parameter α", _alpha, frozenset({"scheme.alpha"}), DEFAULT_ALPHA),
        "no run used a scheme of mixup",
    )
    return PartialMixup(share, beta, (*share.findings, *beta.findings))


def mixed_share(run: TrainedRun) -> float | None:
    """Share of the views that are mixed: 1 for full mixup; None for schemes that are no mixup of MIX-KD.

    With replacement, int(unmixed · B) draws leave (1 − 1/B)^int(unmixed · B) of the B views mixed, 0.41 rather than
    0.1 at the published settings.
    """
    scheme, preset = _name(run)
    if scheme == "full_mixup":
        return 1.0
    if scheme != "partial_mixup":
        return None
    unmixed = float(run.settings.get("scheme.unmixed", DEFAULT_UNMIXED))
    batch = int(run.settings["recipe.batch_size"])
    sampling = run.settings.get("scheme.sampling", WITH_REPLACEMENT if preset == "mixkd" else "exact")
    if sampling == WITH_REPLACEMENT:
        return (1 - 1 / batch) ** int(batch * unmixed)
    return 1 - round(unmixed * batch) / batch


def _alpha(run: TrainedRun) -> float | None:
    if _name(run)[0] not in MIXUPS:
        return None
    return float(run.settings.get("scheme.alpha", DEFAULT_ALPHA))


def _alpha_text(run: TrainedRun) -> str:
    return f"MIX-KD mixup, α {_alpha(run):g}"


def _name(run: TrainedRun) -> tuple[str, str]:
    name, _, preset = str(run.settings["scheme"]).partition("@")
    return name, preset
