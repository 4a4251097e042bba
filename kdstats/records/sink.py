"""From reduced chunks to the parts of one epoch: checks, row building, two Parquet files.

Runs in the Recorder's writer thread. A chunk is checked before any row of it reaches a file, and the files
of an epoch appear only when the whole epoch passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kdstats.errors import CheckError
from kdstats.records import schema as sc
from kdstats.records.arrow import Header, arrow_schema, view_array
from kdstats.records.buffers import Arrays
from kdstats.records.paths import RunPaths
from kdstats.records.writer import PartWriter

SUM_TOLERANCE = 1e-4
"""How far a mean probability vector may sum from 1; float32 stays within 1e-6."""

_POOL_COLUMNS = ("epoch", "step", "n", "view", "mean_prob")


@dataclass(frozen=True, slots=True)
class Segment:
    """One batch within a chunk."""

    step: int
    view: int
    rows: int
    has_kd: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive batches of one epoch, reduced or being reduced."""

    epoch: int
    segments: tuple[Segment, ...]
    arrays: Callable[[], Arrays]


class EpochSink:
    """Writes the chunks of one epoch to its parts of ``samples`` and ``pools``."""

    def __init__(self, paths: RunPaths, epoch: int, classes: int, dtype: str, digest: str, meta: Any) -> None:
        self.epoch, self.classes, self._half = epoch, classes, dtype == "float16"
        self._writers: list[PartWriter] = []
        samples = Header(sc.SAMPLES.version, digest, meta)
        pools = Header(sc.POOLS.version, digest, meta)
        self._samples = arrow_schema("samples", sc.SAMPLES.names, dtype=dtype, header=samples)
        self._pools = arrow_schema("pools", _POOL_COLUMNS, classes=classes, header=pools)
        try:
            # In the order of committing: an epoch counts as recorded once its samples are there.
            self._writers.append(PartWriter(paths.pool_part(epoch), self._pools))
            self._writers.append(PartWriter(paths.sample_part(epoch), self._samples))
        except BaseException:
            self.abort()
            raise

    def write(self, chunk: Chunk) -> None:
        """Check a chunk and add it.

        Raises:
            CheckError: NaN or infinite values, labels or ids out of range; names epoch, step and sample ids.
            KdstatsError: The disk is full …
        """
        arrays = chunk.arrays()
        rows = [segment.rows for segment in chunk.segments]
        step = np.repeat(np.array([segment.step for segment in chunk.segments], np.int32), rows)
        view = np.repeat(np.array([segment.view for segment in chunk.segments], np.int8), rows)
        has_kd = np.repeat(np.array([segment.has_kd for segment in chunk.segments]), rows)
        measured = np.concatenate([arrays["losses"], arrays["s_loss_kd"][:, None]], 1)
        measured = measured.astype(np.float32, copy=False)
        check(self.epoch, self.classes, arrays, measured, has_kd, step, view)
        if self._half:
            with np.errstate(over="ignore"):
                measured = measured.astype(np.float16)
            _finite(self.epoch, arrays, measured, has_kd, step, view, " beyond float16 (65504): use float32")
        ts_ce, t_entropy, t_ce, s_ce, kd = np.ascontiguousarray(measured.T)
        epoch = np.full(len(step), self.epoch, np.int32)
        slot = np.concatenate([np.arange(n, dtype=np.int32) for n in rows])
        columns = [
            pa.array(arrays["sample_id"]),
            view_array(view),
            pa.array(arrays["partner_id"], mask=arrays["partner_id"] < 0),
            pa.array(arrays["lam"], mask=np.isnan(arrays["lam"])),
            pa.array(arrays["label"].astype(np.int32)),
            *(pa.array(column) for column in (epoch, step, slot, ts_ce, t_entropy, t_ce, s_ce)),
            pa.array(kd, mask=~has_kd),
        ]
        self._writers[1].write(pa.RecordBatch.from_arrays(columns, schema=self._samples))
        self._writers[0].write(self._pool_batch(chunk.segments, arrays["mean_prob"].astype(np.float32)))

    def _pool_batch(self, segments: Sequence[Segment], mean_prob: NDArray[np.float32]) -> Any:
        off = np.abs(mean_prob.sum(1, dtype=np.float64) - 1)
        if not (off <= SUM_TOLERANCE).all():
            bad = segments[int(np.argmax(off))]
            raise CheckError(
                f"epoch {self.epoch}, step {bad.step}, view {sc.VIEWS[bad.view]!r}: the teacher's mean "
                f"probabilities sum to 1 ± {off.max():.2g}, more than {SUM_TOLERANCE:g}."
            )
        ints = [[self.epoch] * len(segments), [s.step for s in segments], [s.rows for s in segments]]
        columns = [pa.array(values, pa.int32()) for values in ints]
        columns.append(view_array(np.array([s.view for s in segments], np.int8)))
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(mean_prob.ravel()), self.classes))
        return pa.RecordBatch.from_arrays(columns, schema=self._pools)

    def commit(self, pools: Path | None = None, samples: Path | None = None) -> None:
        """Put both files in place, as the parts of the epoch or under other names.

        Raises:
            KdstatsError: They cannot be written.
        """
        try:
            for writer in self._writers:
                writer.finish()  # both or none: a full disk shows itself here
            for writer, target in zip(self._writers, (pools, samples), strict=True):
                writer.commit(target)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop the epoch; parts already in place stay."""
        for writer in self._writers:
            writer.abort()


def check(
    epoch: int,
    classes: int,
    arrays: Arrays,
    measured: NDArray[Any],
    has_kd: NDArray[np.bool_],
    step: NDArray[np.int32],
    view: NDArray[np.int8],
) -> None:
    """Check a chunk's rows; raises ``CheckError`` naming epoch, step, view and ids of the first bad batch."""
    label, ids, lam = arrays["label"], arrays["sample_id"], arrays["lam"]
    _refuse(epoch, arrays, (label < 0) | (label >= classes), step, view, f"labels outside 0 … {classes - 1}")
    _refuse(epoch, arrays, ids < 0, step, view, "negative sample ids")
    _refuse(epoch, arrays, (lam < 0) | (lam > 1), step, view, "lam outside 0 … 1")
    _finite(epoch, arrays, measured, has_kd, step, view, " NaN or infinite")


def _finite(
    epoch: int,
    arrays: Arrays,
    measured: NDArray[Any],
    has_kd: NDArray[np.bool_],
    step: NDArray[np.int32],
    view: NDArray[np.int8],
    what: str,
) -> None:
    bad = ~np.isfinite(measured)
    bad[:, -1] &= has_kd
    if bad.any():
        names = [name for name, hit in zip((*sc.LOSSES, "s_loss_kd"), bad.any(0), strict=True) if hit]
        _refuse(epoch, arrays, bad.any(1), step, view, f"{', '.join(names)}{what}")


def _refuse(
    epoch: int,
    arrays: Arrays,
    bad: NDArray[np.bool_],
    step: NDArray[np.int32],
    view: NDArray[np.int8],
    what: str,
) -> None:
    if not bad.any():
        return
    first = int(np.argmax(bad))
    here = bad & (step == step[first]) & (view == view[first])
    ids = arrays["sample_id"][here]
    shown = ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
    more = int(bad.sum() - here.sum())
    raise CheckError(
        f"epoch {epoch}, step {step[first]}, view {sc.VIEWS[view[first]]!r}: {what} for {len(ids)} images "
        f"(sample ids {shown})"
        + (f"; {more} more rows after it" if more else "")
        + ". The epoch was not written."
    )
