"""One study under every executor: whether tables and weights are equal, bit for bit.

    python -m benchmarks.executors --study runners/studies/quickstart.toml --work /tmp/executors --out benchmarks/results

``--work`` keeps the three studies; the same command goes on where it was stopped. Ray starts a cluster on this machine,
submitit runs its jobs as processes here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from kdstats.provenance import provenance, sha256_file
from kdstats.records.scanner import read_runs, read_study

ROOT = Path(__file__).resolve().parents[1]
EXECUTORS = {
    "local": ["--executor", "local", "--workers", "2"],
    "ray": ["--executor", "ray"],
    "slurm": ["--executor", "slurm", "--set", "executor.cluster=local"],
}
# How long something took is no result.
TIMING = ("seconds",)


def weights(root: Path) -> dict[str, str]:
    """Network → sha256 of every student that a study trained."""
    return {
        path.relative_to(root).as_posix(): sha256_file(path)
        for path in sorted((root / "runs").rglob("*.safetensors"))
    }


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` without times, in a fixed order of rows."""
    kept = frame.drop(columns=[name for name in frame.columns if name in TIMING])
    return kept.sort_values(
        ["teacher", "student", "scheme", *(["seed"] if "seed" in kept else [])], ignore_index=True
    )


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two studies, in words; empty for equal ones."""
    found = []
    for name, read in (("runs", read_runs), ("study", read_study)):
        try:
            pd.testing.assert_frame_equal(table(read(one)), table(read(other)), check_exact=True)
        except AssertionError as error:
            found.append(f"{name}: {' '.join(str(error).split())[:200]}")
    a, b = weights(one), weights(other)
    found += [f"weights: {path}" for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]
    return found


def main() -> int:
    """Runs the study three times and writes ``executors.json`` and ``executors.md``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the three studies")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    args = parser.parse_args()
    for name, words in EXECUTORS.items():
        command = [
            "run",
            str(args.study),
            "--out",
            str(args.work / name),
            "--set",
            "report.build=false",
            *words,
        ]
        subprocess.run([sys.executable, "-m", "runners.study", *command], check=True, cwd=ROOT)
    local = args.work / "local"
    found = {name: differences(local, args.work / name) for name in EXECUTORS if name != "local"}
    result = {
        "study": str(args.study),
        "runs": len(read_runs(local)),
        "networks": len(weights(local)),
        "differences_from_local": found,
        "provenance": provenance("cpu"),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "executors.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [
        f"`{args.study}`: {result['runs']} runs, {result['networks']} networks; "
        "tables without times and weights, against `local`:\n",
        *(f"- `{name}`: {'equal, bit for bit' if not d else '; '.join(d)}" for name, d in found.items()),
    ]
    (args.out / "executors.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
