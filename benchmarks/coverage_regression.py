"""Achieved coverage of nominal 95 % intervals of a slope, a mean correlation, a concordance and a regret.

    nice -n 15 python -m benchmarks.coverage_regression --out benchmarks/results

Nine schemes in each of 3, 5 or 10 pairs, planted truth, one seed a cell. Slopes: the truth is the mean slope 1 of the
population of pairs, also where slopes differ between pairs. Meta-analysis: the truth is the coefficient whose Fisher
z is the population's mean z; for a prediction interval, the true coefficient of one further panel. Concordance and
regret: the mean of the procedure itself over all replications (directions learned from the other pairs are at times
wrong, and that belongs to it).

All replications of a cell are computed at once by the formulas written again here for arrays; on the first
replications every interval is compared with that of the library, and a difference ends the run. The mixed model is
the library's own search, one replication at a time, and its checks of MixedLM are made on the first ten.

Cells counted in this start replace those in coverage_regression.csv; the others are kept as they are.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.coverage_cell import N, Row
from benchmarks.coverage_panels import meta_rows, order_rows
from benchmarks.coverage_slopes import SLOPES, crossed_rows, mixed_rows, slope_rows
from kdstats.provenance import provenance
from kdstats.tables import write

PAIRS = (3, 5, 10)
KEY = ("what", "setting", "pairs", "interval")
COLUMNS = (*KEY, "coverage", "mc_error", "median_width", "replications")
ORDER = ("slope", "MixedLM (Powell) accepted", "meta-analysis", "concordance", "regret")
Job = tuple[Callable[..., Iterator[Row]], tuple[Any, ...]]


def jobs(reps: int) -> list[Job]:
    """What counts some cells, and its arguments; the slow ones last."""
    means = ((0.5, 0.5), (0.9, 0.0), (0.9, 0.5), (0.97, 0.5))
    out: list[Job] = []
    for k in PAIRS:
        out += [(slope_rows, (s, k, reps, 100 + 10 * k + i)) for i, s in enumerate(SLOPES)]
        out += [(crossed_rows, (SLOPES[4], k, reps, 900 + k))]
        out += [(order_rows, (*m, k, reps, 500 + 10 * k + i)) for i, m in enumerate(means)]
        out += [(meta_rows, (*m, k, reps, 300 + 10 * k + i)) for i, m in enumerate(means)]
    for s in (SLOPES[3], SLOPES[0]):
        out += [(mixed_rows, (s, k, reps, 700 + 10 * k + SLOPES.index(s))) for k in PAIRS]
    return out


def counted(path: Path) -> list[Row]:
    """The cells that an earlier start left in the CSV file; none where there is no file."""
    if not path.exists():
        return []
    numbers = {"pairs": int, "replications": int, "coverage": float, "mc_error": float}
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))
    for found in rows:
        found |= {name: kind(found[name]) for name, kind in numbers.items()}
        found["median_width"] = float(found["median_width"]) if found["median_width"] else None
    return rows


def table(rows: list[Row]) -> str:
    formats = {"coverage": "{:.3f}".format, "mc_error": "{:.3f}".format, "median_width": "{:.3g}".format}
    headers = {"mc_error": "Monte Carlo error", "median_width": "median width"}
    return write("md", rows, COLUMNS, headers, formats)


def save(out: Path, rows: list[Row]) -> None:
    """The rows so far, so that a run that is cut short leaves what it has."""
    out.mkdir(parents=True, exist_ok=True)
    said = f"# Achieved coverage of nominal 95 % intervals, {N} schemes a pair\n\n{__doc__}\n{table(rows)}\n"
    foot = "\n".join(f"- {key}: {value}" for key, value in provenance().items())
    (out / "coverage_regression.md").write_text(f"{said}\n{foot}\n", encoding="utf-8")
    (out / "coverage_regression.csv").write_text(write("csv", rows, list(COLUMNS)), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replications", type=int, default=2_000)
    parser.add_argument("--only", default="", help="functions whose name holds this text")
    args = parser.parse_args(argv)
    rows = counted(args.out / "coverage_regression.csv") if args.out else []
    for count, given in jobs(args.replications):
        if args.only not in count.__name__:
            continue
        start = time.process_time()
        new = list(count(*given))
        again = {tuple(row[name] for name in KEY) for row in new}
        rows = [row for row in rows if tuple(row[name] for name in KEY) not in again] + new
        rows.sort(key=lambda r: (ORDER.index(r["what"].split(",")[0]), r["setting"], r["pairs"]))
        print(f"{count.__name__} {given}: {time.process_time() - start:.1f} s", file=sys.stderr, flush=True)
        if args.out:
            save(args.out, rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
