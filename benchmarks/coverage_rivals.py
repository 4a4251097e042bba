"""Achieved coverage of nominal 95 % intervals behind the analyses that compare predictors, students and choices.

    nice -n 15 python -m benchmarks.coverage_rivals --out benchmarks/results

* difference of |r|: the library's interval, and the percentile bootstrap by itself; points normal, heavy-tailed (t with 3
  degrees of freedom) or skewed (log-normal columns mixed);
* held-out difference: the scheme that is best on the other seeds against a fixed one; the truth is the mean true
  difference of that choice over repetitions with one seed fewer; where it is the fixed one there is nothing to compare;
* concordance W: several students, one common order and noise; the truth follows from the population Spearman correlation.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyses.inference.difference_of_r import _resampled, difference_of_r
from analyses.inference.held_out import Cells
from analyses.inference.student_concordance import interval_of_concordance
from kdstats.tables import write

Floats = NDArray[np.float64]
Row = dict[str, Any]
COLUMNS = ("what", "setting", "interval", "coverage", "mc_error", "median_width", "replications")
ORDER = ("held-out difference", "concordance W", "difference of |r|")
RELATIONS = (
    (0.0, 0.0, 0.0),
    (0.5, 0.5, 0.5),
    (0.9, 0.9, 0.7),
    (0.9, 0.5, 0.5),
    (0.9, 0.0, 0.0),
    (0.97, 0.9, 0.9),
)


def row(what: str, setting: str, interval: str, hits: list[bool], widths: list[float]) -> Row:
    share = float(np.mean(hits))
    return {
        "what": what,
        "setting": setting,
        "interval": interval,
        "coverage": share,
        "mc_error": math.sqrt(share * (1 - share) / len(hits)),
        "median_width": float(np.median(widths)),
        "replications": len(hits),
    }


def points(law: str, n: int, relation: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    """Predictor, rival and outcome, (n, 3), with the correlations asked for in the population."""
    r, s, between = relation
    values, vectors = np.linalg.eigh(np.array([[1, between, r], [between, 1, s], [r, s, 1]]))
    root = vectors * np.sqrt(np.maximum(values, 0))
    raw = rng.standard_normal((n, 3))
    if law == "log-normal":
        raw = (np.exp(raw) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    mixed: Floats = raw @ root.T
    if law == "t(3)":
        mixed = mixed / np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    return mixed


def differences(reps: int) -> Iterator[Row]:
    for law in ("normal", "t(3)", "log-normal"):
        for n in (9, 20):
            for relation in RELATIONS:
                rng = np.random.default_rng([1, n, *map(ord, law), *(int(100 * v) for v in relation)])
                truth = abs(relation[0]) - abs(relation[1])
                found: dict[str, list[tuple[float, float]]] = {"both": [], "bootstrap alone": []}
                for _ in range(reps):
                    x, z, y = points(law, n, relation, rng).T
                    ends = difference_of_r(x, z, y, confidence=0.95, resamples=999, rng=rng)
                    found["both"].append((ends.low, ends.high))
                    x, z, y = (v - v.mean() for v in (x, z, y))
                    counts = rng.multinomial(n, np.full(n, 1 / n), size=999).astype(float)
                    drawn = np.sign(x @ y) * _resampled(x, y, counts) - np.sign(z @ y) * _resampled(
                        z, y, counts
                    )
                    low, high = np.nanquantile(drawn, [0.025, 0.975])
                    found["bootstrap alone"].append((float(low), float(high)))
                setting = (
                    f"{law}, {n} schemes, r {relation[0]:g} and {relation[1]:g} (between {relation[2]:g})"
                )
                for name, ends_ in found.items():
                    hits = [low <= truth <= high for low, high in ends_]
                    yield row("difference of |r|", setting, name, hits, [high - low for low, high in ends_])


def held_out(reps: int) -> Iterator[Row]:
    names, each = tuple("abcdefghi"), 25
    for seeds in (2, 3, 5, 10):
        for spread in (0.0, 0.5, 1.0, 3.0):
            rng = np.random.default_rng([2, seeds, int(10 * spread)])
            hits, widths, same = [], [], 0
            for _ in range(reps // each):
                means = spread * rng.standard_normal(len(names))
                trained = means + rng.standard_normal((20_000, len(names))) / math.sqrt(seeds - 1)
                truth = float(means[trained.argmin(axis=1)].mean() - means[0])
                for _ in range(each):
                    common = 2 * rng.standard_normal((seeds, 1))
                    values = means + rng.standard_normal((seeds, len(names))) + common
                    cells = Cells(names, tuple(range(seeds)), values)
                    _, low, high = cells.difference(cells.lowest_elsewhere(), ("a",) * seeds)
                    if low == high:
                        same += 1
                        continue
                    hits.append(low <= truth <= high)
                    widths.append(high - low)
            setting = f"9 schemes, {seeds} seeds, sd of true values {spread:g} of a run's"
            setting += f" (one choice in {same / reps:.3f})" if same else ""
            yield row(
                "held-out difference",
                setting,
                "larger of two residual variances, folds share seeds",
                hits,
                widths,
            )


def concordances(reps: int) -> Iterator[Row]:
    for n in (5, 9, 20):
        for students in (3, 5):
            for rho in (0.0, 0.5, 0.9):
                rng = np.random.default_rng([3, n, students, int(10 * rho)])
                truth = (1 + (students - 1) * 6 / math.pi * math.asin(rho / 2)) / students
                hits, widths, none = [], [], 0
                for _ in range(reps):
                    common = math.sqrt(rho) * rng.standard_normal((n, 1))
                    losses = common + math.sqrt(1 - rho) * rng.standard_normal((n, students))
                    low, high = interval_of_concordance(losses)
                    if math.isnan(low):
                        none += 1
                        continue
                    hits.append(low <= truth <= high)
                    widths.append(high - low)
                setting = f"{n} schemes, {students} students, correlation {rho:g}"
                setting += f" (none formed in {none / reps:.3f})" if none else ""
                yield row("concordance W", setting, "jackknife over schemes", hits, widths)


def before(path: Path) -> list[Row]:
    """Rows of an earlier run, so that a part can be counted again by itself."""
    if not path.is_file():
        return []
    return [{str(k): v for k, v in found.items()} for found in pd.read_csv(path).to_dict("records")]


def save(out: Path, new: list[Row]) -> None:
    """Table and page, written anew after every part."""
    path, again = out / "coverage_rivals.csv", {(row["what"], row["interval"]) for row in new}
    rows = [row for row in before(path) if (row["what"], row["interval"]) not in again] + new
    rows.sort(key=lambda found: ORDER.index(found["what"]))
    path.write_text(write("csv", rows, COLUMNS), encoding="utf-8")
    parts = [
        "# Achieved coverage: rival predictors, held-out choices, concordance of students\n\nNominal 95 %. "
        "`python -m benchmarks.coverage_rivals --out benchmarks/results`\n"
    ]
    for what in dict.fromkeys(row["what"] for row in rows):
        lines = "\n".join(
            f"| {row['setting']} | {row['interval']} | {row['coverage']:.3f} ± {row['mc_error']:.3f} | "
            f"{row['median_width']:.3g} | {row['replications']:,} |"
            for row in rows
            if row["what"] == what
        )
        head = "| setting | interval | coverage | median width | replications |\n|---|---|---|---|---|"
        parts.append(f"## {what}\n\n{head}\n{lines}\n")
    (out / "coverage_rivals.md").write_text("\n".join(parts), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replications", type=int, default=2_000)
    parser.add_argument("--only", default="", help="functions whose name holds this text")
    args = parser.parse_args(argv)
    for part in (held_out, concordances, differences):
        if args.only not in part.__name__:
            continue
        rows: list[Row] = []
        for found in part(args.replications):
            rows.append(found)
            print(
                f"{found['what']}, {found['setting']}, {found['interval']}: {found['coverage']:.3f}",
                flush=True,
            )
        if args.out:
            save(args.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
