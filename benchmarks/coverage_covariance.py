"""Simulated coverage of the 95 % intervals of the covariance quantities and variance components.

    python -m benchmarks.coverage_covariance --out benchmarks/results

Results are written after every setting, beside those of settings that were not asked for, so that it can be stopped,
continued with ``--only`` and ``--tail``, and run in several processes on separate folders.
Every replication draws data with a planted truth and asks whether the interval holds it. ``normal`` has normal
effects; ``heavy`` has losses as distillation gives them: positive, skewed (gamma), excess kurtosis 3 to 12. One
seed gives one table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdstats.errors import CheckError
from kdstats.estimators.comoments import Comoments, within
from kdstats.estimators.covariance import ce_covariance
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.identity import SHARED, components_of
from kdstats.estimators.published import MeanOfBatches
from kdstats.provenance import provenance
from kdstats.tables import write

Draw = Callable[[np.random.Generator], dict[str, tuple[Estimate, float]]]
QUANTITIES = ("mean_variance", "mean_covariance", "mean_correlation", "risk_variance", "design_effect")
PLANTED = {
    "image": 1.0,
    "view": 0.3,
    "image_epoch": 0.2,
    "batch": 0.1,
    "batch_view": 0.15,
    "epoch": 0.5,
    "residual": 0.6,
}


def effects(rng: np.random.Generator, tail: str, variance: float, *shape: int) -> np.ndarray:
    """Independent effects of this variance, mean 0."""
    if tail == "normal":
        return rng.normal(scale=variance**0.5, size=shape)
    return (rng.gamma(0.5, size=shape) - 0.5) * (variance / 0.5) ** 0.5  # excess kurtosis 12


def matrix(rng: np.random.Generator, tail: str, k: int, n: int) -> np.ndarray:
    """``[K, N]`` with variance 3 and covariance 1."""
    if tail == "normal":
        return rng.normal(size=(k, 1)) + rng.normal(scale=2**0.5, size=(k, n))
    return rng.gamma(1.0, size=(k, 1)) + rng.gamma(2.0, size=(k, n))


def truths(n: int) -> dict[str, float]:
    risk = 3 / n + (n - 1) / n
    return {
        "mean_variance": 3.0,
        "mean_covariance": 1.0,
        "mean_correlation": 1 / 3,
        "risk_variance": risk,
        "design_effect": risk / (3 / n),
    }


def covariance(how: str, tail: str, k: int, n: int) -> Draw:
    """``ce_covariance`` on the rows, or pooled ``Comoments`` of four epochs."""

    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        u = matrix(rng, tail, k, n)
        if how == "ce_covariance":
            found = ce_covariance(u)
        else:
            states = [Comoments() for _ in range(4)]
            for state, rows in zip(states, np.array_split(u, 4), strict=True):
                state.update(rows)
            found = within(states)
        pairs = {name: (getattr(found, name), true) for name, true in truths(n).items()}
        return {name: pair for name, pair in pairs.items() if pair[0] is not None}

    return draw


def cov1(tail: str, k: int, size: int = 8, classes: int = 5) -> Draw:
    """Mean over batches of v2's cov1; the truth is Σ_c Var(p̄_c)/(C − 1) for a balanced Dirichlet teacher."""
    concentration = 1.0 if tail == "normal" else 0.1
    a = concentration * classes
    true = classes * (1 / classes) * (1 - 1 / classes) / (a + 1) / size / (classes - 1)

    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        means = rng.dirichlet(np.full(classes, concentration), size=(k, size)).mean(axis=1)
        state = MeanOfBatches()
        state.update(means.var(axis=1, ddof=1))
        return {"cov1": (state.compute(), true)}

    return draw


def layout(rng: np.random.Generator, tail: str, n: int, epochs: int, views: int, size: int) -> Crossed:
    """Images in random batches of ``size`` in every epoch, with the planted components."""
    batch = np.stack([rng.permutation(np.arange(n) // size) for _ in range(epochs)], axis=1)
    shapes = {
        "image": (n, 1, 1),
        "view": (n, 1, views),
        "image_epoch": (n, epochs, 1),
        "epoch": (1, epochs, 1),
        "residual": (n, epochs, views),
    }
    y = sum(effects(rng, tail, PLANTED[name], *shape) for name, shape in shapes.items())
    shared = effects(rng, tail, PLANTED["batch"], epochs, -(-n // size), 1)
    shared = shared + effects(rng, tail, PLANTED["batch_view"], epochs, -(-n // size), views)
    return Crossed(y + shared[np.arange(epochs)[None, :], batch], batch)


def components(method: str, tail: str, n: int, epochs: int, views: int, size: int) -> Draw:
    """Every component, covariance and correlation of the identity-tied version."""
    joined = {"image": ("image", "image_epoch"), "residual": ("residual", "view")} if epochs == 1 else {}
    if views == 1:
        joined = {
            "image": ("image", "view"),
            "residual": ("residual", "image_epoch"),
            "batch": ("batch", "batch_view"),
        }
    total = sum(PLANTED.values()) - PLANTED["epoch"]

    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        found = components_of(layout(rng, tail, n, epochs, views, size), method=method)
        out = {
            name: (estimate, sum(PLANTED[part] for part in joined.get(name, (name,))))
            for name, estimate in found.components.items()
            if method == "anova" or name != "epoch"
        }
        for kind in found.covariances:
            true = sum(PLANTED[name] for name in SHARED[kind])
            out[f"cov {kind}"] = (found.covariances[kind], true)
            out[f"corr {kind}"] = (found.correlations[kind], true / total)
        return out | {"total": (found.total, total)}

    return draw


def settings() -> Iterator[tuple[str, str, str, Draw]]:
    """``(what, setting, tail, draw)``, the cheap ones first."""
    tails = ("normal", "heavy")
    for k, tail in itertools.product((20, 50, 100, 400, 1564), tails):
        yield "Comoments, 4 epochs", f"K={k}, N=32", tail, covariance("within", tail, k, 32)
        yield "v2 cov1", f"K={k}, 8 inputs, C=5", tail, cov1(tail, k)
        yield "ce_covariance", f"K={k}, N=32", tail, covariance("ce_covariance", tail, k, 32)
    shapes = ((60, 4, 2, 10), (200, 4, 2, 20), (300, 1, 2, 20), (300, 5, 1, 20), (300, 10, 2, 20))
    for (n, epochs, views, size), tail in itertools.product(shapes, tails):
        what = f"{n} images, {epochs} epochs, {views} views, batch {size}"
        yield "components, anova", what, tail, components("anova", tail, n, epochs, views, size)
    for (n, epochs, views, size), tail in itertools.product(shapes[:4], tails):
        what = f"{n} images, {epochs} epochs, {views} views, batch {size}"
        yield "components, reml", what, tail, components("reml", tail, n, epochs, views, size)
    for tail in tails:
        what = "1437 images, 5 epochs, 2 views, batch 64"
        yield "components, anova", what, tail, components("anova", tail, 1437, 5, 2, 64)


def count(name: str, setting: str, tail: str, draw: Draw, reps: int, seed: int) -> list[dict[str, Any]]:
    """One row per quantity: coverage, bias over the truth, and how often there was no interval."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}|{setting}|{tail}".encode())])
    hits: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {}
    true: dict[str, float] = {}
    failed = 0
    for _ in range(reps):
        try:
            found = draw(rng)
        except CheckError:  # REML says so where a component is not determined
            failed += 1
            continue
        for quantity, (estimate, planted) in found.items():
            covered = np.nan if np.isnan(estimate.low) else float(estimate.low <= planted <= estimate.high)
            hits.setdefault(quantity, []).append(covered)
            values.setdefault(quantity, []).append(estimate.value)
            true[quantity] = planted
    return [
        {
            "what": name,
            "setting": setting,
            "tail": tail,
            "quantity": quantity,
            "coverage": round(float(np.nanmean(hits[quantity])), 3),
            "bias": round(float(np.mean(values[quantity]) / true[quantity] - 1), 3),
            "replications": reps,
            "no interval": failed + int(np.isnan(hits[quantity]).sum()),
        }
        for quantity in hits
    ]


def main(argv: list[str] | None = None) -> int:
    """Counts, prints the table, and with --out writes it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only what begins like this")
    parser.add_argument("--tail", choices=("normal", "heavy"), help="only these effects")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FOLDER", help="put their results into --out"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    if args.merge:
        for folder in args.merge:
            document = json.loads((folder / "coverage_covariance.json").read_text(encoding="utf-8"))
            parts = document.pop("rows")
            for key in dict.fromkeys((r["what"], r["setting"], r["tail"]) for r in parts):
                keep(args.out, [r for r in parts if (r["what"], r["setting"], r["tail"]) == key], document)
        return 0
    rows: list[dict[str, Any]] = []
    for name, setting, tail, draw in settings():
        if not name.startswith(args.only) or args.tail not in (None, tail):
            continue
        began = time.perf_counter()
        found = count(name, setting, tail, draw, args.reps, args.seed)
        rows += found
        sys.stderr.write(f"{name}; {setting}; {tail}: {time.perf_counter() - began:.0f} s\n")
        sys.stderr.flush()
        if args.out is not None:
            keep(args.out, found, {"seed": args.seed, **provenance("cpu")})
    sys.stdout.write(write("table", rows, list(rows[0])))
    return 0


def keep(folder: Path, found: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Puts the rows of one setting beside those that are there, in the order of :func:`settings`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "coverage_covariance.json"
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []

    def key(row: dict[str, Any]) -> tuple[str, str, str]:
        return row["what"], row["setting"], row["tail"]

    order = [(name, setting, tail) for name, setting, tail, _ in settings()]
    rows = [row for row in old if key(row) != key(found[0]) and key(row) in order] + found
    rows.sort(key=lambda row: order.index(key(row)))
    file.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    (folder / "coverage_covariance.md").write_text(write("md", rows, list(rows[0])), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
