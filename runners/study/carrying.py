"""``run`` and ``retry``: teachers, teacher-only measurement, students, tables, page. Running again continues."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from kdstats.console import Terminated
from kdstats.errors import IncompleteError
from kdstats.provenance import now
from kdstats.records.lines import whole_epochs
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from runners.executors.attempt import failure_of
from runners.executors.base import Errand, Executor, Outcome, StopSign
from runners.progress import StudyProgress, say
from runners.run_spec import RunSpec
from runners.study.folder import gather, has_study, keep_settings, owned
from runners.study.grid import check_runs, make_runs
from runners.study.measuring import probe
from runners.study.page import build
from runners.study.sharing import Sharing, room_for, sharing
from runners.study.teachers import trained_teachers
from runners.study_file import StudyFile


def run(
    file: Path, study: StudyFile, out: Path, executor: Executor, device: str, *, only_failed: bool
) -> int:
    """The whole study; with ``only_failed`` no runs but those that failed before.

    Raises:
        MissingError: Nothing was begun that could be tried again.
        IncompleteError: Some runs failed, or the disk is full.
    """
    started, clock = now(), time.perf_counter()
    paths = StudyPaths(out)
    if only_failed:
        has_study(out)
    with owned(out), _stopped_by_usr2():
        train_set, test_set = study.study.selection.train(), study.study.selection.test()
        check_runs(study, train_set)
        keep_settings(study, paths, train_set)
        teachers = trained_teachers(study, train_set, paths, device)
        runs = make_runs(study, train_set, teachers)
        specs, variants = [spec for _, spec in runs], {spec.digest: name for name, spec in runs}
        if not only_failed:
            probe(study, paths, (train_set, test_set), teachers, specs, device, students=False)
        waiting = [spec for spec in specs if not is_complete(spec.paths(out))]
        chosen = [s for s in waiting if failure_of(s.paths(out)).exists()] if only_failed else specs
        if only_failed and not chosen:
            say(
                f"no run has failed; {len(waiting)} of {len(specs)} are queued"
                + ("; `run` carries them out" if waiting else "")
            )
            return 0
        room = room_for(paths, waiting, train_set, study.executor, executor)
        if room.size and room.against:
            say(f"each run asks the teacher about the originals anew: {room.against}")
        with sharing(paths.answers, room) as shared:
            outcomes = train_all(chosen, len(specs), paths, executor, variants, shared)
        _refuse_full_disk(outcomes, out)
        failed = [(outcome.spec, outcome.error or "?") for outcome in outcomes]
        if not any(is_complete(spec.paths(out)) for spec in specs):
            # No table can be made of nothing; what failed is the answer.
            raise IncompleteError(_told(failed, len(specs), file, out, variants))
        probe(study, paths, (train_set, test_set), teachers, specs, device, students=True)
        how = {
            "started": started,
            "seconds": round(time.perf_counter() - clock, 1),
            "executor": executor.describe(),
        }
        failed = gather(study, paths, (train_set, test_set), specs, teachers, failed, how, variants)
    if study.report.build:
        build(out)
    if failed:
        raise IncompleteError(_told(failed, len(specs), file, out, variants))
    return 0


def train_all(
    specs: list[RunSpec],
    planned: int,
    paths: StudyPaths,
    executor: Executor,
    variants: Mapping[str, str],
    shared: Sharing,
) -> list[Outcome]:
    """Carries out every run of ``specs`` that is not complete; returns the failed ones."""
    todo = [spec for spec in specs if not is_complete(spec.paths(paths.root))]
    if not todo:
        return []
    failed: list[Outcome] = []
    ended = planned - len(todo)
    say(f"{len(todo)} runs: {executor.describe()}")
    stop = StopSign.of_driver(paths.root)
    # Complete runs are not read again and again: only what is under way can grow.
    left = {spec.digest: spec.paths(paths.root).metrics for spec in todo}
    behind = sum(spec.recipe.epochs for spec in specs) - sum(spec.recipe.epochs for spec in todo)

    def counted() -> int:
        return behind + sum(map(whole_epochs, left.values()))

    with StudyProgress(sum(spec.recipe.epochs for spec in specs), counted()) as progress:

        def on_done(outcome: Outcome) -> None:
            nonlocal ended, behind
            ended += 1
            spec = outcome.spec
            behind += whole_epochs(left.pop(spec.digest))
            shared.ended(spec)
            progress.advance(counted())
            if outcome.error is not None:
                failed.append(outcome)
            word = "done" if outcome.error is None else f"FAILED ({outcome.error})"
            progress.say(f"[{ended}/{planned}] {_title(spec, variants)}  {word}")
            if outcome.full:
                raise _DiskFull

        def on_again(spec: RunSpec, error: str) -> None:
            progress.say(f"{_title(spec, variants)}: {error}; tried again")

        errand = Errand(todo, paths.root, stop, on_done, on_again, lambda: progress.advance(counted()))
        try:
            executor.execute(errand)
        except _DiskFull:
            pass
        except (KeyboardInterrupt, Terminated):
            progress.say("stopped; the states of the runs under way are kept")
            raise
        finally:
            with contextlib.suppress(OSError):
                stop.lower()
    return failed


class _DiskFull(Exception):
    """No other run could go on either."""


def _refuse_full_disk(outcomes: list[Outcome], out: Path) -> None:
    full = [outcome for outcome in outcomes if outcome.full]
    if full:
        raise IncompleteError(
            f"the study in {out} stopped because there is no space left: {full[0].spec.title}: {full[0].error}\n"
            "Everything complete is kept. Free some space and run the same command again."
        )


def _title(spec: RunSpec, variants: Mapping[str, str]) -> str:
    name = variants.get(spec.digest)
    return f"{spec.title} [{name}]" if name else spec.title


def _told(
    failed: list[tuple[RunSpec, str]], planned: int, file: Path, out: Path, variants: Mapping[str, str]
) -> str:
    lines = [f"  {_title(s, variants)} · {error}{_log(s.paths(out).log)}" for s, error in failed]
    return (
        f"{len(lines)} of {planned} runs failed\n"
        + "\n".join(lines)
        + "\nEverything else is complete and kept. "
        + f"`python -m runners.study retry {file} --out {out}` tries again."
    )


@contextlib.contextmanager
def _stopped_by_usr2() -> Iterator[None]:
    """SIGUSR2, which schedulers send before they pre-empt, ends a driver as SIGTERM does."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    if not hasattr(signal, "SIGUSR2"):
        yield
        return
    previous = signal.signal(signal.SIGUSR2, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, previous)


def _log(path: Path) -> str:
    """A process that was killed from outside leaves none."""
    return f" (log: {path})" if path.is_file() else ""
