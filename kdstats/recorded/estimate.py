"""One pass over a run's records: covariance, published statistics, T. stddev and components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.estimators.comoments import Comoments, within
from kdstats.estimators.covariance import LEAST_OBSERVATIONS, CovarianceEstimate, wang2022_v3
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.identity import VarianceComponents, components_of
from kdstats.estimators.published import V3_ENTRIES, V3_OBSERVATIONS, v3_sets
from kdstats.recorded.find import RunIdentity, check_done, identify
from kdstats.recorded.images import ImageTable
from kdstats.recorded.pools import pool_estimates
from kdstats.recorded.steps import Chunk, full_steps
from kdstats.records.arrow import open_part
from kdstats.records.paths import RunPaths

COLUMNS = ("sample_id", "ts_ce", "t_entropy")
ROUNDING = 1e-3
"""Nats by which half-precision losses of sure predictions may lie below 0, which they never do exactly."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stretch of a run gives: all of its epochs, or one.

    Attributes:
        covariance: Of the teacher–student cross-entropy, an observation being a full step, within epochs; None with
            fewer than 5 steps.
        components: By identity of the images; None where they cannot be had.
        teacher_entropy: Mean teacher entropy of the views (of the originals where there are none), nats.
        mean: Mean cross-entropy of all inputs, nats.
    """

    covariance: CovarianceEstimate | None
    components: VarianceComponents | None
    teacher_entropy: float
    mean: float


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """Everything estimated of one run.

    Attributes:
        paths: Its files.
        run: What it is.
        epochs: Epochs used for what the student takes part in.
        whole: Over these epochs.
        by_epoch: Epoch → the same of it alone; empty where it was not asked for.
        t_stddev: Of the logged pools of all recorded epochs; None with fewer than 5 pools, or where none varies.
        cov1: ``check_ce_var_v2``'s mean of cov1 over steps.
        wang2022_v3: ``check_ce_var_v3`` on sets of 6,400 values, short steps dropped; None with fewer than 5 sets.
        wang2022_v3_teacher: The same of the teacher's entropy (published as "Cov_approx").
        v3_sets: Observations behind the two.
        rows: Rows read.
        inputs: Originals and views of a full step.
        thinning: Components use every how-many-th image.
        notes: What could not be estimated, and why.
    """

    paths: RunPaths
    run: RunIdentity
    epochs: tuple[int, ...]
    whole: Measured
    by_epoch: dict[int, Measured]
    t_stddev: Estimate | None
    cov1: Estimate | None
    wang2022_v3: float | None
    wang2022_v3_teacher: float | None
    v3_sets: int
    rows: int
    inputs: tuple[int, int]
    thinning: int
    notes: tuple[str, ...]

    @property
    def definition(self) -> str:
        """What an observation is; values of unlike definitions are not compared."""
        originals, views = self.inputs
        return f"ce[step={originals}+{views};T=1;draws={self.run.draws or 'unknown'};within epochs]"


def estimate_run(
    paths: RunPaths,
    epochs: Sequence[int],
    *,
    method: str = "anova",
    confidence: float = 0.95,
    components: bool = True,
    by_epoch: bool = False,
) -> RunEstimate:
    """Reads the run's samples and pools once each.

    Memory: one row group, 32 vectors per epoch, and the table of images
    (:data:`~kdstats.recorded.images.MOST_CELLS`).

    Args:
        paths: A complete run.
        epochs: Recorded epochs to use, rising.
        method: ``anova`` or ``reml``, for the components.
        confidence: Nominal coverage.
        components: Whether to tie rows to images at all.
        by_epoch: Also each epoch alone.

    Raises:
        MissingError: The run is absent, incomplete, damaged or foreign, or did not record these epochs.
        CheckError: NaN, infinity or negative numbers in the losses, negative ids, or rows of a step that do not stand
            together.
    """
    run = identify(paths)
    reading = read_samples(paths, epochs, components=components)
    notes = list(reading.notes)
    alone = {epoch: reading.measured([epoch], "anova", confidence, []) for epoch in epochs if by_epoch}
    whole = reading.measured(epochs, method, confidence, notes)
    definition = f"draws={run.draws}" if run.draws else ""
    pools = pool_estimates(paths, definition=definition, confidence=confidence)
    if pools.why:
        notes.append(pools.why)
    v3 = [_v3(reading.first[name], notes if name == "ts_ce" else []) for name in ("ts_ce", "t_entropy")]
    return RunEstimate(
        paths,
        run,
        tuple(epochs),
        whole,
        alone,
        pools.t_stddev,
        pools.cov1,
        v3[0],
        v3[1],
        reading.v3_observations,
        reading.rows,
        reading.inputs,
        reading.table.thinning if reading.table else 1,
        tuple(dict.fromkeys(notes)),
    )


def read_samples(paths: RunPaths, epochs: Sequence[int], *, components: bool = True) -> Reading:
    """The one pass over the samples; see :func:`estimate_run`."""
    reading = Reading(paths, epochs, components)
    for chunk in full_steps(paths, COLUMNS if components else COLUMNS[1:], epochs=epochs):
        reading.add(chunk)
    return reading


class Reading:
    """What one pass gathers."""

    def __init__(self, paths: RunPaths, epochs: Sequence[int], components: bool) -> None:
        self.paths, self.epochs = paths, list(epochs)
        self.states = {epoch: Comoments() for epoch in epochs}
        # Per epoch: originals, views, sum of the cross-entropy, of the teacher's entropy over originals and over views.
        self.sums = {epoch: np.zeros(5) for epoch in epochs}
        self.first: dict[str, list[NDArray[np.float64]]] = {"ts_ce": [], "t_entropy": []}
        self.table: ImageTable | None = None
        self.inputs = (0, 0)
        self.notes: list[str] = []
        self._components = components

    @property
    def rows(self) -> int:
        """Rows read."""
        return int(sum(s[0] + s[1] for s in self.sums.values()))

    @property
    def v3_observations(self) -> int:
        """Observations of the v3 preset among the steps kept."""
        steps = self.first["ts_ce"]
        per_set = -(-V3_ENTRIES // sum(self.inputs)) if steps else 1
        return min(len(steps) // per_set, V3_OBSERVATIONS)

    def add(self, chunk: Chunk) -> None:
        """A chunk of one epoch."""
        if not sum(self.inputs):
            self._begin(chunk)
        matrix = chunk.matrix("ts_ce")
        if len(matrix) and matrix.shape[1] > 1:
            self.states[chunk.epoch].update(matrix)
        self._count(chunk)
        room = -(-V3_ENTRIES // sum(self.inputs)) * V3_OBSERVATIONS - len(self.first["ts_ce"])
        if room > 0:
            for name, kept in self.first.items():
                kept.extend(chunk.matrix(name)[:room])
        if self.table is not None:
            rows = chunk.rows
            if int(rows["sample_id"].min()) < 0:
                raise CheckError(
                    f"{self.paths.root}, epoch {chunk.epoch}: sample_id {int(rows['sample_id'].min())}; ids are 0 or more"
                )
            self.table.add(chunk.epoch, rows["sample_id"], rows["view"], rows["step"], rows["ts_ce"])

    def _begin(self, chunk: Chunk) -> None:
        self.inputs = chunk.pattern.inputs
        parts = check_done(self.paths)
        rows = sum(self._rows_of(epoch, parts) for epoch in self.epochs)
        views = 2 if self.inputs[1] else 1
        if self._components and not self.inputs[0]:
            self.notes.append("no originals were recorded: no components")
        elif self._components:
            self.table = ImageTable(rows, self.epochs, views)

    def _rows_of(self, epoch: int, parts: dict[str, Any]) -> int:
        path = self.paths.sample_part(epoch)
        said = parts[path.relative_to(self.paths.root).as_posix()].get("rows")
        with open_part(path, "samples") as (file, _):
            rows = int(file.metadata.num_rows)
        if said != rows:
            raise MissingError(f"{path} has {rows} rows, {self.paths.done} says {said}")
        return rows

    def _count(self, chunk: Chunk) -> None:
        rows, sums = chunk.rows, self.sums[chunk.epoch]
        number = int(np.count_nonzero(rows["view"]))
        # Sums of a chunk in the type of the records (numpy adds pairwise: 1e-7), sums of chunks in float64.
        losses, entropies = rows["ts_ce"], rows["t_entropy"]
        loss, entropy = float(losses.sum()), float(entropies.sum())
        of_views = float(entropies @ rows["view"].astype(entropies.dtype))
        for name, total in (("ts_ce", loss), ("t_entropy", entropy)):
            if not math.isfinite(total):
                raise CheckError(f"{self.paths.root}, epoch {chunk.epoch}: {name} holds NaN or infinity")
            least = float(rows[name].min())
            if least < -ROUNDING:
                raise CheckError(
                    f"{self.paths.root}, epoch {chunk.epoch}: {name} goes down to {least:.3g} nats; it is never below 0"
                )
        sums += (len(losses) - number, number, loss, entropy - of_views, of_views)

    def measured(self, epochs: Sequence[int], method: str, confidence: float, notes: list[str]) -> Measured:
        """The estimates of some of the epochs."""
        sums = sum((self.sums[epoch] for epoch in epochs), np.zeros(5))
        states = [self.states[epoch] for epoch in epochs if self.states[epoch].observations > 1]
        covariance = None
        steps = sum(state.observations for state in states)
        if steps >= LEAST_OBSERVATIONS and steps - len(states) >= 2:
            covariance = within(states, confidence)
        else:
            notes.append(f"{steps} full steps: no covariance")
        found = None
        if self.table is not None:
            try:
                found = components_of(self.table.layout(epochs), method=method, confidence=confidence)
            except (UsageError, CheckError) as error:
                notes.append(f"no components: {error}")
        side = 1 if sums[1] else 0
        rows = sums[0] + sums[1]
        return Measured(
            covariance,
            found,
            float(sums[3 + side] / sums[side]) if rows else math.nan,
            float(sums[2] / rows) if rows else math.nan,
        )


def _v3(steps: list[NDArray[np.float64]], notes: list[str]) -> float | None:
    if not steps:
        return None
    u = v3_sets(steps)
    if len(u) < LEAST_OBSERVATIONS:
        notes.append(
            f"{len(steps)} full steps make {len(u)} set{'s' * (len(u) != 1)} of {V3_ENTRIES:,} values: too few for "
            f"wang2022_v3, the released statistic (it needs {LEAST_OBSERVATIONS} and is published with {V3_OBSERVATIONS})"
        )
        return None
    try:
        return wang2022_v3(u)
    except CheckError as error:
        notes.append(f"no wang2022_v3: {error}")
        return None
