"""``plan``: runs, hours, disk and memory, before anything starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kdstats.disk import free_bytes
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from runners.executors.base import Executor
from runners.study.cost import cost
from runners.study.grid import check_runs, make_runs
from runners.study.sharing import room_for
from runners.study.teachers import planned_teachers, untrained
from runners.study_file import StudyFile


def plan(study: StudyFile, out: Path, executor: Executor, device: str) -> int:
    """Prints what the study will take, from a few steps of each pair measured on this machine."""
    paths = StudyPaths(out)
    train_set = study.study.selection.train()
    check_runs(study, train_set)
    with tempfile.TemporaryDirectory(prefix="kdstats-plan-") as scratch:
        missing = untrained(study, paths)
        teachers = planned_teachers(study, train_set, paths, Path(scratch))
        runs = make_runs(study, train_set, teachers)
        specs = [spec for _, spec in runs]
        waiting = [spec for spec in specs if not is_complete(spec.paths(out))]
        room = room_for(paths, waiting, train_set, study.executor, executor)
        done = len(specs) - len(waiting)
        found = cost(specs, done, study, executor.at_once, executor.threads, device, missing, room)
    print("\n".join(found.lines(study)))
    if study.exclude:
        left_out = [
            sum(rule.matches(f"{s.teacher}/{s.student}", s.scheme, s.seed, name) for name, s in runs)
            for rule in study.exclude
        ]
        for rule, count in zip(study.exclude, left_out, strict=True):
            print(f"trained, and left out of every summary: {count} run{'s' * (count != 1)} ({rule.reason})")
    print(f"carried out by: {executor.describe()}")
    free = free_bytes(out)
    if free is not None and found.disk + (0 if room.against else room.size) > free:
        print(f"warning: {out} has {free / 1e9:.1f} GB free")
    if found.memory * executor.at_once > _memory():
        print(
            f"warning: {executor.at_once} workers at once want more than the {_memory() / 1e9:.0f} GB of this machine"
        )
    return 0


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
