"""How many batches a probe takes: as published, or until every scheme's interval is narrow enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kdstats.data import Batch
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.sequential import FIRST_LOOK, FIRST_POOLS, next_look, units_for
from kdstats.teacher.log_values import half_width
from kdstats.teacher.probe import Probe
from kdstats.teacher.setting import Setting

# Below this many images the spread of the originals is taken from all of them as a matter of course.
_SMALL = 4096
_SECOND_DRAWS = 2048


@dataclass(frozen=True, slots=True)
class Status:
    """Where a probe stands, for progress displays.

    Attributes:
        done: Batches so far.
        target: Batches planned as of now.
        half_width: Relative half-width of the widest interval at the last look; None before the first.
    """

    done: int
    target: int
    half_width: float | None


Progress = Callable[[Status], None]


def published(probe: Probe, setting: Setting, pools: int | None, progress: Progress | None) -> str:
    """As released: every batch of 10 epochs, short last batches included, pools straddling epochs."""
    per_epoch = -(-len(probe.images) // setting.batch_size)
    whole = setting.epochs * per_epoch // setting.batches_per_pool
    target = setting.batches_per_pool * min(whole, pools or whole)
    _advance(probe, probe.batches(drop_last=False), target, Status(0, target, None), progress)
    return "epochs" if pools is None or pools >= whole else "pools"


def efficient(
    probe: Probe, setting: Setting, pools: int | None, progress: Progress | None
) -> tuple[OriginalsMoments, dict[str, str]]:
    """Every scheme until its own interval is narrow enough, with looks of its own."""
    images = len(probe.images)
    cap = (pools or setting.layout.pools) * setting.batches_per_pool
    moments = probe.spread(min(images, _SMALL), min(images, _SECOND_DRAWS))
    batches = probe.batches(drop_last=True)
    targets = {
        # A half-width from few units is itself too uncertain to stop by.
        name: min(FIRST_POOLS * setting.batches_per_pool if scheme.history else FIRST_LOOK, cap)
        for name, scheme in probe.schemes.items()
    }
    widths: dict[str, float] = {}
    stopped: dict[str, str] = {}
    while targets:
        widest = max((widths[name] for name in targets if name in widths), default=None)
        status = Status(len(probe.means), max(targets.values()), widest)
        _advance(probe, batches, min(targets.values()), status, progress)
        done = len(probe.means)
        due = [name for name, target in targets.items() if target == done]
        _look(probe, setting, moments, due, widths, targets, cap)
        if not moments.exact and _pass_pays(probe, setting, moments, widths, targets, cap):
            moments = probe.spread(images, _SECOND_DRAWS)
            _look(probe, setting, moments, list(targets), widths, targets, cap)
        for name in [name for name, target in targets.items() if target == done]:
            stopped[name] = "tol" if widths[name] <= setting.tol else "pools"
            del targets[name]
            if name != "identity":  # costs nothing and is what every scheme is compared with
                probe.finish(name)
    return moments, stopped


def _look(
    probe: Probe,
    setting: Setting,
    moments: OriginalsMoments,
    names: Sequence[str],
    widths: dict[str, float],
    targets: dict[str, int],
    cap: int,
) -> None:
    """Looks at the intervals of ``names`` and plans their next look; now itself means: enough."""
    for name in names:
        widths[name] = half_width(probe, setting, moments, name)
        targets[name] = next_look(len(probe.means), widths[name], setting.tol, cap)


def _pass_pays(
    probe: Probe,
    setting: Setting,
    moments: OriginalsMoments,
    widths: Mapping[str, float],
    targets: Mapping[str, int],
    cap: int,
) -> bool:
    """Whether a pass over all originals, as a control variate, saves more than it costs."""
    images, done = len(probe.images), len(probe.means)
    # An interval is as wide whatever the known spread is, so that of some originals stands in for that of all.
    known = replace(moments, exact=True, log_se=moments.log_se * math.sqrt(_SMALL / images))
    going = [n for n, target in targets.items() if target > done and n in widths]

    def planned(name: str, knowing: OriginalsMoments) -> int:
        return units_for(done, half_width(probe, setting, knowing, name), setting.tol, cap)

    now = {n: planned(n, moments) for n in going}
    then = {n: planned(n, known) for n in going}
    views = sum((now[n] - then[n]) * probe.tallies[n].forwards / done for n in going)
    originals = (max(now.values(), default=0) - max(then.values(), default=0)) * setting.batch_size
    return views + originals > images + _SECOND_DRAWS


def _advance(
    probe: Probe,
    batches: Iterator[tuple[int, int, Batch]],
    target: int,
    status: Status,
    progress: Progress | None,
) -> None:
    while len(probe.means) < target:
        probe.step(*next(batches))
        if progress is not None:
            progress(replace(status, done=len(probe.means)))
