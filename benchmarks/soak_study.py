"""Soak: a study killed with kill −9 again and again, driver and workers by turns at random moments, until it is done.

    python -m benchmarks.soak_study --out benchmarks/results [--kills 20] [--seed 0]

At the end every run must be there once, bit for bit as in a study that nobody disturbed, with no temporary file, no
claim and no state left. A kill that finds nothing under way does not count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from kdstats.provenance import provenance
from kdstats.records.scanner import read_runs, read_study

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
[study]
name = "soak"
per_class = 40
[grid]
pairs = ["resnet8/lenet8"]
schemes = ["identity", "cutmix"]
seeds = [0, 1, 2]
[teacher.resnet8]
weights = "shipped"
[train]
epochs = 30
[probe]
tol = 0.5
[report]
build = false
"""


def begin(file: Path, out: Path) -> subprocess.Popen[bytes]:
    """Starts the study with two workers of one thread each."""
    words = [sys.executable, "-m", "runners.study", "run", str(file), "--out", str(out), "--workers", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Its processes that train."""
    try:
        children = psutil.Process(driver.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def epochs(out: Path) -> int:
    """Whole epochs on disk, of all runs."""
    return sum(len(path.read_bytes().splitlines()) for path in out.rglob("metrics.jsonl"))


def soak(file: Path, out: Path, kills: int, rng: random.Random) -> list[str]:
    """Kills ``kills`` times while training is under way; returns whom."""
    killed: list[str] = []
    driver = begin(file, out)
    while len(killed) < kills:
        before = epochs(out)
        while driver.poll() is None and epochs(out) == before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        if driver.poll() is not None:
            if driver.returncode == 0:
                break  # done before all kills could be placed
            driver = begin(file, out)
            continue
        family = workers(driver)
        if family and rng.random() < 0.5:
            rng.choice(family).kill()
            killed.append("worker")
        else:
            driver.kill()
            driver.wait()
            _, alive = psutil.wait_procs(family, timeout=30)
            if alive:
                raise SystemExit(f"a worker outlived its driver after {len(killed)} kills")
            killed.append("driver")
            driver = begin(file, out)
        print(
            f"{len(killed)}/{kills} {killed[-1]}, {epochs(out)} epochs on disk", file=sys.stderr, flush=True
        )
    code = driver.wait()
    for _ in range(3):
        if code == 0:
            break
        code = begin(file, out).wait()
    if code:
        raise SystemExit(f"the study ended with {code}")
    return killed


def weights(out: Path) -> dict[str, str]:
    """Name → sha256 of every network."""
    found = sorted((out / "runs").rglob("*.safetensors"))
    return {p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def differences(out: Path, calm: Path) -> list[str]:
    """What is unlike the calm study; empty when nothing is."""
    wrong = []
    for name, read in (("runs", read_runs), ("study", read_study)):
        ours, theirs = (read(folder).drop(columns="seconds") for folder in (out, calm))
        try:
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        except AssertionError as error:
            wrong.append(f"table {name}: {error}")
    runs = read_runs(out)
    if runs.duplicated(["teacher", "student", "scheme", "seed"]).any():
        wrong.append("a run is there twice")
    if weights(out) != weights(calm):
        wrong.append("weights differ")
    if epochs(out) != epochs(calm):
        wrong.append("an epoch is there twice or missing")
    left = [str(p) for pattern in ("*.tmp", ".claim-*", "state.pt", ".stop") for p in out.rglob(pattern)]
    return wrong + left


def main() -> int:
    """Soaks, compares, writes ``soak_study.json``; exit 5 when something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kdstats-soak-") as scratch:
        file = Path(scratch) / "soak.toml"
        file.write_text(STUDY, encoding="utf-8")
        rough, calm = Path(scratch) / "rough", Path(scratch) / "calm"
        killed = soak(file, rough, args.kills, random.Random(args.seed))
        if begin(file, calm).wait():
            raise SystemExit("the calm study failed")
        wrong = differences(rough, calm)
        result = {
            "kills": len(killed),
            "drivers": killed.count("driver"),
            "workers": killed.count("worker"),
            "seed": args.seed,
            "runs": len(read_runs(rough)),
            "differences": wrong,
            "seconds": round(time.perf_counter() - began, 1),
            "provenance": provenance("cpu"),
        }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soak_study.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "provenance"}))
    return 5 if wrong or len(killed) < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
