"""Rows of ``samples`` as one matrix row per training step, chunk by chunk, in the order of recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.scanner import Batch, scan

ORDER = ("view", "step", "slot")


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """What a full step looks like: view and slot of its N rows, originals first."""

    view: NDArray[np.int8]
    slot: NDArray[np.int32]

    @staticmethod
    def of(view: NDArray[Any], slot: NDArray[Any]) -> Pattern:
        """The pattern of the rows of one step, in any order."""
        order = np.lexsort((slot, view))
        return Pattern(view[order], slot[order])

    @property
    def repeats(self) -> bool:
        """Whether a position is there twice."""
        return bool(((np.diff(self.view) == 0) & (np.diff(self.slot) == 0)).any())

    @property
    def inputs(self) -> tuple[int, int]:
        """Originals and views of a step."""
        views = int(self.view.sum())
        return len(self.view) - views, views


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Whole steps of one epoch.

    Attributes:
        epoch: Their epoch.
        rows: Column → ``[r]`` all rows, of short steps too.
        pattern: Positions of a full step.
        full: ``[k, N]`` indices into the rows: one line per full step, in the pattern's order; a slice where the rows
            lie that way already.
    """

    epoch: int
    rows: dict[str, NDArray[Any]]
    pattern: Pattern
    full: NDArray[np.intp] | slice

    def matrix(self, name: str) -> NDArray[Any]:
        """``[k, N]`` values of a column, one row per full step; positions are originals by slot, then views."""
        return np.asarray(self.rows[name][self.full]).reshape(-1, len(self.pattern.view))


def last_quarter(paths: RunPaths) -> list[int]:
    """The last quarter of the recorded epochs, where the student is near its end; at least one."""
    numbers = [number for number, _ in epoch_parts(paths.samples)]
    return numbers[-max(1, len(numbers) // 4) :]


def full_steps(
    paths: RunPaths, columns: Iterable[str], *, epochs: Sequence[int] | None = None
) -> Iterator[Chunk]:
    """Streams a run's steps.

    The first step says what a full step is; shorter ones (a last batch of an epoch) stand in :attr:`Chunk.rows` but
    in no matrix, as a loader's ``drop_last`` would have it. Memory holds about two row groups.

    Args:
        paths: The run; complete, or it is refused.
        columns: Columns wanted besides ``view, step, slot``.
        epochs: Only these.

    Raises:
        MissingError: As :func:`kdstats.records.scanner.scan`.
        CheckError: The rows of a step do not stand together, or one slot is filled twice.
    """
    wanted = tuple(dict.fromkeys((*ORDER, *columns)))
    held: dict[str, NDArray[Any]] | None = None
    epoch, last, pattern = -1, -1, None
    for batch in _ahead(scan([paths], wanted, epochs=epochs)):
        rows: dict[str, NDArray[Any]] = dict(batch)
        if held is not None:
            rows = {name: np.concatenate([held[name], rows[name]]) for name in wanted}
        if batch.epoch != epoch:
            epoch, last = batch.epoch, -1
        step = rows["step"]
        # The last step may go on in the next batch.
        cut = len(step) - int(np.argmax(step[::-1] != step[-1])) if step[0] != step[-1] else 0
        cut = len(step) if batch.last else cut
        held = {name: values[cut:] for name, values in rows.items()} if cut < len(step) else None
        if not cut:
            continue
        rows = {name: values[:cut] for name, values in rows.items()}
        if pattern is None:
            first = int(np.argmax(step != step[0])) or len(step)
            pattern = Pattern.of(rows["view"][:first], rows["slot"][:first])
            if pattern.repeats:
                raise _twice(paths, epoch, int(step[0]))
        chunk = _chunk(epoch, rows, pattern, paths)
        if rows["step"][0] <= last:
            raise _scattered(paths, epoch, int(rows["step"][0]))
        last = int(rows["step"][-1])
        yield chunk


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one being decoded while the last one is worked on (Arrow needs no interpreter lock)."""
    with ThreadPoolExecutor(1, thread_name_prefix="kdstats-scan") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _chunk(epoch: int, rows: dict[str, NDArray[Any]], pattern: Pattern, paths: RunPaths) -> Chunk:
    step, n = rows["step"], len(pattern.view)
    starts = np.concatenate([[0], np.flatnonzero(step[1:] != step[:-1]) + 1])
    numbers = step[starts]
    if (np.diff(numbers) <= 0).any():
        raise _scattered(paths, epoch, int(numbers[1:][np.diff(numbers) <= 0][0]))
    whole = np.diff(np.append(starts, len(step))) == n
    k = int(whole.sum())
    first = starts[whole][0] if k else 0
    full: NDArray[np.intp] | slice = slice(first, first + k * n)
    if k and starts[whole][-1] != first + (k - 1) * n:
        full = starts[whole][:, None] + np.arange(n)
    if k and not _fits(rows, full, pattern):
        index = np.arange(len(step))[full].reshape(k, n)
        order = np.lexsort((rows["slot"][index], rows["view"][index]), axis=1)
        full = np.take_along_axis(index, order, axis=1)
        fits = _matches(rows, full, pattern)
        if not fits.all():
            # As many rows as a full step, but of other slots: no full step, unless a slot is there twice.
            bad = full[~fits]
            views, slots = rows["view"][bad], rows["slot"][bad]
            twice = ((np.diff(views) == 0) & (np.diff(slots) == 0)).any(axis=1)
            if twice.any():
                raise _twice(paths, epoch, int(step[bad[twice][0, 0]]))
            full = full[fits]
    return Chunk(epoch, rows, pattern, full)


def _fits(rows: dict[str, NDArray[Any]], full: NDArray[np.intp] | slice, pattern: Pattern) -> bool:
    """All steps in the pattern's order, the usual case, found with one look at each column."""
    n = len(pattern.view)
    view, slot = (rows[name][full].reshape(-1, n) for name in ("view", "slot"))
    return bool((view == pattern.view).all()) and bool((slot == pattern.slot).all())


def _matches(
    rows: dict[str, NDArray[Any]], full: NDArray[np.intp] | slice, pattern: Pattern
) -> NDArray[np.bool_]:
    n = len(pattern.view)
    view, slot = (rows[name][full].reshape(-1, n) for name in ("view", "slot"))
    return np.asarray(((view == pattern.view) & (slot == pattern.slot)).all(axis=1))


def _twice(paths: RunPaths, epoch: int, step: int) -> CheckError:
    return CheckError(f"{paths.root}, epoch {epoch}, step {step}: a slot is filled twice")


def _scattered(paths: RunPaths, epoch: int, step: int) -> CheckError:
    return CheckError(
        f"{paths.root}, epoch {epoch}: step {step} comes again after others; the rows of a step stand together, "
        "and steps count upwards"
    )


def step_matrix(
    paths: RunPaths, epochs: Sequence[int], column: str = "ts_ce"
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """All full steps of some epochs at once, and the mean teacher entropy of the views.

    Returns:
        ``u`` ``[K, N]``: one row per full step, originals by slot and then views, in the unit of the column; the epoch
        of each row; the mean teacher entropy of all augmented rows in nats, NaN where there are none.
    """
    blocks, labels, total, count = [], [], 0.0, 0
    for chunk in full_steps(paths, [column, "t_entropy"], epochs=epochs):
        blocks.append(chunk.matrix(column).astype(np.float64))
        labels.append(np.full(len(blocks[-1]), chunk.epoch))
        views = chunk.rows["t_entropy"][chunk.rows["view"] == 1]
        total, count = total + float(views.sum(dtype=np.float64)), count + len(views)
    return np.concatenate(blocks), np.concatenate(labels), total / count if count else float("nan")
