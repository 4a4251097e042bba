"""Achieved coverage and bias of kdstats' intervals, and power reached by its plans, against planted truth.

    python -m benchmarks.coverage --out benchmarks/results

One row a setting (``coverage_power.py``, ``coverage_t_stddev.py``), each from its own seed and appended to coverage.csv
when it is done, so the same command continues after a stop; a row with other replications is counted again. coverage.md
is written at the end.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import coverage_power, coverage_t_stddev
from benchmarks.coverage_case import Case
from kdstats.tables import write

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
        "Written by `python -m benchmarks.coverage`. `achieved`: share of replications whose 95 % interval holds the",
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
    every = [*coverage_power.cases(), *coverage_t_stddev.cases()]
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
