"""Covariance of K = 100 observations of N = 6,400 positions: closed form against ``np.cov`` and the double loop.

    python benchmarks/covariance.py --out benchmarks/results

The other side is the released way of ``check_ce_var_v3``: columns over their maximum, the N x N matrix of ``np.cov``, and
a Python loop over its 20.5 million entries below the diagonal. The loop is timed on ``--loop-share`` of its rows and
scaled up (every entry costs the same); that is said in the result. Ours is timed twice: ``wang2022_v3`` alone, which
gives the same number, and ``ce_covariance``, which gives all quantities with their intervals. Peak memory is what
numpy allocates (tracemalloc); of ours it must grow with N and not with its square.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdstats.estimators.comoments import Comoments
from kdstats.estimators.covariance import ce_covariance, wang2022_v3
from kdstats.provenance import provenance
from kdstats.tables import write

TARGET = 500.0


def matrix(k: int, n: int) -> np.ndarray:
    """Positive, skewed losses that share a little."""
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, size=(k, n)) + 0.1 * rng.gamma(1.0, size=(k, 1))


def released(u: np.ndarray, share: float) -> tuple[float, float, float]:
    """Seconds before the loop, seconds of the whole loop (scaled), and the number."""
    began = time.perf_counter()
    cov = np.cov(u / u.max(axis=0), rowvar=False)
    before = time.perf_counter() - began
    n = u.shape[1]
    # Rows spread over the triangle, so that their share of entries is known exactly.
    rows = range(0, n, max(1, round(1 / share)))
    entries = sum(rows)
    began = time.perf_counter()
    total = 0.0
    for i in rows:
        for j in range(i):
            total += cov[i, j]
    looped = (time.perf_counter() - began) * (n * (n - 1) / 2) / entries
    exact = (cov.sum() - np.trace(cov)) / 2 / n**2
    return before, looped, float(exact)


def seconds(step: Callable[[], Any], rounds: int) -> float:
    """Median of several calls."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        step()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def peak(step: Callable[[], Any]) -> float:
    """Peak MiB allocated by a call."""
    tracemalloc.start()
    step()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size / 2**20


def stream(u: np.ndarray) -> Any:
    """The streaming state, fed portions of 32 observations."""
    state = Comoments()
    for start in range(0, len(u), 32):
        state.update(u[start : start + 32])
    return state.compute()


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table, and with --out writes it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--loop-share", type=float, default=0.02, help="share of the double loop that is timed"
    )
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("-n", type=int, default=6_400)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    u = matrix(args.k, args.n)
    sides = {
        "wang2022_v3": lambda: wang2022_v3(u),
        "ce_covariance, all quantities and intervals": lambda: ce_covariance(u),
        "Comoments, in portions of 32": lambda: stream(u),
    }
    pairs: dict[str, list[float]] = {name: [] for name in sides}
    parts = []
    for _ in range(args.rounds):
        before, looped, number = released(u, args.loop_share)
        parts.append((before, looped))
        for name, step in sides.items():
            pairs[name].append((before + looped) / seconds(step, 3))
    gap = abs(wang2022_v3(u) - number)
    wide = matrix(args.k, 2 * args.n)
    rows = []
    for name, step in sides.items():
        quarter = statistics.quantiles(pairs[name], n=4)
        doubled = {
            "wang2022_v3": lambda: wang2022_v3(wide),
            "ce_covariance, all quantities and intervals": lambda: ce_covariance(wide),
            "Comoments, in portions of 32": lambda: stream(wide),
        }[name]
        a, b = peak(step), peak(doubled)
        rows.append(
            {
                "ours": name,
                "ms": round(1e3 * seconds(step, 5), 2),
                "ratio": round(statistics.median(pairs[name])),
                "quartiles": f"{quarter[0]:.0f} to {quarter[2]:.0f}",
                "target": TARGET,
                "met": statistics.median(pairs[name]) >= TARGET,
                "peak MiB": round(a, 1),
                "peak MiB at 2 N": round(b, 1),
                "input MiB": round(u.nbytes / 2**20, 1),
            }
        )
    before, looped = (statistics.median(side) for side in zip(*parts, strict=True))
    said = (
        f"N = {args.n:,}, K = {args.k}; np.cov {before:.2f} s and double loop {looped:.1f} s, the loop timed on "
        f"{args.loop_share:.0%} of its rows and scaled; its matrix alone takes {8 * args.n**2 / 2**20:.0f} MiB; the two "
        f"values of v3 differ by {gap:.1e}"
    )
    sys.stdout.write(said + "\n" + write("table", rows, list(rows[0])))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        document = {"rounds": args.rounds, "said": said, **provenance("cpu"), "rows": rows}
        (args.out / "covariance.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (args.out / "covariance.md").write_text(
            f"{said}\n\n" + write("md", rows, list(rows[0])), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
