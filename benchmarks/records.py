"""Estimates from 100 million rows of ``samples``: our pass against a bare pyarrow scan of the same columns.

    python benchmarks/records.py --out benchmarks/results

Makes a run under ``--folder`` (about 1 GB, deleted afterwards; or takes ``--run``): epochs of 50,000 images, originals
and views in steps of 64, as a CIFAR student records them. The bare side decodes the same columns of the same files
with pyarrow's own settings and throws them away. Ours verifies page checksums, checks the layout of every step, and
gathers all that ``kdstats estimate`` needs: covariance per epoch with its jackknife groups, the v3 sets, and the table
of images. Both sides alternate, each in a process of its own, so that peak memory is its own too; imports are not
timed. Beside wall time stands the processor time of all threads, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kdstats.provenance import provenance
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.writer import write_done, write_table
from kdstats.tables import write

IMAGES, BATCH = 50_000, 64
TARGET, MOST_MIB = 1.5, 2048
READ = ("view", "step", "slot", "sample_id", "ts_ce", "t_entropy")


def make(paths: RunPaths, rows: int) -> int:
    """Writes whole epochs until there are ``rows`` rows; returns their number."""
    rng = np.random.default_rng(0)
    step = np.repeat(np.arange(-(-IMAGES // BATCH)), BATCH)[:IMAGES]
    slot = np.arange(IMAGES) % BATCH
    # Step by step, originals first: positions of the rows in recording order.
    order = np.lexsort((np.tile(slot, 2), np.repeat([0, 1], IMAGES), np.tile(step, 2)))
    view = np.repeat([0, 1], IMAGES)[order]
    fixed = {
        "view": view,
        "partner_id": np.full(2 * IMAGES, np.nan),
        "lam": np.full(2 * IMAGES, np.nan, np.float32),
        "label": np.zeros(2 * IMAGES, np.int32),
        "step": np.tile(step, 2)[order].astype(np.int32),
        "slot": np.tile(slot, 2)[order].astype(np.int32),
        **{name: np.zeros(2 * IMAGES, np.float32) for name in ("t_ce", "s_ce", "s_loss_kd")},
    }
    epochs = -(-rows // (2 * IMAGES))
    for epoch in range(epochs):
        losses = rng.gamma(0.5, size=(2, 2 * IMAGES)).astype(np.float32)
        data = fixed | {
            "sample_id": np.tile(rng.permutation(IMAGES), 2)[order],
            "epoch": np.full(2 * IMAGES, epoch, np.int32),
            "ts_ce": losses[0],
            "t_entropy": losses[1],
        }
        write_table(paths.sample_part(epoch), "samples", data, digest="0" * 64, meta={"classes": 10})
    write_done(paths)
    return epochs * 2 * IMAGES


def bare(paths: RunPaths) -> int:
    """Decodes the columns; returns the rows."""
    import pyarrow.parquet as pq

    rows = 0
    for _, part in epoch_parts(paths.samples):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(131_072, columns=list(READ)):
                rows += batch.num_rows
    return rows


def ours(paths: RunPaths) -> int:
    """The whole pass, and the estimates from it."""
    from kdstats.recorded.estimate import read_samples

    epochs = [epoch for epoch, _ in epoch_parts(paths.samples)]
    reading = read_samples(paths, epochs)
    found = reading.measured(epochs, "anova", 0.95, [])
    if found.covariance is None or found.components is None:
        raise RuntimeError("the pass gave no estimates")
    return reading.rows


def child(side: str, folder: str) -> int:
    """One side in this process: seconds, rows and peak memory on stdout."""
    import scipy.special  # noqa: F401

    import kdstats.recorded.estimate  # noqa: F401, both imported here so that they are not timed

    began, processor = time.perf_counter(), time.process_time()
    rows = {"bare": bare, "ours": ours}[side](RunPaths(Path(folder)))
    spent, processor = time.perf_counter() - began, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": spent, "processor": processor, "rows": rows, "peak": peak}))
    return 0


def run(side: str, folder: Path) -> dict[str, Any]:
    """One side in a fresh process."""
    words = [sys.executable, __file__, "--child", side, "--folder", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    sys.stderr.write(
        f"{side}: {found['seconds']:.1f} s, processor {found['processor']:.1f} s, {found['peak']:.0f} MiB\n"
    )
    return found


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table, and with --out writes it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--run", type=Path, help="a run made before, of whatever size; it stays")
    parser.add_argument("--child", choices=("bare", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    if args.child:
        return child(args.child, str(args.folder))
    need, free = 30 * args.rows, shutil.disk_usage(args.folder).free
    if args.run is None and free < 2 * need:
        sys.stderr.write(
            f"{free / 2**30:.0f} GiB free under {args.folder}; {2 * need / 2**30:.0f} wanted: fewer --rows\n"
        )
        return 2
    folder = args.run or Path(tempfile.mkdtemp(prefix="kdstats-records-", dir=args.folder))
    try:
        began = time.perf_counter()
        rows = 0 if args.run else make(RunPaths(folder), args.rows)
        size = sum(part.stat().st_size for _, part in epoch_parts(RunPaths(folder).samples))
        sys.stderr.write(f"{rows:,} rows, {size / 2**30:.2f} GiB in {time.perf_counter() - began:.0f} s\n")
        rows = run("bare", folder)["rows"]  # the files are in the page cache for both sides from here on
        pairs = [(run("bare", folder), run("ours", folder)) for _ in range(args.rounds)]
    finally:
        if args.run is None:
            shutil.rmtree(folder, ignore_errors=True)
    ratios = [a["seconds"] / b["seconds"] for b, a in pairs]
    processor = [a["processor"] / b["processor"] for b, a in pairs]
    row = {
        "rows": rows,
        "GiB": round(size / 2**30, 2),
        "bare scan s": round(statistics.median(b["seconds"] for b, _ in pairs), 2),
        "ours s": round(statistics.median(a["seconds"] for _, a in pairs), 2),
        "ratio": round(statistics.median(ratios), 2),
        "range": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "processor ratio": round(statistics.median(processor), 2),
        "target": TARGET,
        "peak MiB": round(max(a["peak"] for _, a in pairs)),
        "most MiB": MOST_MIB,
        "met": statistics.median(ratios) <= TARGET and max(a["peak"] for _, a in pairs) < MOST_MIB,
    }
    sys.stdout.write(write("table", [row], list(row)))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        document = {"rounds": args.rounds, **provenance("cpu"), "rows": [row]}
        (args.out / "records.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (args.out / "records.md").write_text(write("md", [row], list(row)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
