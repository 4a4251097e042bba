"""The result of ``evaluate_da``: tallies turned into estimates, comparisons and the JSON contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdstats.data import LabelledImages
from kdstats.estimators.comparison import Comparison, compare, probability_lowest
from kdstats.estimators.components import Components
from kdstats.estimators.covariance import CovarianceEstimate, ce_covariance
from kdstats.estimators.efficient import LEAST_UNITS, OriginalsMoments, from_batches, in_pools, within_epochs
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.tstddev import METHOD, from_pools, null_value, pool_batches
from kdstats.schemes import record
from kdstats.teacher.accuracy import Accuracy
from kdstats.teacher.network import Network
from kdstats.teacher.notes import Note
from kdstats.teacher.probe import Probe

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
SCHEMA = "kdstats/evaluate-da/1"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a probe measures: everything that belongs to the definition of its values, and the stopping rule."""

    protocol: str
    batch_size: int
    batches_per_pool: int
    epochs: int
    base: str
    draws: str
    seed: int
    confidence: float
    tol: float
    layout: PoolLayout

    @property
    def pool_images(self) -> int:
        """Originals of a full pool."""
        return self.batch_size * self.batches_per_pool

    def definition(self) -> dict[str, Any]:
        """The definition that travels with every value."""
        return {
            "metric": "t_stddev",
            "protocol": self.protocol,
            "batch_size": self.batch_size,
            "batches_per_pool": self.batches_per_pool,
            "epochs": self.epochs,
            "views": "original+augmented",
            "base": self.base,
            "temperature": 1.0,
            "ddof": 1,
            "draws": self.draws,
        }

    def label(self, views: int) -> str:
        """The definition in one line, for ``views`` views a batch; how it was estimated is left out."""
        batch = f"{self.batch_size}x2" if views == self.batch_size else f"({self.batch_size}+{views})"
        return (
            f"t_stddev[pool={self.batches_per_pool}x{batch};epochs={self.epochs};T=1;ddof=1;"
            f"draws={self.draws};base={self.base}]"
        )


def log_value(
    probe: Probe,
    setting: Setting,
    moments: OriginalsMoments | None,
    name: str,
    upto: int | None = None,
    *,
    in_whole_pools: bool = False,
) -> LogValue:
    """T. stddev of one scheme from its first ``upto`` batches (all that it has by default).

    Batches of a scheme with a history depend on each other, so there the units are whole pools; other schemes
    take them where they are to be paired with such a one (``in_whole_pools``).
    """
    tally = probe.tallies[name]
    n = min(len(tally.means), len(tally.means) if upto is None else upto)
    originals, views = np.stack(probe.means[:n]), np.stack(tally.means[:n])
    if moments is None:
        counts = zip(originals, views, probe.sizes, tally.sizes, strict=False)
        rows = [(o * a + v * b, a + b) for o, v, a, b in counts]
        return from_pools(pool_batches(rows, setting.batches_per_pool))
    epoch, layout = np.array(probe.epoch[:n]), setting.layout
    share = setting.batch_size / (setting.batch_size + max(tally.sizes))
    if in_whole_pools or probe.schemes[name].history:
        size = setting.batches_per_pool
        (originals, inner), (views, _) = (in_pools(units, epoch, size) for units in (originals, views))
        epoch, layout = inner, layout.in_units_of(size)
    return from_batches(originals, views, epoch, layout, moments, share)


def half_width(probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str) -> float:
    """The relative half-width of a scheme's interval, now."""
    return log_value(probe, setting, moments, name).half_width(setting.confidence)


def least_batches(setting: Setting) -> int:
    """Batches until a scheme that is measured in pools has enough of them for an interval."""
    per_epoch = setting.layout.images // setting.batch_size
    pools_per_epoch = max(per_epoch // setting.batches_per_pool, 1)
    whole, rest = divmod(LEAST_UNITS + 3, pools_per_epoch)
    return whole * per_epoch + rest * setting.batches_per_pool


@dataclass(frozen=True)
class SchemeResult:
    """Everything measured of one scheme; units as in the JSON contract (probabilities, nats, nats²)."""

    scheme: str
    t_stddev: Estimate
    components: Components
    covariance: CovarianceEstimate
    teacher_entropy: float
    view_entropy: float
    view_accuracy: float
    kl_view_original: float
    inputs: int
    pools: int
    teacher_forwards: int
    seconds: float


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
            results=tuple(_result(probe, setting, moments, name, values[name]) for name in order),
            comparisons=tuple(
                _against_identity(probe, setting, moments, name, values[name])
                for name in order
                if name != "identity"
            ),
            lowest=probability_lowest(_alike(probe, setting, moments, values), rng),
            skipped=dict(skipped),
            convergence={name: _convergence(probe, setting, moments, name) for name in order},
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


def _result(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str, value: LogValue
) -> SchemeResult:
    tally = probe.tallies[name]
    unit = "pool" if probe.schemes[name].history else "batch"
    if moments is None:
        method = METHOD
    elif moments.exact:
        method = f"{unit}-level variance with the originals as control variate; delete-one-{unit} jackknife, t, log scale"
    else:
        method = f"{unit}-level variance; delete-one-{unit} jackknife, t on the log scale"
    n = len(tally.means)
    views = max(tally.sizes)  # with n_pick a full batch need not have as many views as images
    columns = zip(tally.u, probe.epoch, probe.sizes, tally.sizes, strict=False)
    whole = [(u, epoch) for u, epoch, o, v in columns if (o, v) == (setting.batch_size, views)]
    # Within epochs: batches of one epoch are disjoint, which would show as a small negative covariance.
    groups = [epoch for _, epoch in whole]
    lone = {epoch for epoch, count in Counter(groups).items() if count == 1}
    kept = [(u, epoch) for u, epoch in whole if epoch not in lone]
    return SchemeResult(
        scheme=name,
        t_stddev=value.estimate(
            setting.confidence, method, setting.label(views), _notes(probe, setting, name)
        ),
        components=tally.pairs.components(
            _pool_variance(probe, setting, name), setting.pool_images, setting.batches_per_pool * views
        ),
        covariance=ce_covariance(
            np.stack([u for u, _ in kept]), groups=[e for _, e in kept], confidence=setting.confidence
        ),
        teacher_entropy=(sum(probe.entropies[:n]) + tally.entropy) / (sum(probe.sizes[:n]) + tally.views),
        view_entropy=tally.entropy / tally.views,
        view_accuracy=tally.correct / tally.views,
        kl_view_original=tally.kl / tally.views,
        inputs=sum(probe.sizes[:n]) + tally.views,
        pools=n // setting.batches_per_pool,
        teacher_forwards=tally.forwards,
        seconds=tally.seconds,
    )


def _notes(probe: Probe, setting: Setting, name: str) -> tuple[str, ...]:
    notes = []
    views = max(probe.tallies[name].sizes)
    if views != setting.batch_size:
        notes.append(
            f"{views} views to a batch of {setting.batch_size}: not the definition of the other schemes"
        )
    if setting.draws == "batch" and record(name).per_image:
        notes.append(f"{name} was published with one draw per image; here one per batch (--draws sample)")
    if setting.protocol == "wang2022" and (doubt := setting.layout.doubt(setting.batches_per_pool)):
        notes.append(doubt)
    if probe.schemes[name].history:
        notes.append(
            f"the batches of {name} depend on each other: T. stddev is measured in pools of them; the interval of "
            "the covariance takes them as independent"
        )
    return tuple(notes)


def _pool_variance(probe: Probe, setting: Setting, name: str) -> float:
    """Variance of a pool mean averaged over classes, under independent draws of images.

    Without the correction for drawing an epoch without replacement, which T. stddev contains: it belongs to the
    size of the training set, not to the scheme, and would let a pool be worth more inputs than it holds images.
    """
    tally = probe.tallies[name]
    n, views = len(tally.means), max(tally.sizes)
    share = setting.batch_size / (setting.batch_size + views)
    full = (np.array(probe.sizes[:n]) == setting.batch_size) & (np.array(tally.sizes) == views)
    means = (share * np.stack(probe.means[:n]) + (1 - share) * np.stack(tally.means))[full]
    epoch = np.array(probe.epoch[:n])[full]
    if probe.schemes[name].history:
        variance, _ = within_epochs(*in_pools(means, epoch, setting.batches_per_pool))
        return float(variance.mean())
    variance, _ = within_epochs(means, epoch)
    return float(variance.mean()) / setting.batches_per_pool


def _against_identity(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str, value: LogValue
) -> Comparison:
    """The scheme against identity on the same batches, in units of the same size."""
    reference = log_value(
        probe,
        setting,
        moments,
        "identity",
        len(probe.tallies[name].means),
        in_whole_pools=probe.schemes[name].history,
    )
    return compare(name, value, "identity", reference, setting.confidence)


def _alike(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, values: Mapping[str, LogValue]
) -> dict[str, LogValue]:
    """The values in units of one size: pools as soon as one scheme has no smaller ones."""
    if not any(probe.schemes[name].history for name in values):
        return dict(values)
    return {name: log_value(probe, setting, moments, name, in_whole_pools=True) for name in values}


def _convergence(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    total = len(probe.tallies[name].means)
    least = 5 * setting.batches_per_pool if moments is None else LEAST_UNITS
    if moments is not None and probe.schemes[name].history:
        least = least_batches(setting)
    at = np.unique(np.geomspace(min(least, total), total, 24).round().astype(int))
    batches: list[int] = at.tolist()
    values: list[float] = []
    lows: list[float] = []
    highs: list[float] = []
    for upto in batches:
        estimate = log_value(probe, setting, moments, name, upto).estimate(setting.confidence, "", "")
        values.append(estimate.value)
        lows.append(estimate.low)
        highs.append(estimate.high)
    return batches, values, lows, highs
