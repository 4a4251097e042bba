"""T. stddev from the tallies of a probe: of one scheme, of several in like units, and along the way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kdstats.estimators.comparison import Comparison, compare
from kdstats.estimators.controls import Known, Pairs
from kdstats.estimators.efficient import LEAST_UNITS, from_batches, in_pools
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.tstddev import from_pools, pool_batches
from kdstats.teacher.probe import Probe
from kdstats.teacher.setting import Setting


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
        return from_batches(originals, views, inner, layout.in_units_of(size), moments, share)
    return from_batches(originals, views, epoch, layout, moments, share, _known(probe, name, n))


def _known(probe: Probe, name: str, n: int) -> Known:
    """What is known of the first ``n`` batches beyond their means."""
    tally = probe.tallies[name]
    sizes = np.array(probe.sizes[:n])[:, None]
    return Known(
        originals=Pairs(np.stack(probe.squares[:n]), np.stack(probe.means[:n]) / sizes),
        views=Pairs(np.stack(tally.products[:n]), np.stack(tally.singles[:n])) if tally.products else None,
        drawn=None if tally.law is None else tally.law.drawn(tally.shares[:n]),
    )


def half_width(probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str) -> float:
    """The relative half-width of a scheme's interval, now."""
    return log_value(probe, setting, moments, name).half_width(setting.confidence)


def least_batches(setting: Setting) -> int:
    """Batches until a scheme that is measured in pools has enough of them for an interval."""
    per_epoch = setting.layout.images // setting.batch_size
    pools_per_epoch = max(per_epoch // setting.batches_per_pool, 1)
    whole, rest = divmod(LEAST_UNITS + 3, pools_per_epoch)
    return whole * per_epoch + rest * setting.batches_per_pool


def against_identity(
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


def in_like_units(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, values: Mapping[str, LogValue]
) -> dict[str, LogValue]:
    """The values in units of one size: pools as soon as one scheme has no smaller ones."""
    if not any(probe.schemes[name].history for name in values):
        return dict(values)
    return {name: log_value(probe, setting, moments, name, in_whole_pools=True) for name in values}


def convergence(
    probe: Probe, setting: Setting, moments: OriginalsMoments | None, name: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """``(batches, values, lows, highs)`` of a scheme along the probe, at up to 24 places."""
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
