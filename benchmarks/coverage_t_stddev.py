"""Settings of T. stddev: pools and batches under independent draws, over seeds, at sequential stopping, in epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.coverage_case import LEVEL, Array, Case, Trial
from benchmarks.coverage_mixing import MixingWorld
from benchmarks.coverage_world import World, balanced
from kdstats.estimators.efficient import from_batches
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.sequential import FIRST_LOOK, next_look
from kdstats.estimators.tstddev import from_pools, t_stddev
from kdstats.recorded.summary import log_over_seeds


def judged(found: LogValue, truth: float) -> Trial:
    """The interval of a T. stddev against its truth."""
    half = found.half_width(LEVEL)
    hit = abs(found.centre - math.log(truth)) <= half
    return Trial(hit, math.exp(found.centre) / truth - 1, bool(found.doubt(LEVEL)))


def law(kind: str, classes: int, inputs: int) -> tuple[Callable[[np.random.Generator, int], Array], float]:
    """A sampler of ``[K, C]`` means of ``inputs`` inputs, and the T. stddev of its law.

    ``confident``: one-hot outputs, balanced. ``soft``: smooth outputs of unequal classes. ``rare``: as soft, but one
    unit in twenty is drawn strongly towards one class, as a rare, large draw per batch does.
    """
    if kind == "confident":
        q = np.full(classes, 1 / classes)
        return lambda rng, k: rng.multinomial(inputs, q, size=k) / inputs, math.sqrt(
            (1 - 1 / classes) / classes / inputs
        )
    q = np.linspace(1, 2, classes)
    q /= q.sum()
    second = q * (1 - q) / (inputs + 1) + q**2
    if kind == "soft":
        return lambda rng, k: rng.dirichlet(inputs * q, size=k), float(np.sqrt(second - q**2).mean())
    p, a, u = 0.05, 0.1, 1 / classes

    def rare(rng: np.random.Generator, k: int) -> Array:
        shift = np.where(rng.random(k) < p, a, 0.0)[:, None]
        towards = np.eye(classes)[rng.integers(0, classes, k)]
        return (1 - shift) * rng.dirichlet(inputs * q, size=k) + shift * towards

    mean = (1 - p * a) * q + p * a * u
    square = (1 - p + p * (1 - a) ** 2) * second + 2 * p * a * (1 - a) * q * u + p * a * a * u
    return rare, float(np.sqrt(square - mean**2).mean())


def pools(kind: str, k: int, classes: int) -> Case:
    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sample, truth = law(kind, classes, 320)
        return lambda: judged(from_pools(sample(rng, k)), truth)

    return Case("T. stddev, pools (wang2022)", f"{kind}, K={k}, C={classes}, independent draws", make)


def over_seeds(kind: str, seeds: int, k: int, classes: int) -> Case:
    """The row of ``kdstats estimate`` over the seeds of a scheme."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sample, truth = law(kind, classes, 640)

        def trial() -> Trial:
            found, _ = log_over_seeds([t_stddev(sample(rng, k), confidence=LEVEL) for _ in range(seeds)])
            return Trial(found.low <= truth <= found.high, found.value / truth - 1, bool(found.notes))

        return trial

    setting = f"{kind}, {seeds} seeds of K={k}, C={classes}, independent draws"
    return Case("T. stddev, over seeds (kdstats estimate)", setting, make)


def batches(kind: str, j: int, classes: int) -> Case:
    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sample, truth = law(kind, classes, 64)
        layout = PoolLayout(10**9, 64, 1000, 1.0, 0.0)
        moments = OriginalsMoments(np.full(classes, 0.01), 0.5, False)
        epoch = np.zeros(j, dtype=np.int64)

        def trial() -> Trial:
            units = sample(rng, j)
            return judged(from_batches(units, units, epoch, layout, moments), truth)

        return trial

    return Case("T. stddev, batches (efficient)", f"{kind}, J={j}, C={classes}, independent draws", make)


def stopping(kind: str, tol: float, classes: int) -> Case:
    """Sequential stopping: the interval at the look that stopped; ``extra`` holds the number of looks."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sample, truth = law(kind, classes, 64)
        layout = PoolLayout(10**9, 64, 1000, 1.0, 0.0)
        moments = OriginalsMoments(np.full(classes, 0.01), 0.5, False)

        def trial() -> Trial:
            units, have, looks = FIRST_LOOK, np.empty((0, classes)), 0
            while True:
                have = np.concatenate([have, sample(rng, units - len(have))])
                found = from_batches(have, have, np.zeros(units, dtype=np.int64), layout, moments)
                looks += 1
                following = next_look(units, found.half_width(LEVEL), tol, 7820)
                if following == units:
                    seen = judged(found, truth)
                    return Trial(seen.hit, seen.error, seen.warned, float(looks))
                units = following

        return trial

    def note(looks: Array) -> str:
        return f"{looks.mean():.1f} looks; {np.mean(looks == 1):.0%} stop at the first"

    return Case(
        "T. stddev at stopping", f"{kind}, tol={tol}, C={classes}, first look {FIRST_LOOK}", make, note=note
    )


def published(kind: str, images: int, classes: int) -> Case:
    """The whole published protocol: 10 epochs, short last batches, pools that straddle epochs."""
    k = 10 * -(-images // 64) // 5

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        world = World.of(kind, images, classes)
        truth = world.truth

        def trial() -> Trial:
            o, v, n, _ = world.epochs(rng, 5 * k)
            sums = (0.5 * n[:, None] * (o + v)).reshape(k, 5, classes).sum(1)
            return judged(from_pools(sums / n.reshape(k, 5).sum(1)[:, None]), truth)

        return trial

    return Case("T. stddev, pools (wang2022)", f"{kind}, K={k}, C={classes}, finite N={images:,}", make)


def finite_batches(kind: str, images: int, classes: int, j: int, control: bool) -> Case:
    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        world = World.of(kind, images, classes)
        truth, layout, batch = world.truth, world.layout, world.batch
        per_epoch = images // batch
        drawn = -(-j // per_epoch) * -(-images // batch)
        state = {"moments": None, "age": 0}

        def moments() -> OriginalsMoments:
            # Without the control only the share between images is used, which hardly moves.
            if state["moments"] is None or control or state["age"] % 40 == 0:
                first, second = (world.a + world.base * balanced(rng, images, classes) for _ in range(2))
                few = slice(None) if control else slice(min(images, 2048))
                state["moments"] = OriginalsMoments.of(first[few], second[few][:2048], exact=control)
            state["age"] += 1
            return state["moments"]

        def trial() -> Trial:
            o, v, n, e = world.epochs(rng, drawn)
            full = np.flatnonzero(n == batch)[:j]
            return judged(from_batches(o[full], v[full], e[full], layout, moments()), truth)

        return trial

    how = "control" if control else "no control"
    return Case(
        "T. stddev, batches (efficient)", f"{kind}, J={j}, C={classes}, finite N={images:,}, {how}", make
    )


def mixing(classes: int, soft: float, j: int) -> Case:
    """Views of two images under one λ a batch, with every control variate that a probe has for them."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        world = MixingWorld.of(12_800, classes, soft)
        truth, layout = world.truth(100_000), world.layout()
        moments = OriginalsMoments(np.full(classes, 0.01), 0.5, False)

        def trial() -> Trial:
            batches = world.probe(rng, j)
            known = batches.known(rng, 30 * j)
            found = from_batches(batches.o, batches.v, batches.epoch, layout, moments, known=known)
            plain = from_batches(batches.o, batches.v, batches.epoch, layout, moments)
            seen = judged(found, truth)
            return Trial(seen.hit, seen.error, seen.warned, (plain.relative_se / found.relative_se) ** 2)

        return trial

    return Case(
        "T. stddev, batches with all control variates",
        f"two images a view, λ softens by {soft}, J={j}, C={classes}",
        make,
        note=lambda extra: f"variance {np.median(extra):.1f} times smaller than without",
    )


def cases() -> Iterator[Case]:
    """Every setting, the quick ones first."""
    for kind in ("confident", "soft", "rare"):
        for tol, classes in ((0.07, 10), (0.02, 10), (0.02, 100), (0.01, 200)):
            yield stopping(kind, tol, classes)
    for kind in ("confident", "soft", "rare"):
        for classes in (10, 100, 200):
            for j in (40, 100, 400):
                yield batches(kind, j, classes)
            for k in (10, 20, 50, 100, 400):
                yield pools(kind, k, classes)
    for classes, soft, j in ((10, 0.5, 80), (10, 0.1, 80), (10, 0.5, 400), (100, 0.5, 80), (100, 0.1, 80)):
        yield mixing(classes, soft, j)
    for kind in ("confident", "soft"):
        for seeds in (3, 5, 10):
            for k, classes in ((10, 10), (10, 100), (50, 100)):
                yield over_seeds(kind, seeds, k, classes)
    for kind in ("identity", "soft", "loose"):
        for images in (640, 1437, 3200):
            yield published(kind, images, 10)
        for control in (False, True):
            yield finite_batches(kind, 1437, 10, 80, control)
            yield finite_batches(kind, 3200, 100, 80, control)
    yield published("soft", 12_800, 20)
    for kind in ("confident", "soft", "rare"):
        for classes in (10, 100, 200):
            yield pools(kind, 1564, classes)
    yield published("soft", 50_000, 10)
