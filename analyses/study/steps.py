"""The recorded steps of a run's views as matrices: one row a training step, one column a position in the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyses.study import Study, used_folders
from kdstats.recorded.steps import full_steps
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.schema import view_code

AUGMENTED = view_code("augmented")


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The full steps of one epoch, views only.

    Attributes:
        epoch: Its number.
        step: ``[K]`` numbers of the steps, rising.
        columns: Name → ``[K, B]``.
    """

    epoch: int
    step: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A used run whose samples are on disk."""

    pair: str
    scheme: str
    seed: int
    paths: RunPaths

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs recorded."""
        return tuple(number for number, _ in epoch_parts(self.paths.samples))

    def views(self, columns: Sequence[str], epochs: Sequence[int] | None = None) -> Iterator[Steps]:
        """The views of every recorded epoch.

        Raises:
            MissingError: The records are damaged or incomplete.
            CheckError: The rows of a step do not stand together.
        """
        held: list[tuple[int, NDArray[np.int64], dict[str, NDArray[np.float64]]]] = []
        for chunk in full_steps(self.paths, columns, epochs=epochs):
            own = chunk.pattern.view == AUGMENTED
            if not own.any():
                return
            step = chunk.matrix("step")[:, own][:, 0].astype(np.int64)
            values = {name: chunk.matrix(name)[:, own].astype(np.float64) for name in columns}
            if held and held[-1][0] != chunk.epoch:
                yield _joined(held)
                held = []
            held.append((chunk.epoch, step, values))
        if held:
            yield _joined(held)


def _joined(held: list[tuple[int, NDArray[np.int64], dict[str, NDArray[np.float64]]]]) -> Steps:
    names = held[0][2]
    return Steps(
        held[0][0],
        np.concatenate([step for _, step, _ in held]),
        {name: np.concatenate([values[name] for _, _, values in held]) for name in names},
    )


def recorded_runs(study: Study) -> tuple[RecordedRun, ...]:
    """The used runs with samples on disk, in the order of the card's schemes."""
    found = [
        RecordedRun(pair, scheme, seed, paths)
        for pair, scheme, seed, folder in used_folders(study)
        if epoch_parts((paths := RunPaths(folder)).samples)
    ]
    order = {scheme: at for at, scheme in enumerate(study.card.schemes)}
    return tuple(sorted(found, key=lambda r: (r.pair, order.get(r.scheme, len(order)), r.seed)))
