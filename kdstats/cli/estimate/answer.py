"""What ``kdstats estimate`` computes of recorded runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from kdstats.errors import KdstatsError, MissingError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.cli.estimate.request import Request
    from kdstats.recorded.estimate import RunEstimate
    from kdstats.recorded.summary import Row
    from kdstats.records.paths import RunPaths

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything computed.

    Attributes:
        runs: The estimates of every run.
        groups: The same, seeds of one thing together.
        rows: Numbers as asked by ``--by``.
        notes: What could not be estimated, or is not averaged.
        refused: Run directories of a folder or pattern that are incomplete, damaged or unfit, and why.
    """

    runs: list[RunEstimate]
    groups: list[list[RunEstimate]]
    rows: list[Row]
    notes: list[str]
    refused: list[tuple[str, str]]

    def frame(self, by: str) -> pd.DataFrame:
        """The rows as a frame; ``name`` tells schemes apart, with pair, recipe or seed where they differ."""
        import pandas as pd

        frame = pd.DataFrame([row.to_dict() for row in self.rows])
        return frame.assign(name=names(self.rows, by))


def compute(request: Request) -> Answer:
    """Reads every run once; an unfit one that the user did not name is left out and told, another is an error."""
    from kdstats.recorded.estimate import estimate_run
    from kdstats.recorded.find import find_runs, identify, refuse_twice
    from kdstats.recorded.summary import alike, epoch_rows, few_seeds_note, run_rows, seed_rows, split_notes

    found = find_runs(request.runs)
    runs: list[RunEstimate] = []
    refused: list[tuple[str, str]] = []
    kinds: set[type[KdstatsError]] = set()
    identities = []
    for one in found:
        try:
            identities.append((one.paths, identify(one.paths)))
        except KdstatsError:
            continue  # said below, where the run is read
    refuse_twice(identities)
    for number, one in enumerate(found, 1):
        try:
            runs.append(
                estimate_run(
                    one.paths,
                    choose_epochs(request, one.paths),
                    method="reml" if request.components == "reml" else "anova",
                    confidence=request.confidence,
                    components=request.components != "none",
                    by_epoch=request.by == "epoch",
                )
            )
        except KdstatsError as error:
            if one.named:
                raise
            refused.append((str(one.paths.root), str(error)))
            kinds.add(type(error))
        if len(found) > 1:
            typer.echo(f"run {number}/{len(found)} {one.paths.root}", err=True)
    if not runs:
        raise _nothing(refused, kinds)
    groups = alike(runs)
    confidence = request.confidence
    if request.by == "run":
        rows = [row for run in runs for row in run_rows(run, confidence)]
    else:
        make = epoch_rows if request.by == "epoch" else seed_rows
        rows = [row for group in groups for row in make(group, confidence)]
    few = few_seeds_note(groups, confidence) if request.by != "run" else []
    notes = [*split_notes(groups), *few, *_gathered(runs)]
    return Answer(runs, groups, rows, notes, refused)


def _nothing(refused: list[tuple[str, str]], kinds: set[type[KdstatsError]]) -> KdstatsError:
    """The error where every run was refused: of their kind where all are of one."""
    kind = next(iter(kinds)) if len(kinds) == 1 else MissingError
    return kind(f"no run could be read: {reasons(refused)}")


def reasons(refused: list[tuple[str, str]]) -> str:
    """Why runs were refused: each reason once, with the runs that it holds for."""
    where: dict[str, list[str]] = {}
    for path, why in refused:
        # Most reasons begin with the run's path, some with one of its files.
        where.setdefault(why.removeprefix(path) if why.startswith(f"{path} ") else f": {why}", []).append(
            path
        )
    said = []
    for why, paths in list(where.items())[:_MOST_REASONS]:
        said.append(f"{paths[0]}{f' (and {len(paths) - 1} more)' if len(paths) > 1 else ''}{why}")
    more = f"; and {len(where) - _MOST_REASONS} other reasons" if len(where) > _MOST_REASONS else ""
    return "; ".join(said) + more


def choose_epochs(request: Request, paths: RunPaths) -> list[int]:
    """The recorded epochs asked for; raises ``MissingError`` where there are none."""
    from kdstats.recorded.steps import last_quarter
    from kdstats.records.paths import epoch_parts

    recorded = [number for number, _ in epoch_parts(paths.samples)]
    if not recorded:
        raise MissingError(f"{paths.root} holds no samples (looked for {paths.samples}/epoch=….parquet).")
    span = request.span()
    if span is None:
        return last_quarter(paths)
    first, last = (recorded[0] if span[0] is None else span[0], recorded[-1] if span[1] is None else span[1])
    chosen = [epoch for epoch in recorded if first <= epoch <= last]
    if not chosen:
        several = f"{len(recorded)} epochs from {recorded[0]} to {recorded[-1]}, none"
        one = f"epoch {recorded[0]} alone, which is not"
        raise UsageError(
            f"{paths.root} recorded {several if len(recorded) > 1 else one} in --epochs {request.epochs}"
        )
    return chosen


def _gathered(runs: Iterable[RunEstimate]) -> list[str]:
    """Notes of runs, each once with how many runs say it."""
    where: dict[str, int] = {}
    runs = list(runs)
    for run in runs:
        for note in run.notes:
            where[note] = where.get(note, 0) + 1
        if run.thinning > 1:
            note = f"components use every {run.thinning}th image, to bound memory"
            where[note] = where.get(note, 0) + 1
    return [note + (f" ({n} of {len(runs)} runs)" if len(runs) > 1 else "") for note, n in where.items()]


def names(rows: list[Row], by: str) -> list[str]:
    """A name per row that tells its group from all others."""
    keys = [(r.scheme or "?", f"{r.teacher}/{r.student}", r.dataset, r.recipe) for r in rows]
    schemes = {key: key[0] for key in keys}
    for at in (1, 2, 3):
        if len(set(schemes.values())) == len(schemes):
            break
        if len({key[at] for key in keys}) > 1:
            schemes = {key: f"{said}, {key[at]}" for key, said in schemes.items()}
    return [
        schemes[key] + (f", seed {row.seed}" if by == "run" else "")
        for key, row in zip(keys, rows, strict=True)
    ]
