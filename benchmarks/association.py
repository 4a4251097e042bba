"""Bootstrap of three coefficients against ``scipy.stats.bootstrap``, and the cold start of ``kdstats correlate``.

    python benchmarks/association.py --out benchmarks/results

10,000 paired BCa resamples of Pearson, Spearman and Kendall on the ten published panels (n = 9). The other side is
scipy's own bootstrap of the same three coefficients, twice: given scipy's functions, as its documentation shows,
and given statistics vectorised by hand. Sides alternate panel by panel, and a panel's ratio is taken before the
median over panels and rounds; seconds are the median panel times ten. Ends of both are compared within Monte Carlo
error. The cold start is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import kdstats
from kdstats.association.bootstrap import bca, draws
from kdstats.association.coefficients import METHODS
from kdstats.provenance import provenance
from kdstats.tables import write

TARGET, COLD = 20.0, 3.0
Statistic = Callable[..., Any]


def ranks(a: np.ndarray) -> np.ndarray:
    return stats.rankdata(a, axis=-1)


def pearson(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        out: np.ndarray = (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return out


def spearman(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    return pearson(ranks(a), ranks(b))


def kendall(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    i, j = np.triu_indices(a.shape[-1], 1)
    p, q = np.sign(a[..., i] - a[..., j]), np.sign(b[..., i] - b[..., j])
    with np.errstate(divide="ignore", invalid="ignore"):
        out: np.ndarray = (p * q).sum(axis=-1) / np.sqrt(np.abs(p).sum(axis=-1) * np.abs(q).sum(axis=-1))
    return out


BY_HAND: dict[str, Statistic] = {"pearson": pearson, "spearman": spearman, "kendall": kendall}
SCIPYS: dict[str, Statistic] = {
    "pearson": lambda a, b: stats.pearsonr(a, b)[0],
    "spearman": lambda a, b: stats.spearmanr(a, b)[0],
    "kendall": lambda a, b: stats.kendalltau(a, b)[0],
}


def theirs(
    x: np.ndarray, y: np.ndarray, statistic: Statistic, vectorized: bool, resamples: int
) -> tuple[float, float]:
    found = stats.bootstrap(
        (x, y),
        statistic,
        paired=True,
        vectorized=vectorized,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(found.low), float(found.high)


def within_noise(
    x: np.ndarray, y: np.ndarray, method: str, ours: float, other: float, resamples: int
) -> bool:
    """Whether two ends lie within four Monte Carlo errors of each other, or an end is not defined."""
    if not np.isfinite(other):
        return True
    sample = draws(x, y, resamples=resamples, rng=np.random.default_rng(3))[:, METHODS.index(method)]
    fine = np.sort(sample[~np.isnan(sample)])
    level = (
        np.searchsorted(fine, [min(ours, other) - 1e-9, max(ours, other) + 1e-9], side="right") / fine.size
    )
    middle = float(np.clip(level.mean(), 1e-3, 1 - 1e-3))
    # BCa levels carry the error of the bias correction too; ties of a rank coefficient widen a level to a step.
    step = max(np.count_nonzero(np.abs(fine - v) < 1e-9) for v in (ours, other)) / fine.size
    return bool(level[1] - level[0] <= 8 * (middle * (1 - middle) / fine.size) ** 0.5 + 2 * step + 0.01)


def panels() -> list[tuple[np.ndarray, np.ndarray]]:
    points = kdstats.load_published("wang2022").points
    return [
        (p["t_stddev"].to_numpy(), p["test_loss"].to_numpy()) for _, p in points.groupby("panel", sort=False)
    ]


def bootstrap_rows(rounds: int, slow_rounds: int, resamples: int) -> list[dict[str, Any]]:
    data = panels()
    rows = []
    for name, functions, vectorized, times, target in (
        ("scipy's functions", SCIPYS, False, slow_rounds, TARGET),
        ("vectorised by hand", BY_HAND, True, rounds, None),
    ):
        ours, other, disagree, undefined = [], [], 0, 0
        for r, (x, y) in product(range(times), data):
            start = time.perf_counter()
            intervals = bca(x, y, resamples=resamples, rng=np.random.default_rng(r))
            ours.append(time.perf_counter() - start)
            spent = 0.0
            for method in METHODS:
                start = time.perf_counter()
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # constant resamples, which scipy leaves undefined
                    low, high = theirs(x, y, functions[method], vectorized, resamples)
                spent += time.perf_counter() - start
                undefined += not (np.isfinite(low) and np.isfinite(high))
                for a, b in ((intervals[method].low, low), (intervals[method].high, high)):
                    disagree += not within_noise(x, y, method, a, b, resamples)
            other.append(spent)
        low, middle, high = quartiles([b / a for a, b in zip(ours, other, strict=True)])
        n = len(ours)
        rows.append(
            {
                "what": f"{resamples:,} BCa resamples x 3 coefficients x {len(data)} panels",
                "against": f"scipy.stats.bootstrap, {name}",
                "ours_s": statistics.median(ours) * len(data),
                "theirs_s": statistics.median(other) * len(data),
                "ratio": middle,
                "spread": f"{low:.1f} to {high:.1f}",
                "n": n,
                "target": "" if target is None else f">= {target:g}",
                "met": "" if target is None else middle >= target,
                "remark": f"{disagree} of {6 * n} ends differ by more than noise; "
                f"scipy gives no interval in {undefined} of {3 * n}",
            }
        )
    return rows


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def cold_row(times: int) -> dict[str, Any]:
    code = (
        "import sys; from kdstats.cli.main import main\n"
        "sys.argv = ['kdstats', 'correlate', '--published', 'wang2022']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    low, middle, high = quartiles(seconds)
    return {
        "what": "kdstats correlate --published wang2022, fresh process",
        "against": "",
        "ours_s": middle,
        "theirs_s": None,
        "ratio": None,
        "spread": f"{low:.2f} to {high:.2f} s",
        "n": times,
        "target": f"<= {COLD:g} s",
        "met": middle <= COLD,
        "remark": "torch was not imported",
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=1, help="rounds against scipy's own functions")
    parser.add_argument("--resamples", type=int, default=10_000)
    args = parser.parse_args(argv)
    rows = [cold_row(args.rounds), *bootstrap_rows(args.rounds, args.slow_rounds, args.resamples)]
    formats = dict.fromkeys(("ours_s", "theirs_s", "ratio"), "{:.3g}".format)
    headers = {"ours_s": "kdstats s", "theirs_s": "scipy s", "spread": "quartiles"}
    table = write("md", rows, list(rows[0]), headers, formats)
    print(table)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "association.md").write_text(table + "\n", encoding="utf-8")
        document = {"rows": rows, "provenance": provenance()}
        (args.out / "association.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
