"""The Recorder: the door through which any training loop leaves per-image losses and mean probabilities.

``add`` copies the logits of a batch into a preallocated buffer and returns; losses are computed once per
chunk of batches, on the device of the logits and without waiting for it, and written by a background thread.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from kdstats.errors import UsageError, unknown
from kdstats.records import buffers, held
from kdstats.records import schema as sc
from kdstats.records.claim import claim
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.sink import Chunk, EpochSink, Segment
from kdstats.records.worker import Worker
from kdstats.records.writer import write_done

_CHUNK_BYTES = 4 << 20  # per logits buffer; small enough to stay near the cache, large enough to amortise
_IDENTITY = ("teacher", "student", "scheme", "seed")


class Recorder:
    """Records a training run into ``run_dir``.

    Five lines in a loop of your own (``loader`` yields images, labels and the images' ids in the data set)::

        with Recorder("runs/mine", classes=100, meta={"scheme": "cutmix", "seed": 0}) as rec:
            for epoch in range(epochs):
                rec.start_epoch(epoch)
                for step, (images, labels, ids) in enumerate(loader):
                    ...  # teacher_logits, student_logits = your forward passes; your update
                    rec.add(step=step, sample_id=ids, labels=labels,
                            teacher_logits=teacher_logits, student_logits=student_logits)
                rec.end_epoch()

    Afterwards ``kdstats.records.scanner.scan(["runs/mine"])`` reads the rows and ``read_pools`` the means. A
    step with originals and views is two calls of ``add`` with the same ``step`` and ``view="original"`` and
    ``view="augmented"``. At a clean end of the block ``done.json`` is written; after an error every epoch
    that was ended is kept and ``resume=True`` goes on.

    Args:
        run_dir: Where to record; any local directory, or the ``RunPaths`` of a study's run.
        classes: Number of classes C.
        every: Record the epochs that are a multiple of this number; others cost nothing.
        dtype: ``float32``, or ``float16`` for half the volume at a relative error of 5e-4.
        meta: What identifies the run: ``teacher, student, scheme, seed, digest`` and anything else that is
            plain JSON. Without ``digest`` a random one tells this run from all others.
        resume: Go on with a run that was cut short. Epochs after the first one started now are dropped.
        overwrite: Delete the records that are there.
        finish: Write ``done.json`` on :meth:`close`. With ``False`` the caller does so, after files of its
            own.

    Raises:
        UsageError: Arguments make no sense, or ``run_dir`` already holds records.
    """

    def __init__(
        self,
        run_dir: str | Path | RunPaths,
        *,
        classes: int,
        every: int = 1,
        dtype: str = "float32",
        meta: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        finish: bool = True,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise unknown("record dtype", str(dtype), ("float32", "float16"))
        for name, value in (("classes", classes), ("every", every)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} is {value!r}; it must be a whole number of 1 or more.")
        self.paths = run_dir if isinstance(run_dir, RunPaths) else RunPaths(Path(run_dir))
        self.classes, self.every, self.dtype, self._finish = classes, every, dtype, finish
        try:
            self.meta: dict[str, Any] = json.loads(json.dumps(dict(meta or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UsageError(f"meta must be plain JSON: {error}.") from error
        settings = {"classes": classes, "every": every, "dtype": dtype}
        self.digest, self._resumed = claim(
            self.paths,
            settings,
            self.meta,
            str(self.meta.get("digest") or secrets.token_hex(16)),
            resume=resume,
            overwrite=overwrite,
        )
        identity = {name: self.meta[name] for name in _IDENTITY if name in self.meta}
        self._header = {"identity": identity, "meta": self.meta} | settings
        self._epoch: int | None = None
        self._last: int | None = None
        self._seen: set[tuple[int, int]] = set()
        self._buffer: buffers.Buffer | None = None
        self._segments: list[Segment] = []
        self._rows = 0
        self._held: list[held.Held] = []
        self._first = 0
        self._sink: EpochSink | None = None
        self._worker = Worker(f"recording into {self.paths.root}", self._drop)
        self._closed = False

    @property
    def recording(self) -> bool:
        """Whether the epoch that was started is one of those recorded."""
        return self._epoch is not None and self._epoch % self.every == 0

    def start_epoch(self, epoch: int, step: int = 0) -> None:
        """Begin ``epoch`` (0 or more, rising); one that is still open is ended first.

        Args:
            epoch: Its number.
            step: With ``resume``: go on within the epoch, after the rows that :meth:`hold` kept of the steps before
                ``step``.

        Raises:
            UsageError: The number is not above the last one.
            MissingError: The rows of the steps before ``step`` are not all there.
            KdstatsError: Recording failed in the background.
        """
        self._ready()
        if self._epoch is not None:
            self.end_epoch()
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise UsageError(f"epoch is {epoch!r}; it must be a whole number of 0 or more.")
        if self._last is not None and epoch <= self._last:
            raise UsageError(f"epoch {epoch} follows epoch {self._last}; epochs must rise.")
        pieces = held.keep_before(self.paths, epoch, step if epoch % self.every == 0 else 0)
        if self._resumed:  # what lies after the point of return belongs to a future that is trained anew
            for folder in (self.paths.samples, self.paths.pool_parts):
                for number, path in epoch_parts(folder):
                    if number > epoch or (step and number == epoch):
                        path.unlink()
            self._resumed = False
        self._epoch = self._last = epoch
        self._held = pieces
        self._first = step
        self._seen.clear()

    def add(
        self,
        *,
        step: int,
        sample_id: Any,
        labels: Any,
        teacher_logits: Any,
        student_logits: Any,
        view: str = "original",
        partner_id: Any = None,
        lam: Any = None,
        loss_kd: Any = None,
    ) -> None:
        """Record one batch of one view.

        Args:
            step: Number of the training step, a Python integer; once per epoch and view.
            sample_id: [n] integers, the images' identity in the data set, 0 or more.
            labels: [n] integers, the classes of ``sample_id``.
            teacher_logits: [n, C], any floating type, PyTorch or NumPy, before any temperature.
            student_logits: [n, C], likewise, on the same images.
            view: ``original`` or ``augmented``.
            partner_id: [n] integers, the image mixed in; negative where there is none.
            lam: [n] or one number, share of ``sample_id`` in the view; NaN where unmixed.
            loss_kd: [n] per-image distillation loss (reduction "none") in nats.

        Raises:
            UsageError: Shapes or types do not fit, no epoch was started, or the step was recorded before.
            CheckError: An earlier batch held NaN or infinite values (found once per chunk).
            KdstatsError: Recording failed in the background, for instance on a full disk.
        """
        self._ready()
        if self._epoch is None:
            raise UsageError("call start_epoch(number) before add.")
        if not self.recording:
            return
        code = sc.view_code(view)
        n = self._check(step, teacher_logits, student_logits)
        columns = {
            "sample_id": _vector("sample_id", sample_id, n, "iu"),
            "label": _vector("labels", labels, n, "iu"),
            "partner_id": None if partner_id is None else _vector("partner_id", partner_id, n, "iu"),
            "lam": lam if lam is None or isinstance(lam, float | int) else _vector("lam", lam, n, "f"),
            "s_loss_kd": None if loss_kd is None else _vector("loss_kd", loss_kd, n, "f"),
        }
        if step < self._first:
            raise UsageError(
                f"step {step} of epoch {self._epoch} lies before step {self._first}, which is held."
            )
        if (step, code) in self._seen:
            raise UsageError(f"step {step} of epoch {self._epoch} was recorded before for view {view!r}.")
        self._seen.add((step, code))
        buffer = self._buffer
        if buffer is None or not buffer.fits(teacher_logits, student_logits) or self._rows + n > buffer.rows:
            buffer = self._next_buffer(n, teacher_logits, student_logits)
        buffer.put(self._rows, n, teacher_logits, student_logits, columns)
        self._segments.append(Segment(step, code, n, loss_kd is not None))
        self._rows += n

    def _check(self, step: int, teacher: Any, student: Any) -> int:
        if isinstance(step, bool) or not hasattr(step, "__index__") or buffers.is_torch(step):
            raise UsageError(
                f"step is {type(step).__name__}; it must be a whole number (a tensor would wait)."
            )
        for name, logits in (("teacher_logits", teacher), ("student_logits", student)):
            shape = getattr(logits, "shape", None)
            if shape is None or len(shape) != 2 or shape[1] != self.classes:
                got = "no array" if shape is None else f"of shape {list(shape)}"
                raise UsageError(f"{name} is {got}; expected [n, {self.classes}].")
        if teacher.shape[0] != student.shape[0] or not teacher.shape[0]:
            raise UsageError(
                f"teacher_logits has {teacher.shape[0]} rows and student_logits {student.shape[0]}; expected "
                "the same number, 1 or more."
            )
        return int(teacher.shape[0])

    def _next_buffer(self, n: int, teacher: Any, student: Any) -> buffers.Buffer:
        self._flush()
        buffer = self._buffer
        if buffer is None or not buffer.fits(teacher, student) or buffer.rows < n:
            fair = max(256, min(4096, _CHUNK_BYTES // (4 * self.classes)))
            buffer = self._buffer = buffers.make(max(n, fair), teacher, student)
        return buffer

    def _flush(self) -> None:
        """Reduce what is waiting and hand it to the writer."""
        if not self._segments or self._buffer is None or self._epoch is None:
            return
        segments, self._segments, self._rows = tuple(self._segments), [], 0
        arrays = self._buffer.take([segment.rows for segment in segments])
        chunk = Chunk(self._epoch, segments, arrays)
        self._worker.submit(lambda: self._write(chunk))

    def hold(self, step: int) -> None:
        """Put the rows of the open epoch before ``step`` on disk, so that a checkpoint may be written within it.

        ``start_epoch(epoch, step)`` of a resumed Recorder goes on from here. Costs one small file per call and
        table; readers see the epoch when it has ended.

        Raises:
            UsageError: No epoch was started, or nothing was recorded since the last hold.
            KdstatsError: The disk is full …; the epoch is lost back to the last hold.
        """
        self._ready()
        if self._epoch is None:
            raise UsageError("hold without start_epoch.")
        if step <= self._first:
            raise UsageError(f"hold({step}): the rows before step {self._first} are held already.")
        if not self.recording:
            self._first = step
            return
        self._flush()
        piece = held.Held(self._epoch, self._first, step)
        self._worker.submit(lambda: self._keep(piece))
        self._worker.join()
        self._ready()
        self._held.append(piece)
        self._first = step

    def end_epoch(self) -> None:
        """End the epoch: check it, write its parts and wait until they are on the disk.

        Once it returns, the epoch survives a kill, so a checkpoint may be written.

        Raises:
            UsageError: No epoch was started.
            CheckError: NaN or infinite values, labels out of range …; the epoch is not written.
            KdstatsError: The disk is full …; the epoch is not written.
        """
        self._ready()
        if self._epoch is None:
            raise UsageError("end_epoch without start_epoch.")
        self._flush()
        pieces, epoch, stop = self._held, self._epoch, 1 + max((s for s, _ in self._seen), default=-1)
        self._epoch, self._held = None, []
        if pieces:
            if stop > self._first:
                pieces.append(held.Held(epoch, self._first, stop))
            self._worker.submit(lambda: self._join(pieces))
        else:
            self._worker.submit(self._commit)
        self._worker.join()
        self._ready()

    def close(self) -> None:
        """End an open epoch and, unless ``finish=False``, write ``done.json``; raises as ``end_epoch``."""
        if self._closed:
            return
        try:
            self._ready()
            if self._epoch is not None:
                self.end_epoch()
        except BaseException:
            self.abort()
            raise
        self._stop()
        held.drop(self.paths)
        if self._finish:
            write_done(self.paths)

    def abort(self) -> None:
        """Stop without finishing: the open epoch is dropped, ended ones stay, no ``done.json`` is written."""
        if not self._closed:
            self._worker.submit(self._drop)
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _ready(self) -> None:
        self._worker.raise_failure()
        if self._closed:
            raise UsageError("this Recorder is closed.")

    def _stop(self) -> None:
        self._closed = True
        self._worker.stop()
        self._buffer, self._segments, self._rows = None, [], 0

    # In the worker's thread:

    def _write(self, chunk: Chunk) -> None:
        if self._sink is None:
            args = (self.classes, self.dtype, self.digest, self._header)
            self._sink = EpochSink(self.paths, chunk.epoch, *args)
        self._sink.write(chunk)

    def _keep(self, piece: held.Held) -> None:
        """The open sink's rows become a piece."""
        if self._sink is not None:
            folder = self.paths.held
            self._sink.commit(piece.path(folder, "pools"), piece.path(folder, "samples"))
            self._sink = None

    def _join(self, pieces: list[held.Held]) -> None:
        self._keep(pieces[-1])
        held.join(self.paths, pieces)

    def _commit(self) -> None:
        if self._sink is not None:
            self._sink.commit()
            self._sink = None

    def _drop(self) -> None:
        if self._sink is not None:
            self._sink.abort()
            self._sink = None


def _vector(name: str, value: Any, n: int, kinds: str) -> Any:
    """``value`` if it is one number per image of the right kind; lists become arrays."""
    if buffers.is_torch(value):
        floating = value.is_floating_point()
    else:
        value = np.asarray(value)
        if value.dtype.kind not in "iuf":
            raise UsageError(f"{name} is of type {value.dtype}; expected numbers.")
        floating = value.dtype.kind == "f"
    if tuple(value.shape) != (n,):
        hint = ' (per image, reduction="none")' if name == "loss_kd" else ""
        raise UsageError(f"{name} is of shape {list(value.shape)}; expected [{n}]{hint}.")
    if floating and kinds == "iu":
        raise UsageError(f"{name} is of type {value.dtype}; expected integers.")
    return value
