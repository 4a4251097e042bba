"""What a study will take on this machine: a few steps of each pair are measured, and multiplied."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from runners.executors.attempt import pick, use_threads
from runners.progress import duration
from runners.recipes import Recipe
from runners.run_spec import RunSpec
from runners.study.sharing import Room, grouped
from runners.study.steps import Measured, measure_run, measure_teacher
from runners.study_file import StudyFile

# Bytes on disk per recorded row (Parquet, zstd), float32 and float16; measured on digits runs.
_ROW_BYTES = {"float32": 30, "float16": 22}


@dataclass(frozen=True)
class Cost:
    """What a study will take.

    Attributes:
        runs: Planned runs.
        done: Complete ones.
        per_step: Seconds of a step of a run with the study's threads, median over all runs.
        steps: Steps of an epoch.
        epochs: Epochs of a run, or ``least to most``.
        per_run: Seconds of a run, shortest and longest.
        seconds: Until the end with ``workers`` at a time.
        workers: Runs at the same time.
        disk: Bytes of all runs.
        disk_full: Bytes with every epoch recorded in float32.
        memory: Peak bytes of a worker.
        teachers: Teacher to be trained first → seconds.
        room: What runs share of teachers' answers meanwhile.
    """

    runs: int
    done: int
    per_step: float
    steps: int
    epochs: str
    per_run: tuple[float, float]
    seconds: float
    workers: int
    disk: float
    disk_full: float
    memory: int
    teachers: dict[str, float]
    room: Room

    def lines(self, study: StudyFile) -> list[str]:
        """The plan as people read it."""
        recipe = study.train.resolve()
        teachers = [
            f"{name}: trained once, about {duration(seconds)}" for name, seconds in self.teachers.items()
        ]
        least, most = (duration(seconds) for seconds in self.per_run)
        per_run = least if least == most else f"{least} to {most}"
        lines = [" · teacher ".join([f"{self.runs} runs = {_size(study)} ({self.done} done)", *teachers])]
        if self.done < self.runs:
            lines.append(
                f"measured here: {self.per_step * 1e3:,.0f} ms a step ({recipe.batch_size / self.per_step:,.0f} img/s) "
                f"· {self.steps} steps × {self.epochs} epochs = {per_run} a run · {self.workers} "
                f"worker{'s' * (self.workers > 1)} → about {duration(self.seconds)}"
            )
        kept = f"samples of every {'' if study.log.every == 1 else f'{study.log.every}. '}epoch, {study.log.dtype}"
        full = "" if self.disk_full == self.disk else f"; full would be {_bytes(self.disk_full)}"
        lines.append(f"disk about {_bytes(self.disk)} ({kept}{full}) · memory {_bytes(self.memory)} a worker")
        if self.room.size:
            what = f"{_bytes(self.room.size)} of teachers' answers to originals"
            lines.append(
                f"not kept for other runs: {what} ({self.room.against})"
                if self.room.against
                else f"kept for the other runs of a seed while the study is trained: {what}"
            )
        lines.append(_comparable(study))
        return lines


def cost(
    specs: Sequence[RunSpec],
    done: int,
    study: StudyFile,
    workers: int,
    threads: int,
    device: str,
    untrained: dict[str, Recipe],
    room: Room,
) -> Cost:
    """Measures one run of each kind (see :func:`_kind`) in a process of its own, and multiplies.

    Args:
        specs: The runs; weights of untrained teachers may be any of their shape.
        done: How many are complete; they are taken to be spread evenly.
        study: Its file.
        workers: Runs at the same time.
        threads: Threads of each.
        device: Where they compute.
        untrained: Teacher to be trained first → its recipe.
        room: What the runs share of teachers' answers.
    """
    first = specs[0]
    train_set, test_set = first.selection.train(), first.selection.test()
    chosen: dict[tuple[object, ...], RunSpec] = {}
    for spec in specs:
        chosen.setdefault(_kind(spec), spec)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), use_threads, (threads,)) as pool:
        found = {
            kind: pool.submit(measure_run, spec, pick(device, 0)).result() for kind, spec in chosen.items()
        }
        steps = -(-len(train_set) // first.recipe.batch_size)
        trained = {
            name: recipe.epochs
            * steps
            * pool.submit(measure_teacher, first, name, recipe, pick(device, 0)).result()
            for name, recipe in untrained.items()
        }
    per_run = [
        s.recipe.epochs * (steps * found[_kind(s)].step + len(test_set) * found[_kind(s)].test_image)
        for s in specs
    ]
    spared = 0.0 if room.against else _spared(specs, found, workers) * steps
    weights = sum(2 * found[_kind(s)].weights for s in specs)
    rows = [len(train_set) * (1 + (s.originals == "kept")) for s in specs]
    recorded = [n * -(-s.recipe.epochs // s.log_every) for n, s in zip(rows, specs, strict=True)]
    trained_rows = [n * s.recipe.epochs for n, s in zip(rows, specs, strict=True)]
    lengths = sorted({s.recipe.epochs for s in specs})
    return Cost(
        runs=len(specs),
        done=done,
        per_step=statistics.median(found[_kind(s)].step for s in specs),
        steps=steps,
        epochs=str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}",
        per_run=(min(per_run), max(per_run)),
        seconds=(sum(per_run) - spared) * (1 - done / len(specs)) / min(workers, len(specs))
        + sum(trained.values()),
        workers=workers,
        disk=weights + sum(recorded) * _ROW_BYTES[study.log.dtype],
        disk_full=weights + sum(trained_rows) * _ROW_BYTES["float32"],
        memory=max(m.memory for m in found.values()),
        teachers=trained,
        room=room,
    )


def _kind(spec: RunSpec) -> tuple[object, ...]:
    """Runs of one kind take about the same time a step; picking asks the teacher or the student once more."""
    loss = (
        spec.objective,
        repr(spec.objective_params),
        spec.originals,
        spec.passes,
        spec.targets == "interpolated",
    )
    return spec.teacher, spec.student, "pick" in spec.scheme, spec.teaching is None, *loss


def _spared(specs: Sequence[RunSpec], found: Mapping[tuple[object, ...], Measured], workers: int) -> float:
    """Seconds per step of an epoch, over all runs, in which answers are read: the first, side by side, ask."""
    return sum(
        spec.recipe.epochs * found[_kind(spec)].answer
        for runs in grouped(specs).values()
        for spec in sorted(runs, key=lambda s: s.recipe.epochs, reverse=True)[workers:]
    )


def _size(study: StudyFile) -> str:
    """``2 variants × 1 pair × 3 schemes × 2 seeds``; a sum where the variants' grids differ."""
    grids = [
        tuple(len(part) for part in (arm.grid.pairs, arm.grid.schemes, arm.grid.seeds))
        for arm in study.arms.values()
    ]
    texts = [
        " × ".join(
            f"{n} {word}{'s' * (n > 1)}" for n, word in zip(grid, ("pair", "scheme", "seed"), strict=True)
        )
        for grid in dict.fromkeys(grids)
    ]
    if not study.variant:
        return texts[0]
    counts = [grids.count(grid) for grid in dict.fromkeys(grids)]
    return " + ".join(f"{n} variant{'s' * (n > 1)} × {text}" for n, text in zip(counts, texts, strict=True))


def _comparable(study: StudyFile) -> str:
    """What all runs share, and across what they are not to be averaged."""
    arms = study.arms
    moving = [name for name, arm in arms.items() if arm.teaching.kind != "fixed"]
    shared = "common random numbers across schemes"
    if not study.variant:
        who = "teachers that follow the student: no T. stddev" if moving else "same teacher"
        return f"comparable: same recipe, {who}, {shared}"
    text = f"comparable within each variant ({', '.join(arms)}), never averaged over them: {shared}"
    if moving:
        text += f"; teachers follow the student, so no T. stddev, in {', '.join(moving)}"
    return text


def _bytes(count: float) -> str:
    """``8 MB``, ``1.3 GB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{max(count / 1e6, 1):.0f} MB"
