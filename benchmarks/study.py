"""A study of 10,000 finished runs: seconds of ``status`` and ``report``; what an executor adds to a run; two workers.

    python -m benchmarks.study --out benchmarks/results [--runs 10000] [--ray] [--scaling]

One real run of the digits study is trained; its small files are copied into every run directory of the grid under
the identity that belongs there, with other losses, and hashes that fit. Both commands are then started as a user
starts them, from a cold process. With ``--ray`` a local Ray cluster answers 40 runs that are complete already: what
that takes a run is what Ray costs, since nothing is trained. With ``--scaling`` a grid of digits students is
trained by one local worker and by two, in turn and twice; the machine must have nothing else to do, so the load before
each is kept beside its seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from kdstats.provenance import provenance
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import read_done
from runners.run_spec import RunSpec
from runners.study.collect import run_row, write_tables
from runners.study.folder import keep_settings, write_card
from runners.study.grid import make_specs
from runners.study.measuring import probe
from runners.study.teachers import trained_teachers
from runners.study_file import StudyFile
from runners.training.one_run import run_spec

ROOT = Path(__file__).resolve().parents[1]
TARGET = 10.0
OVERHEAD = 1.0
SPEEDUP = 1.8
SCALING_RUNS, SCALING_EPOCHS = 12, 150
EPOCHS = 2
SCHEMES = (
    "identity",
    "flip",
    "crop_flip",
    "cutout",
    "autoaugment",
    "mixup",
    "cutmix",
    "patchmix",
    "masking",
    "randaugment",
)


def settings(runs: int) -> StudyFile:
    """A grid of one pair, ten schemes and as many seeds as it takes."""
    return StudyFile.model_validate(
        {
            "study": {"name": f"{runs} finished runs", "per_class": 40},
            "grid": {
                "pairs": ["resnet8/lenet8"],
                "schemes": list(SCHEMES),
                "seeds": list(range(runs // len(SCHEMES))),
            },
            "teacher": {"resnet8": {"weights": "shipped"}},
            "train": {"epochs": EPOCHS},
            "probe": {"tol": 0.5},
        }
    )


def multiply(first: RunSpec, specs: list[RunSpec], root: Path) -> None:
    """Run directories of all ``specs``, made from that of ``first``."""
    model = first.paths(root)
    done = json.loads(model.done.read_text(encoding="utf-8"))
    card = json.loads(model.run_json.read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    effect = {scheme: 0.02 * rank for rank, scheme in enumerate(SCHEMES)}
    for spec in specs:
        paths = spec.paths(root)
        if paths.root == model.root:
            continue
        paths.samples.mkdir(parents=True)
        for name in done["parts"]:
            if name != "run.json":
                os.link(model.root / name, paths.root / name)
        own = json.dumps(card | {"run": spec.resolved(), "digest": spec.digest}).encode()
        paths.run_json.write_bytes(own)
        part = {"bytes": len(own), "sha256": hashlib.sha256(own).hexdigest(), "rows": None}
        loss = float(
            done["extra"]["outcome"]["test_loss_last"] + effect[spec.scheme] + 0.05 * rng.standard_normal()
        )
        outcome = done["extra"]["outcome"] | {"test_loss_last": loss, "test_loss_best": loss}
        extra = done["extra"] | {"outcome": outcome, "run": spec.resolved()}
        text = json.dumps(done | {"parts": done["parts"] | {"run.json": part}, "extra": extra})
        paths.done.write_text(text, encoding="utf-8")


def timed(*words: object) -> tuple[float, float]:
    """Seconds of a command from a cold process, which must succeed: on the wall, and of the processor."""
    began, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, spent


def tables(first: RunSpec, specs: list[RunSpec], paths: StudyPaths) -> None:
    """``runs`` and ``study`` of the made runs, without reading the samples of each."""
    row = run_row(first, first.paths(paths.root))
    rows = []
    for spec in specs:
        outcome = read_done(spec.paths(paths.root))["extra"]["outcome"]
        losses = {key: outcome[key] for key in ("test_loss_last", "test_loss_best")}
        rows.append(row | {"scheme": spec.scheme, "seed": spec.seed, "digest": spec.digest} | losses)
    write_tables(paths, rows)


def ray_overhead(specs: list[RunSpec], root: Path) -> dict[str, float]:
    """Seconds per complete run through Ray and directly, and of Ray's start."""
    from runners import executors
    from runners.executors.attempt import carry_out
    from runners.executors.base import Errand, Outcome, StopSign
    from runners.study_file.sections import ExecutorSection

    ended: list[tuple[float, Outcome]] = []

    def on_done(outcome: Outcome) -> None:
        ended.append((time.perf_counter(), outcome))

    began = time.perf_counter()
    for spec in specs:
        carry_out(spec, root, "cpu", "token")
    direct = (time.perf_counter() - began) / len(specs)
    executor = executors.get("ray", None, "cpu", ExecutorSection())
    began = time.perf_counter()
    executor.execute(
        Errand(specs, root, StopSign(root, "token"), on_done, lambda spec, error: None, lambda: None)
    )
    times = [moment for moment, _ in ended]
    warm = (times[-1] - times[len(times) // 2]) / (len(times) - 1 - len(times) // 2)
    return {"direct": direct, "ray": warm, "ray_first": times[0] - began, "runs": len(specs)}


def scaling(specs: list[RunSpec], scratch: Path) -> dict[str, Any]:
    """Seconds of a CPU-bound grid with one local worker and with two, processes' start included."""
    from runners import executors
    from runners.executors.base import Errand, Outcome, StopSign
    from runners.study_file.sections import ExecutorSection

    grid = [
        dataclasses.replace(spec, recipe=spec.recipe.with_epochs(SCALING_EPOCHS))
        for spec in specs[:SCALING_RUNS]
    ]
    found: list[dict[str, float]] = []
    for turn, workers in enumerate((1, 2, 2, 1)):
        root = scratch / f"scaling-{turn}"
        root.mkdir()
        load = os.getloadavg()[0]
        failed: list[Outcome] = []

        def on_done(outcome: Outcome, failed: list[Outcome] = failed) -> None:
            if outcome.error is not None:
                failed.append(outcome)

        sign = StopSign(root, "token")
        errand = Errand(grid, root, sign, on_done, lambda spec, error: None, lambda: None)
        began = time.perf_counter()
        executors.get("local", workers, "cpu", ExecutorSection()).execute(errand)
        if failed:
            raise SystemExit(f"{len(failed)} runs failed: {failed[0].error}")
        found.append({"workers": workers, "seconds": time.perf_counter() - began, "load_before": load})
    best = {n: min(turn["seconds"] for turn in found if turn["workers"] == n) for n in (1, 2)}
    return {"turns": found, "runs": len(grid), "epochs": SCALING_EPOCHS, "speedup": best[1] / best[2]}


def _when(part: dict[str, Any]) -> str:
    return f", measured earlier, at {part['git']}" if "git" in part else ""


def _earlier(file: Path) -> dict[str, Any]:
    """The result that stands there; empty where there is none."""
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Makes the study, measures, writes ``study.json`` and ``study.md``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--ray", action="store_true", help="measure Ray's overhead too")
    parser.add_argument("--scaling", action="store_true", help="measure one and two local workers too")
    args = parser.parse_args()
    study = settings(args.runs)
    with tempfile.TemporaryDirectory(prefix="kdstats-bench-") as scratch:
        root, file = Path(scratch) / "study", Path(scratch) / "study.toml"
        root.mkdir()
        file.write_bytes(
            tomli_w.dumps(study.model_dump(by_alias=True, exclude_none=True, mode="json")).encode()
        )
        paths = StudyPaths(root)
        train_set, test_set = study.study.selection.train(), study.study.selection.test()
        keep_settings(study, paths, train_set)
        teachers = trained_teachers(study, train_set, paths)
        specs = make_specs(study, train_set, teachers)
        run_spec(specs[0], specs[0].paths(root), "cpu")
        multiply(specs[0], specs, root)
        probe(study, paths, (train_set, test_set), teachers, specs, "cpu", students=False)
        tables(specs[0], specs, paths)
        write_card(
            study,
            paths,
            (train_set, test_set),
            specs,
            teachers,
            [],
            {"started": "", "seconds": 0.0},
            {},
            len(specs),
        )
        found = {
            "status": timed("runners.study", "status", file, "--out", root),
            "report": timed("runners.study", "report", file, "--out", root),
        }
        result: dict[str, Any] = {
            "runs": len(specs),
            **{verb: {"wall": wall, "cpu": spent} for verb, (wall, spent) in found.items()},
            "target": TARGET,
            "load": os.getloadavg()[0],
            "provenance": provenance("cpu"),
        }
        if args.ray:
            result["overhead"] = ray_overhead([dataclasses.replace(spec) for spec in specs[:40]], root)
        if args.scaling:
            result["scaling"] = scaling(specs, Path(scratch))
    kept = _earlier(args.out / "study.json")
    for part in ("overhead", "scaling"):
        if part not in result and part in kept:  # with the version that it was measured at
            result[part] = {"git": kept["provenance"]["git"]} | kept[part]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "study.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [
        f"| what, {len(specs):,} finished runs | s of the processor | s on the wall | target |",
        "|---|---|---|---|",
        *(f"| `{verb}` | {spent:.1f} | {wall:.1f} | {TARGET:.0f} |" for verb, (wall, spent) in found.items()),
    ]
    if over := result.get("overhead"):
        lines.append(
            f"| Ray, per run (the first after {over['ray_first']:.1f} s){_when(over)} | | "
            f"{over['ray']:.3f} | {OVERHEAD:.0f} |"
        )
    if two := result.get("scaling"):
        lines.append(
            f"| 2 local workers, times as fast as 1 ({two['runs']} runs){_when(two)} | | "
            f"{two['speedup']:.2f} | {SPEEDUP} |"
        )
    lines.append(
        f"\n1-minute load of the machine at the time: {result['load']:.1f} on {os.cpu_count()} cores; what is above 1 is "
        "other work, with which the machine was shared. Seconds of the processor feel little of it, those on the wall "
        "all of it."
    )
    (args.out / "study.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
