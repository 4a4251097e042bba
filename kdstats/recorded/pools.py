"""The logged mean probabilities of a run: T. stddev of its pools, and the v2 statistic of its steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.layout import BATCHES_PER_POOL, few_pools
from kdstats.estimators.published import MeanOfBatches
from kdstats.estimators.tstddev import LEAST_POOLS, check_probabilities, t_stddev
from kdstats.records.paths import RunPaths
from kdstats.records.scanner import scan_pools


@dataclass(frozen=True, slots=True)
class PoolEstimates:
    """What the logged means give.

    Attributes:
        t_stddev: Over pools of five consecutive steps, originals and views, pools straddling epochs, with a note where
            an epoch holds few of them; None with fewer than 5 pools, or where they do not vary.
        why: Why there is no T. stddev; empty where there is one.
        cov1: Mean of ``check_ce_var_v2``'s cov1, exactly, because it follows from a step's mean alone.
        steps: Number of steps.
        classes: Number of classes.
    """

    t_stddev: Estimate | None
    why: str
    cov1: Estimate | None
    steps: int
    classes: int


def pool_estimates(
    paths: RunPaths, *, epochs: Collection[int] | None = None, definition: str = "", confidence: float = 0.95
) -> PoolEstimates:
    """Streams the run's pools; keeps one vector per five steps.

    Args:
        paths: The run.
        epochs: Only these; the teacher is fixed, so all of them measure the same.
        definition: What belongs to the definition besides the pool itself, for example ``draws=batch``.
        confidence: Nominal coverage.

    Raises:
        MissingError: The run is absent, incomplete or damaged.
        CheckError: Rows that do not sum to 1, or a mean of no images.
        UsageError: A file of ready-made pools.
    """
    stream = _Steps()
    for rows in scan_pools(paths, epochs=epochs):
        if "step" not in rows:
            raise UsageError(f"{paths.pools} holds ready-made pools; T. stddev is formed from steps here")
        try:
            stream.add(rows)
        except CheckError as error:
            raise CheckError(f"{paths.pools}: {error}") from None
    stream.close()
    found, size = stream.pools, stream.size
    views = "original+augmented" if stream.views > 1 else "original"
    label = (
        f"t_stddev[pool={BATCHES_PER_POOL}x{size};views={views};T=1;ddof=1{definition and f';{definition}'}]"
    )
    value, why = _value(found, confidence, label)
    if value is not None and (doubt := few_pools(stream.inputs / (stream.epochs * size * BATCHES_PER_POOL))):
        value = replace(value, notes=(*value.notes, doubt))
    return PoolEstimates(
        value,
        why and f"no T. stddev: {why}",
        stream.cov1.compute(confidence) if stream.cov1.count >= 5 else None,
        stream.cov1.count,
        stream.classes,
    )


def _value(pools: list[NDArray[np.float64]], confidence: float, label: str) -> tuple[Estimate | None, str]:
    """T. stddev, or why there is none; rows that are no probabilities are an error all the same."""
    if len(pools) < LEAST_POOLS:
        return (
            None,
            f"the recorded steps make {len(pools)} pool{'s' * (len(pools) != 1)} of {BATCHES_PER_POOL} steps, and a "
            f"spread over pools needs {LEAST_POOLS} of them",
        )
    means = check_probabilities(np.stack(pools), "pool means")
    try:
        return t_stddev(means, confidence=confidence, definition=label), ""
    except CheckError as error:  # a teacher that says the same of every pool, or of all but one
        return None, str(error)


class _Steps:
    """Sums of steps out of portions of rows, pools out of sums of steps."""

    def __init__(self) -> None:
        self.pools: list[NDArray[np.float64]] = []
        self.cov1 = MeanOfBatches()
        self.size, self.classes, self.views = 0, 0, 0
        self.inputs, self.epochs = 0, 0
        self._epoch = -1
        self._held: dict[str, NDArray[Any]] | None = None
        self._sums: list[NDArray[np.float64]] = []
        self._counts: list[int] = []

    def add(self, rows: dict[str, NDArray[Any]]) -> None:
        """A portion; its last step waits for the next portion."""
        if self._held is not None:
            rows = {name: np.concatenate([self._held[name], rows[name]]) for name in rows}
        if not len(rows["n"]):
            return
        if (rows["n"] < 1).any():
            bad = int(np.argmax(rows["n"] < 1))
            raise CheckError(
                f"pools: epoch {int(rows['epoch'][bad])}, step {int(rows['step'][bad])} is a mean of "
                f"{int(rows['n'][bad])} images; each is of 1 or more"
            )
        key = rows["epoch"].astype(np.int64) << 32 | rows["step"]
        cut = len(key) - int(np.argmax(key[::-1] != key[-1])) if (key != key[-1]).any() else 0
        self._held = {name: values[cut:] for name, values in rows.items()}
        if cut:
            self._take({name: values[:cut] for name, values in rows.items()}, key[:cut])

    def close(self) -> None:
        """The step that waits is the last one."""
        if self._held is not None and len(self._held["n"]):
            key = self._held["epoch"].astype(np.int64) << 32 | self._held["step"]
            self._take(self._held, key)
        self._held = None

    def _take(self, rows: dict[str, NDArray[Any]], key: NDArray[np.int64]) -> None:
        starts = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
        weight = rows["n"].astype(np.float64)
        sums = np.add.reduceat(rows["mean_prob"] * weight[:, None], starts)
        counts = np.add.reduceat(rows["n"].astype(np.int64), starts)
        self.size, self.classes = max(self.size, int(counts.max())), sums.shape[1]
        self.inputs += int(counts.sum())
        epochs = rows["epoch"][starts]
        self.epochs += int(epochs[0] != self._epoch) + int(np.count_nonzero(np.diff(epochs)))
        self._epoch = int(epochs[-1])
        self.views = max(self.views, len(np.unique(rows["view"])))
        self.cov1.update((sums / counts[:, None]).var(axis=1, ddof=1))
        self._sums += list(sums)
        self._counts += counts.tolist()
        whole = len(self._sums) // BATCHES_PER_POOL * BATCHES_PER_POOL
        for at in range(0, whole, BATCHES_PER_POOL):
            pool = slice(at, at + BATCHES_PER_POOL)
            self.pools.append(np.sum(self._sums[pool], axis=0) / sum(self._counts[pool]))
        self._sums, self._counts = self._sums[whole:], self._counts[whole:]
