"""The result of ``evaluate_da``: estimates, comparisons and the JSON contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdstats.data import LabelledImages
from kdstats.estimators.comparison import Comparison, probability_lowest
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.tstddev import null_value
from kdstats.teacher.accuracy import Accuracy
from kdstats.teacher.log_values import against_identity, convergence, in_like_units, log_value
from kdstats.teacher.network import Network
from kdstats.teacher.notes import Note
from kdstats.teacher.probe import Probe
from kdstats.teacher.scheme_result import SchemeResult, scheme_result
from kdstats.teacher.setting import Setting

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
SCHEMA = "kdstats/evaluate-da/1"


@dataclass(frozen=True)
class Evaluation:
    """The answer of ``evaluate_da``.

    Attributes:
        setting: How it was measured.
        images: The data set.
        teacher: The teacher.
        accuracy: Its test loss and accuracy.
        student: The student, if one was given.
        results: One per scheme, the requested ones first.
        comparisons: Each scheme against identity, paired on the same batches.
        lowest: Scheme → probability that its T. stddev is the lowest of those measured.
        skipped: Scheme → why it could not be measured.
        convergence: Scheme → (batches, values, lows, highs) along the probe.
        batch_means: Scheme → ``[J, C]`` mean probabilities of its views; ``original`` holds those of the originals.
        view_sizes: The same keys → inputs behind each of those means.
        epoch: ``[J]`` epoch of each batch.
        stopped: Scheme → why no more of it was measured: ``tol``, ``pools`` or ``epochs``.
        originals_forwards: Images the teacher saw as originals, shared by all schemes.
        warnings: What must be known of the networks before the values are believed.
        provenance: Version, command, device, times.
    """

    setting: Setting
    images: LabelledImages
    teacher: Network
    accuracy: Accuracy
    student: Network | None
    results: tuple[SchemeResult, ...]
    comparisons: tuple[Comparison, ...]
    lowest: dict[str, float]
    skipped: dict[str, str]
    convergence: dict[str, tuple[list[int], list[float], list[float], list[float]]]
    batch_means: dict[str, Array]
    view_sizes: dict[str, list[int]]
    epoch: list[int]
    stopped: dict[str, str]
    originals_forwards: int
    warnings: tuple[Note, ...]
    provenance: dict[str, Any]

    @staticmethod
    def of(
        *,
        probe: Probe,
        setting: Setting,
        moments: OriginalsMoments | None,
        stopped: dict[str, str],
        requested: Sequence[str],
        skipped: Mapping[str, str],
        accuracy: Accuracy,
        warnings: tuple[Note, ...],
        provenance: dict[str, Any],
    ) -> Evaluation:
        """Computes every estimate from the tallies of a finished probe."""
        order = list(dict.fromkeys([*requested, "identity"]))
        values = {name: log_value(probe, setting, moments, name) for name in order}
        rng = np.random.default_rng(setting.seed)
        return Evaluation(
            setting=setting,
            images=probe.images,
            teacher=probe.teacher,
            accuracy=accuracy,
            student=probe.student,
            results=tuple(scheme_result(probe, setting, moments, name, values[name]) for name in order),
            comparisons=tuple(
                against_identity(probe, setting, moments, name, values[name])
                for name in order
                if name != "identity"
            ),
            lowest=probability_lowest(in_like_units(probe, setting, moments, values), rng),
            skipped=dict(skipped),
            convergence={name: convergence(probe, setting, moments, name) for name in order},
            batch_means={
                "original": np.stack(probe.means),
                **{name: np.stack(probe.tallies[name].means) for name in order},
            },
            view_sizes={"original": probe.sizes, **{name: probe.tallies[name].sizes for name in order}},
            epoch=probe.epoch,
            stopped=dict(stopped),
            originals_forwards=probe.forwards,
            warnings=warnings,
            provenance=provenance,
        )

    @property
    def null(self) -> float:
        """T. stddev of a fully confident, class-balanced teacher on the independent images of a pool."""
        return null_value(self.images.classes, self.setting.pool_images)

    def ranking(self) -> list[SchemeResult]:
        """The results from the lowest T. stddev (best) to the highest."""
        return sorted(self.results, key=lambda r: r.t_stddev.value)

    def frame(self) -> pd.DataFrame:
        """One row per scheme, columns as in the JSON contract (nested ones joined by a dot)."""
        import pandas as pd

        return pd.json_normalize(self.to_dict()["results"])

    def to_dict(self) -> dict[str, Any]:
        """The document ``kdstats/evaluate-da/1``."""
        return {
            "schema": SCHEMA,
            "definition": self.setting.definition(),
            "teacher": {
                "name": self.teacher.name,
                "arch": self.teacher.arch,
                "arch_inferred": self.teacher.inferred,
                "sha256": self.teacher.sha256,
                "test_accuracy": self.accuracy.accuracy,
                "test_loss": self.accuracy.loss,
                **_given(self.teacher),
            },
            "student": None
            if self.student is None
            else {
                "name": self.student.name,
                "arch": self.student.arch,
                "sha256": self.student.sha256,
                **_given(self.student),
            },
            "dataset": {
                "name": self.images.name,
                "split": self.images.split,
                "n": len(self.images),
                "classes": self.images.classes,
                "sha256": self.images.digest,
            },
            "results": [self._row(result) for result in self.results],
            "comparisons": [asdict(c) for c in self.comparisons],
            "lowest": self.lowest,
            "skipped": self.skipped,
            "warnings": [asdict(note) for note in self.warnings],
            "shared": {
                "originals_forwards": self.originals_forwards,
                "batches": len(self.epoch),
                "seed": self.setting.seed,
                "tol": self.setting.tol,
            },
            "provenance": self.provenance,
        }

    def _row(self, result: SchemeResult) -> dict[str, Any]:
        value, parts, covariance = result.t_stddev, result.components, result.covariance
        return {
            "scheme": result.scheme,
            "t_stddev": value.value,
            "se": value.se,
            "low": value.low,
            "high": value.high,
            "confidence": value.confidence,
            "method": value.method,
            "pools": result.pools,
            "inputs": result.inputs,
            "teacher_forwards": result.teacher_forwards,
            "teacher_entropy": result.teacher_entropy,
            "design_effect": parts.design_effect,
            "effective_inputs": parts.effective_inputs,
            "components": {
                "var_original": parts.var_original,
                "var_augmented": parts.var_augmented,
                "cov_views": parts.cov_views,
                "cov_cross": parts.cov_cross,
            },
            "covariance": {
                "source": "teacher" if self.student is None else "student",
                "mean_covariance": covariance.mean_covariance.value,
                "mean_covariance_low": covariance.mean_covariance.low,
                "mean_covariance_high": covariance.mean_covariance.high,
                "risk_variance": covariance.risk_variance.value,
                "design_effect": covariance.design_effect.value,
                "observations": covariance.observations,
                "positions": covariance.positions,
            },
            "rivals": {
                "view_entropy": result.view_entropy,
                "view_accuracy": result.view_accuracy,
                "kl_view_original": result.kl_view_original,
            },
            "null": self.null,
            "stopped": self.stopped[result.scheme],
            "seconds": result.seconds,
            "notes": list(value.notes),
        }


def _given(network: Network) -> dict[str, list[float]]:
    """What a network's images are normalised with."""
    return {"mean": list(network.mean), "std": list(network.std)}
