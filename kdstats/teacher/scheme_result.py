"""Everything that a finished probe says of one scheme."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from kdstats.estimators.components import Components
from kdstats.estimators.covariance import CovarianceEstimate, ce_covariance
from kdstats.estimators.efficient import in_pools
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.tstddev import METHOD
from kdstats.estimators.within_epochs import within_epochs
from kdstats.schemes import record
from kdstats.teacher.probe import Probe
from kdstats.teacher.setting import Setting


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


def scheme_result(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str, value: LogValue
) -> SchemeResult:
    """Everything measured of the scheme ``name``, whose T. stddev is ``value``."""
    tally = probe.tallies[name]
    unit = "pool" if probe.schemes[name].history else "batch"
    method = METHOD
    if moments is not None:
        beside = f" with control variates ({', '.join(value.controls)})" if value.controls else ""
        method = f"{unit}-level variance{beside}; delete-one-{unit} jackknife, t, log scale"
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
