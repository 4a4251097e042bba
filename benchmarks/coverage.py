"""Achieved coverage and bias of kdstats' intervals, and power reached by its plans, against planted truth.

    python benchmarks/coverage.py --out benchmarks/results

One row a setting, each from its own seed and appended to coverage.csv when it is done, so the same command
continues after a stop; a row with other replications is counted again. coverage.md is written at the end.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdstats.association.meta import meta_analysis
from kdstats.association.noncentral import t_critical
from kdstats.association.pilot import Spread
from kdstats.association.power_correlation import correlation_power_of
from kdstats.association.power_gap import gap_power, power_of, seeds_for
from kdstats.estimators.efficient import OriginalsMoments, from_batches
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.log_value import LogValue
from kdstats.estimators.sequential import FIRST_LOOK, next_look
from kdstats.estimators.tstddev import from_pools, t_stddev
from kdstats.recorded.summary import log_over_seeds
from kdstats.tables import write

Array = NDArray[np.float64]
LEVEL = 0.95
COLUMNS = (
    "group",
    "setting",
    "replications",
    "nominal",
    "achieved",
    "achieved_se",
    "bias",
    "warned",
    "achieved_unwarned",
    "note",
)


@dataclass(frozen=True)
class Trial:
    """One replication: whether the truth was covered, the relative error of the value, whether a note warned."""

    hit: bool
    error: float = math.nan
    warned: bool = False
    extra: float = math.nan


@dataclass(frozen=True)
class Case:
    """A setting that can be repeated."""

    group: str
    setting: str
    make: Callable[[np.random.Generator], Callable[[], Trial]]
    nominal: float = LEVEL
    note: Callable[[Array], str] = lambda extra: ""


def judged(found: LogValue, truth: float) -> Trial:
    """The interval of a T. stddev against its truth."""
    half = found.half_width(LEVEL)
    hit = abs(found.centre - math.log(truth)) <= half
    return Trial(hit, math.exp(found.centre) / truth - 1, bool(found.doubt(LEVEL)))


# ---- Laws of pools and batches under independent draws -----------------------------------------------------------


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


# ---- A finite training set drawn in epochs without replacement ---------------------------------------------------


@dataclass(frozen=True)
class World:
    """N images with outputs ``a`` and views ``b``; noise per image (standard augmentation) and per batch (scheme)."""

    a: Array
    b: Array
    base: float = 0.03
    shared: float = 0.02
    batch: int = 64

    @staticmethod
    def of(kind: str, images: int, classes: int) -> World:
        rng = np.random.default_rng(5)
        z = rng.normal(size=(images, classes))
        z[np.arange(images), rng.integers(0, classes, images)] += 5
        if kind == "identity":
            return World(softmax(z), softmax(z), shared=0.0)
        own = 1.5 * rng.normal(size=z.shape) if kind == "loose" else 0.0
        return World(softmax(z), softmax((0.6 if kind == "loose" else 0.4) * z + own))

    @property
    def layout(self) -> PoolLayout:
        return PoolLayout.of(len(self.a), self.batch, 5, 10)

    @property
    def truth(self) -> float:
        """The root of the protocol's expected variance, from the layout's identity and the true moments."""
        images, classes = self.a.shape
        between = (0.5 * (self.a + self.b)).var(0, ddof=1)
        within = self.base**2 * (1 - 1 / classes) * (1.0 if self.shared == 0 else 0.25)
        unit = (between + within) / self.batch + self.shared**2 * (1 - 1 / classes) / 4
        return float(np.sqrt(self.layout.per_batch * unit - self.layout.finite * between / images).mean())

    def epochs(self, rng: np.random.Generator, count: int) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        """The first ``count`` batches of consecutive epochs: means of originals and views, sizes, epochs."""
        images, classes = self.a.shape
        starts = np.arange(0, images, self.batch)
        sizes = np.diff([*starts, images])[:, None].astype(float)
        both = np.hstack([self.a, self.b])
        means, noises, own = [], [], []
        epochs = -(-count // len(starts))
        for _ in range(epochs):
            means.append(np.add.reduceat(both[rng.permutation(images)], starts, axis=0) / sizes)
            noises.append(self.base * balanced(rng, len(starts), classes) / np.sqrt(sizes))
            own.append(noises[-1] if self.shared == 0 else self.shared * balanced(rng, len(starts), classes))
        o, v = np.split(np.concatenate(means), 2, axis=1)
        epoch = np.repeat(np.arange(epochs), len(starts))
        n = np.tile(sizes[:, 0], epochs)
        return (
            (o + np.concatenate(noises))[:count],
            (v + np.concatenate(own))[:count],
            n[:count],
            epoch[:count],
        )


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def balanced(rng: np.random.Generator, *shape: int) -> Array:
    """Normal noise whose rows sum to zero, so that probabilities keep summing to one."""
    x = rng.normal(size=shape)
    return np.asarray(x - x.mean(-1, keepdims=True))


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


# ---- Plans ------------------------------------------------------------------------------------------------------


def planned_seeds(seeds: int, schemes: int, gap: float, comparisons: int) -> Case:
    """Whether the interval of seeds needed, from a pilot of ``seeds × schemes`` runs, holds the true number."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        sd = math.sqrt(2.0)  # residual sd 1
        alpha = 0.05 / comparisons
        truth = seeds_for(gap * sd, sd, target=0.8, alpha=alpha, pooled=schemes)
        df = (seeds - 1) * (schemes - 1)

        def trial() -> Trial:
            seen = sd * math.sqrt(rng.chisquare(df) / df)
            spread = Spread(seen, df, True, seen, 0.0, "pilot")
            plan = gap_power(spread, gap=gap * sd, comparisons=comparisons, pooled=schemes)
            reached = power_of(gap * sd, plan.seeds, sd, alpha=alpha, pooled=schemes)
            return Trial(plan.low <= truth <= plan.high, plan.seeds / truth - 1, extra=reached)

        return trial

    def note(reached: Array) -> str:
        low, middle = np.quantile(reached, [0.1, 0.5])
        return f"true power of the plan: median {middle:.2f}, lowest tenth below {low:.2f}"

    setting = f"pilot {seeds} seeds x {schemes} schemes, gap {gap} sd, {comparisons} comparisons"
    return Case("power: seeds needed (interval)", setting, make, note=note)


def reached_power(seeds: int, schemes: int, shift: float, paired: bool) -> Case:
    """Rejections of the t test on simulated runs against the power that was computed."""
    sd = math.sqrt(2.0)
    gap = shift * sd / math.sqrt(seeds)

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        df = (seeds - 1) * (schemes - 1) if paired else (seeds - 1) * schemes
        critical = t_critical(0.05, df)

        def trial() -> Trial:
            y = rng.normal(size=(schemes, seeds)) + (2 * rng.normal(size=seeds) if paired else 0)
            y[0] += gap
            left = y - y.mean(1, keepdims=True) - ((y.mean(0) - y.mean()) if paired else 0)
            t = (y[0].mean() - y[1].mean()) / math.sqrt((left**2).sum() / df * 2 / seeds)
            return Trial(abs(t) > critical)

        return trial

    setting = f"{'paired' if paired else 'unpaired'}, {seeds} seeds, residual pooled over {schemes} schemes"
    nominal = power_of(gap, seeds, sd, alpha=0.05, pooled=schemes, paired=paired)
    return Case("power: rejections of a gap", setting, make, nominal)


def reached_correlation(r: float, schemes: int, pairs: int, tau: float) -> Case:
    """Rejections of scipy's test (one pair) or of ``meta_analysis`` (several) on bivariate normal points."""

    def make(rng: np.random.Generator) -> Callable[[], Trial]:
        def trial() -> Trial:
            rho = np.tanh(math.atanh(r) + tau * rng.normal(size=(pairs, 1)))
            x = rng.normal(size=(pairs, schemes))
            y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
            x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
            seen = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
            if pairs == 1:
                t = seen[0] * math.sqrt((schemes - 2) / (1 - seen[0] ** 2))
                return Trial(abs(t) > t_critical(0.05, schemes - 2))
            return Trial(meta_analysis(seen, schemes).p_value < 0.05)

        return trial

    nominal = correlation_power_of(r, schemes, pairs, tau=tau)
    setting = f"r={r}, {schemes} schemes, {pairs} pairs, tau={tau}"
    return Case("power: rejections of no correlation", setting, make, nominal)


def cases() -> Iterator[Case]:
    """Every setting, the quick ones first."""
    for seeds, schemes in ((3, 2), (3, 9), (5, 2), (5, 9), (10, 2)):
        yield planned_seeds(seeds, schemes, 1.0, 1)
        yield planned_seeds(seeds, schemes, 0.5, 8)
    for seeds in (3, 5, 10):
        for schemes in (2, 9):
            for paired in (True, False):
                yield reached_power(seeds, schemes, 3.0, paired)
    for r, schemes, pairs, tau in (
        (0.6, 9, 1, 0.0),
        (0.9, 9, 1, 0.0),
        (0.5, 20, 1, 0.0),
        (0.6, 9, 3, 0.0),
        (0.6, 9, 10, 0.6),
        (0.9, 9, 3, 0.6),
        (0.5, 5, 10, 0.3),
    ):
        yield reached_correlation(r, schemes, pairs, tau)
    for kind in ("confident", "soft", "rare"):
        for tol, classes in ((0.07, 10), (0.02, 10), (0.02, 100), (0.01, 200)):
            yield stopping(kind, tol, classes)
    for kind in ("confident", "soft", "rare"):
        for classes in (10, 100, 200):
            for j in (40, 100, 400):
                yield batches(kind, j, classes)
            for k in (10, 20, 50, 100, 400):
                yield pools(kind, k, classes)
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


def count(case: Case, replications: int) -> dict[str, str]:
    """One row of the table."""
    rng = np.random.default_rng([20, zlib.crc32(f"{case.group}/{case.setting}".encode())])
    trial = case.make(rng)
    found = [trial() for _ in range(replications)]
    hits = np.array([t.hit for t in found])
    warned = np.array([t.warned for t in found])
    share = float(hits.mean())
    bias = float(np.mean([t.error for t in found]))
    extra = np.array([t.extra for t in found])
    row: Mapping[str, object] = {
        "group": case.group,
        "setting": case.setting,
        "replications": replications,
        "nominal": case.nominal,
        "achieved": share,
        "achieved_se": math.sqrt(share * (1 - share) / replications),
        "bias": "" if math.isnan(bias) else bias,
        "warned": float(warned.mean()) if case.group.startswith("T.") else "",
        "achieved_unwarned": float(hits[~warned].mean()) if 0 < warned.sum() <= 0.9 * replications else "",
        "note": case.note(extra),
    }
    return {k: str(v) for k, v in row.items()}


def markdown(rows: list[dict[str, str]]) -> str:
    """The table for reading, one a group."""
    out = [
        "Written by `python benchmarks/coverage.py`. `achieved`: share of replications whose 95 % interval holds the",
        "truth (for power: share of rejections, against the computed power as `nominal`); two standard errors of it",
        "are at most ±0.022 at 2,000 replications. `bias`: mean relative error. `warned`: share of results that",
        "carry the note that the interval may be too short; `unwarned`: coverage of the others.\n",
    ]
    for group in dict.fromkeys(row["group"] for row in rows):
        own = [
            {
                "setting": row["setting"],
                "nominal": f"{float(row['nominal']):.3f}",
                "achieved": f"{float(row['achieved']):.3f}",
                "bias": f"{float(row['bias']):+.2%}".replace("-", "−") if row["bias"] else None,
                "warned": f"{float(row['warned']):.0%}" if row["warned"] else None,
                "unwarned": f"{float(row['achieved_unwarned']):.3f}" if row["achieved_unwarned"] else None,
                "note": row["note"] or None,
                "replications": f"{int(row['replications']):,}",
            }
            for row in rows
            if row["group"] == group
        ]
        columns = [c for c in own[0] if any(row[c] is not None for row in own)]
        out += [f"## {group}\n", write("md", own, columns)]
    return "\n".join(out)


def main(argv: list[str] | None = None) -> int:
    """Counts what coverage.csv does not hold yet, then writes coverage.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--only", default="", help="settings whose group or name holds this text")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "coverage.csv"
    done: dict[tuple[str, str], dict[str, str]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            done = {(row["group"], row["setting"]): row for row in csv.DictReader(file)}
    every = list(cases())
    for case in every:
        key = (case.group, case.setting)
        if args.only not in f"{case.group} {case.setting}":
            continue
        if key in done and int(done[key]["replications"]) == args.replications:
            continue
        began = time.perf_counter()
        done[key] = count(case, args.replications)
        sys.stderr.write(
            f"{case.group}; {case.setting}: {done[key]['achieved']} ({time.perf_counter() - began:.0f} s)\n"
        )
        known = [done[c.group, c.setting] for c in every if (c.group, c.setting) in done]
        partial = path.with_suffix(".csv.part")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(known)
        partial.replace(path)
    rows = [done[c.group, c.setting] for c in every if (c.group, c.setting) in done]
    (args.out / "coverage.md").write_text(markdown(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
