"""``status``: a table of all runs, how long it will take, and what failed."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdstats.console import INTERRUPTED
from kdstats.records.paths import StudyPaths
from runners.progress import duration
from runners.run_spec import RunSpec
from runners.study.folder import has_study
from runners.study.grid import make_runs
from runners.study.standing import Standing, standing
from runners.study.teachers import planned_teachers
from runners.study_file import StudyFile

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

_EVERY = 2.0  # seconds between two looks
_MOST_SEEDS = 6  # more columns than this become one of counts
_MOST_FAILURES = 20
_BAR = 10  # characters


def status(study: StudyFile, out: Path, *, watch: bool) -> int:
    """Prints the table; with ``watch`` until the study is complete or Ctrl-C.

    Raises:
        MissingError: No study was begun there.
    """
    from rich.console import Console
    from rich.live import Live

    has_study(out)
    runs = _runs(study, out)
    specs = [spec for _, spec in runs]
    variants = {spec.digest: name for name, spec in runs if name}
    # On no terminal lines are not broken: a log, a pipe and a test read whole cells.
    console = Console(width=None if sys.stdout.isatty() else 400, highlight=False)
    if not watch:
        console.print(view([standing(spec, out) for spec in specs], study, out, variants))
        return 0
    ended: dict[str, Standing] = {}
    with Live(console=console, auto_refresh=False) as live:
        while True:
            now = [ended.get(spec.digest) or standing(spec, out) for spec in specs]
            ended = {s.spec.digest: s for s in now if s.state == "done"}
            live.update(view(now, study, out, variants), refresh=True)
            if len(ended) == len(specs):
                return 0
            try:
                time.sleep(_EVERY)
            except KeyboardInterrupt:
                return INTERRUPTED


def _runs(study: StudyFile, out: Path) -> list[tuple[str, RunSpec]]:
    train_set = study.study.selection.train()
    with tempfile.TemporaryDirectory(prefix="kdstats-status-") as scratch:
        teachers = planned_teachers(study, train_set, StudyPaths(out), Path(scratch))
        return make_runs(study, train_set, teachers)


def view(
    now: list[Standing], study: StudyFile, out: Path, variants: Mapping[str, str] | None = None
) -> Group:
    """The table, one line that sums up, and the failed runs; ``variants`` maps the digest of a run to its variant."""
    from rich.console import Group
    from rich.text import Text

    failed = [s for s in now if s.state == "failed"]
    lines: list[RenderableType] = [_table(now, study, variants or {}), Text(summary(now))]
    moving = [name or study.study.name for name, arm in study.arms.items() if arm.teaching.kind != "fixed"]
    if moving:
        lines.append(Text(f"teachers follow the student, no T. stddev is measured: {', '.join(moving)}"))
    for s in failed[:_MOST_FAILURES]:
        lines.append(Text(f"failed: {s.spec.title} · {s.error} (log: {s.spec.paths(out).log})"))
    if len(failed) > _MOST_FAILURES:
        lines.append(Text(f"and {len(failed) - _MOST_FAILURES} more"))
    return Group(*lines)


def summary(now: list[Standing]) -> str:
    """``27 runs: 20 done, 2 running, 5 queued · about 12 min left``."""
    counts = Counter(s.state for s in now)
    parts = ", ".join(
        f"{counts[state]} {state}"
        for state in ("done", "running", "paused", "failed", "queued")
        if counts[state]
    )
    seconds = seconds_left(now)
    left = "" if seconds is None else f" · about {duration(seconds)} left"
    return f"{len(now)} runs: {parts}{left}"


def seconds_left(now: list[Standing]) -> float | None:
    """At the pace of the runs that are under way, as many at a time as now; None while nothing runs."""
    active = [s for s in now if s.state == "running"]
    paces = [s.per_epoch for s in active if s.per_epoch] or [s.per_epoch for s in now if s.per_epoch]
    if not active or not paces:
        return None
    epochs = sum(s.left for s in now if s.state != "done")
    # The longest single run is a floor however many workers there are.
    pace = sum(paces) / len(paces)
    return max(epochs * pace / len(active), max(s.left for s in active) * pace)


def _table(now: list[Standing], study: StudyFile, variants: Mapping[str, str]) -> Table:
    from rich import box
    from rich.table import Table

    seeds = study.over_arms("seeds")
    wide = len(seeds) <= _MOST_SEEDS
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    columns = [f"seed {seed}" for seed in seeds] if wide else [f"{len(seeds)} seeds"]
    for column in (*(("variant",) if study.variant else ()), "pair", "scheme", *columns):
        table.add_column(column, no_wrap=True)
    rows: dict[tuple[str, str, str], dict[int, Standing]] = {}
    for s in now:
        name = (
            variants[s.spec.digest] if variants else ""
        )  # a digest takes its time, ten thousand take seconds
        rows.setdefault((name, f"{s.spec.teacher}/{s.spec.student}", s.spec.scheme), {})[s.spec.seed] = s
    last = ("", "")
    grids = {name: arm.grid for name, arm in study.arms.items()}
    in_order = ((name, pair, scheme) for name, g in grids.items() for pair in g.pairs for scheme in g.schemes)
    for name, pair, scheme in in_order:
        row = rows[name, pair, scheme]
        if wide:
            cells = [_cell(row[seed], study, name) if seed in row else "" for seed in seeds]
        else:
            counts = Counter(s.state for s in row.values())
            cells = [" · ".join(f"{state} {count}" for state, count in counts.items())]
        head = ("", "") if (name, pair) == last else (name, pair)
        table.add_row(*(head if study.variant else head[1:]), scheme, *cells)
        last = (name, pair)
    return table


def _cell(s: Standing, study: StudyFile, variant: str) -> str:
    """``done 54.1``, ``epoch 7/10 ━━━━━━━━━━ 4 min``, ``failed``, ``queued``."""
    left_out = any(
        rule.matches(f"{s.spec.teacher}/{s.spec.student}", s.spec.scheme, s.spec.seed, variant)
        for rule in study.exclude
    )
    mark = " (left out)" if left_out else ""
    if s.state == "done":
        return f"done {100 * (s.accuracy or 0):.1f}{mark}"
    if s.state == "queued":
        return f"queued{mark}"
    at = f"epoch {s.epochs}/{s.spec.recipe.epochs}"
    if s.state == "running":
        filled = round(_BAR * s.epochs / s.spec.recipe.epochs)
        left = f" {duration(s.left * s.per_epoch)}" if s.per_epoch else ""
        return f"{at} {'━' * filled}{'╺' * (_BAR - filled)}{left}{mark}"
    return f"{s.state} at {at}{mark}" if s.epochs else f"{s.state}{mark}"
