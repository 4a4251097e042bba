"""From a study file to its runs, and what they will cost on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from kdstats import data
from kdstats.data import ImageSet
from kdstats.records.writer import is_complete
from kdstats.teacher.network import Network
from runners.config import StudyFile
from runners.run_spec import RunSpec

# Bytes on disk per recorded row (Parquet, zstd), float32 and float16; measured on digits runs.
_ROW_BYTES = {"float32": 30, "float16": 22}


def make_specs(study: StudyFile, train_set: ImageSet, teachers: dict[str, Network]) -> list[RunSpec]:
    """All runs of the grid, seeds outermost, so that an interrupted study has whole columns."""
    recipe = study.train.resolve()
    return [
        RunSpec(
            dataset=study.study.dataset,
            data=study.study.data,
            dataset_sha256=train_set.digest,
            teacher=teacher,
            teacher_weights=teachers[teacher].source,
            teacher_arch=teachers[teacher].arch,
            teacher_sha256=teachers[teacher].sha256,
            student=student,
            scheme=scheme,
            seed=seed,
            recipe=recipe,
            draws=study.grid.draws,
            temperature=study.kd.temperature,
            gamma=study.kd.gamma,
            alpha=study.kd.alpha,
            targets=study.kd.targets,
            log_every=study.log.every,
            log_dtype=study.log.dtype,
        )
        for seed in study.grid.seeds
        for teacher, _, student in (pair.partition("/") for pair in study.grid.pairs)
        for scheme in study.grid.schemes
    ]


@dataclass(frozen=True)
class Cost:
    """What a study will take.

    Attributes:
        runs: Planned runs.
        done: Complete ones.
        seconds_per_epoch: Of one run on its share of the cores, measured here on the dearest scheme asked for.
        seconds: Until the end with ``workers`` processes.
        workers: Processes.
        disk: Bytes of records of all runs.
    """

    runs: int
    done: int
    seconds_per_epoch: float
    seconds: float
    workers: int
    disk: int

    def lines(self, study: StudyFile) -> list[str]:
        """The plan as people read it."""
        pairs, schemes, seeds = (len(x) for x in (study.grid.pairs, study.grid.schemes, study.grid.seeds))
        epochs = study.train.resolve().epochs
        return [
            f"{self.runs} runs = {pairs} pair{'s' * (pairs > 1)} × {schemes} schemes × {seeds} seeds ({self.done} done)",
            f"measured here: {self.seconds_per_epoch:.1f} s an epoch · {epochs} epochs = "
            f"{duration(epochs * self.seconds_per_epoch)} a run · {self.workers} workers → "
            f"about {duration(self.seconds)} of training",
            f"disk about {self.disk / 1e6:,.0f} MB of records (every {study.log.every} epoch, {study.log.dtype})",
            "comparable: same recipe, same teacher, common random numbers across schemes",
        ]


def cost(specs: list[RunSpec], study: StudyFile, root: Path, workers: int) -> Cost:
    """Measures one short run of the dearest scheme and multiplies."""
    from runners.student import run_spec

    done = sum(is_complete(spec.paths(root)) for spec in specs)
    probe = max(specs, key=lambda s: "pick" in s.scheme)
    images = len(data.load(probe.dataset, "train", probe.data))
    with tempfile.TemporaryDirectory(prefix="kdstats-plan-") as scratch:
        short = replace(probe, recipe=probe.recipe.with_epochs(2))
        ends: list[float] = []
        run_spec(short, short.paths(Path(scratch)), on_epoch=lambda *_: ends.append(time.perf_counter()))
    # The first epoch also warms up; the time between the ends of the two is one epoch.
    per_epoch = ends[1] - ends[0]
    epochs = probe.recipe.epochs
    seconds = (len(specs) - done) * epochs * per_epoch / workers
    rows = 2 * images * -(-epochs // study.log.every)
    return Cost(
        len(specs), done, per_epoch, seconds, workers, rows * _ROW_BYTES[study.log.dtype] * len(specs)
    )


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def default_workers() -> int:
    """One process per core: a small network does not fill several threads, many of them fill the machine."""
    return os.cpu_count() or 1


def epochs_on_disk(specs: list[RunSpec], root: Path) -> dict[str, int]:
    """Digest → whole epochs trained so far, read from each run's metrics."""
    counts = {}
    for spec in specs:
        try:
            with spec.paths(root).metrics.open("rb") as stream:
                counts[spec.digest] = sum(1 for _ in stream)
        except OSError:
            counts[spec.digest] = 0
    return counts
