"""Where logits wait between two flushes, and the mathematics on them: one class for PyTorch, one for NumPy.

``put`` copies a batch into preallocated rows (so the caller may change its tensors afterwards) and ``take``
reduces the rows to four losses per image and one mean probability vector per batch. On CUDA nothing waits for
the device: ``take`` returns a function that waits for the copies, called in the writer's thread.

With log-probabilities l = log softmax at T = 1: ``ts_ce = −Σ_c exp(l_t) l_s``, ``t_entropy = −Σ_c exp(l_t)
l_t``, ``t_ce = −l_t[label]``, ``s_ce = −l_s[label]``, in float32 or, given float64 logits, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kdstats.records.schema import NULL_ID

Arrays = dict[str, NDArray[Any]]
"""``sample_id, partner_id, label`` int64 [n]; ``lam, s_loss_kd`` float [n]; ``losses`` [n, 4] in the order of
:data:`kdstats.records.schema.LOSSES`; ``mean_prob`` [batches, C]."""

ROW_COLUMNS = ("sample_id", "partner_id", "label", "lam", "s_loss_kd")
_ABSENT = {"partner_id": NULL_ID, "lam": float("nan"), "s_loss_kd": float("nan")}


class Buffer(Protocol):
    """Rows waiting to be reduced."""

    rows: int

    def fits(self, teacher: Any, student: Any) -> bool:
        """Whether logits like these can be held without loss of precision."""
        ...

    def put(self, at: int, n: int, teacher: Any, student: Any, columns: dict[str, Any]) -> None:
        """Copy a batch of ``n`` images into rows ``at … at + n − 1``."""
        ...

    def take(self, counts: Sequence[int]) -> Callable[[], Arrays]:
        """Reduce the first ``sum(counts)`` rows, batch by batch; the buffer may be filled again at once."""
        ...


def is_torch(value: Any) -> bool:
    """Whether ``value`` is a PyTorch tensor, without importing PyTorch."""
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(value).__mro__)


def make(rows: int, teacher: Any, student: Any) -> Buffer:
    """A buffer of ``rows`` rows for logits like these (``[n, C]``, PyTorch or NumPy)."""
    if is_torch(teacher) or is_torch(student):
        return TorchBuffer(rows, teacher, student)
    return NumpyBuffer(rows, teacher, student)


class NumpyBuffer:
    """Rows held and reduced by NumPy."""

    def __init__(self, rows: int, teacher: Any, student: Any) -> None:
        self.rows = rows
        self._dtype = self._wanted(teacher, student)
        shape = (rows, int(teacher.shape[1]))
        self._teacher, self._student = np.empty(shape, self._dtype), np.empty(shape, self._dtype)
        self._columns: Arrays = {
            name: np.empty(rows, np.float32 if name in ("lam", "s_loss_kd") else np.int64)
            for name in ROW_COLUMNS
        }

    @staticmethod
    def _wanted(teacher: Any, student: Any) -> type[np.floating[Any]]:
        wide = any(np.asarray(x).dtype == np.float64 for x in (teacher, student))
        return np.float64 if wide else np.float32

    def fits(self, teacher: Any, student: Any) -> bool:
        """Whether these logits are NumPy's and no wider than the buffer."""
        if is_torch(teacher) or is_torch(student):
            return False
        return self._dtype is np.float64 or self._wanted(teacher, student) is np.float32

    def put(self, at: int, n: int, teacher: Any, student: Any, columns: dict[str, Any]) -> None:
        """See :meth:`Buffer.put`."""
        self._teacher[at : at + n] = teacher
        self._student[at : at + n] = student
        for name, buffer in self._columns.items():
            value = columns[name]
            if value is None:
                value = _ABSENT[name]
            elif is_torch(value):
                value = value.detach().cpu().numpy()
            buffer[at : at + n] = value

    def take(self, counts: Sequence[int]) -> Callable[[], Arrays]:
        """See :meth:`Buffer.take`."""
        n = sum(counts)
        t, s = _log_softmax(self._teacher[:n]), _log_softmax(self._student[:n])
        p = np.exp(t)
        out = {name: column[:n].copy() for name, column in self._columns.items()}
        picked = np.clip(out["label"], 0, t.shape[1] - 1)[:, None]  # out of range is reported by the sink
        with np.errstate(invalid="ignore"):  # infinite logits give 0 · inf; the sink names the images
            ts_ce, t_entropy = -(p * s).sum(1), -(p * t).sum(1)
        t_ce, s_ce = (-np.take_along_axis(x, picked, 1)[:, 0] for x in (t, s))
        out["losses"] = np.stack([ts_ce, t_entropy, t_ce, s_ce], 1)
        out["mean_prob"] = (
            np.add.reduceat(p, np.cumsum([0, *counts[:-1]])) / np.asarray(counts, p.dtype)[:, None]
        )
        return lambda: out


def _log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


class TorchBuffer:
    """Rows held and reduced on the device of the logits."""

    def __init__(self, rows: int, teacher: Any, student: Any) -> None:
        import torch

        self._torch = torch
        self.rows = rows
        first = student if is_torch(student) else teacher
        self._device = first.device
        self._dtype = self._wanted(teacher, student)
        # A tensor made under a caller's inference_mode could not be written to outside of it.
        with torch.inference_mode(False):
            shape = (rows, int(first.shape[1]))
            self._teacher = torch.empty(shape, dtype=self._dtype, device=self._device)
            self._student = torch.empty(shape, dtype=self._dtype, device=self._device)
            # Fresh temporaries of this size would cost more in page faults than the arithmetic itself.
            self._work = (torch.empty_like(self._teacher), torch.empty_like(self._teacher))
        self._columns: dict[str, Any] = {}

    def _wanted(self, teacher: Any, student: Any) -> Any:
        wide = any(str(x.dtype).endswith("float64") for x in (teacher, student))
        return self._torch.float64 if wide else self._torch.float32

    def fits(self, teacher: Any, student: Any) -> bool:
        """Whether these logits are PyTorch's, on this device, and no wider than the buffer."""
        same = all(not is_torch(x) or x.device == self._device for x in (teacher, student))
        torch_given = is_torch(teacher) or is_torch(student)
        wide_enough = self._dtype == self._torch.float64 or self._wanted(teacher, student) == self._dtype
        return same and torch_given and wide_enough

    def _column(self, name: str, like: Any) -> Any:
        """The buffer of a column, living where its first value lives: moving it would wait for the device."""
        if name not in self._columns:
            torch = self._torch
            dtype = torch.float32 if name in ("lam", "s_loss_kd") else torch.int64
            device = like.device if is_torch(like) else "cpu"
            with torch.inference_mode(False):
                fill = _ABSENT.get(name, 0)
                self._columns[name] = torch.full((self.rows,), fill, dtype=dtype, device=device)
        return self._columns[name]

    def put(self, at: int, n: int, teacher: Any, student: Any, columns: dict[str, Any]) -> None:
        """See :meth:`Buffer.put`."""
        torch = self._torch
        with torch.no_grad():
            self._teacher[at : at + n].copy_(torch.as_tensor(teacher))
            self._student[at : at + n].copy_(torch.as_tensor(student))
            for name in ROW_COLUMNS:
                value = columns[name]
                if value is None:
                    if name in self._columns:
                        self._columns[name][at : at + n].fill_(_ABSENT[name])
                elif isinstance(value, float | int):
                    self._column(name, value)[at : at + n].fill_(value)
                else:
                    self._column(name, value)[at : at + n].copy_(torch.as_tensor(value))

    def take(self, counts: Sequence[int]) -> Callable[[], Arrays]:
        """See :meth:`Buffer.take`."""
        torch, n = self._torch, sum(counts)
        with torch.no_grad():
            t = torch.log_softmax(self._teacher[:n], 1, out=self._work[0][:n])
            s = torch.log_softmax(self._student[:n], 1, out=self._work[1][:n])
            p = torch.exp(t, out=self._teacher[:n])
            label = self._columns["label"][:n]
            if label.device != self._device:
                label = self._to_device(label)
            picked = label.clamp(0, t.shape[1] - 1)[:, None]  # out of range would poison a CUDA context
            t_ce, s_ce = t.gather(1, picked)[:, 0], s.gather(1, picked)[:, 0]
            ts_ce, t_entropy = s.mul_(p).sum(1), t.mul_(p).sum(1)
            losses = torch.stack([ts_ce, t_entropy, t_ce, s_ce], 1).neg_()
            if len(set(counts)) == 1:
                mean_prob = p.view(len(counts), counts[0], -1).mean(1)
            else:
                mean_prob = torch.stack([batch.mean(0) for batch in p.split(list(counts))])
            wanted = {name: column[:n] for name, column in self._columns.items()}
            return self._bring(n, wanted | {"losses": losses, "mean_prob": mean_prob})

    def _to_device(self, label: Any) -> Any:
        if self._device.type != "cuda":
            return label.to(self._device)
        return label.clone().pin_memory().to(self._device, non_blocking=True)

    def _bring(self, n: int, tensors: dict[str, Any]) -> Callable[[], Arrays]:
        """Start copies to the host; the result waits for them and fills in columns that were never given."""
        torch = self._torch
        absent: Arrays = {
            name: np.full(n, value, np.int64 if name == "partner_id" else np.float32)
            for name, value in _ABSENT.items()
            if name not in tensors
        }
        if self._device.type != "cuda":
            # Losses and means are fresh; the columns are buffers that the next batch will overwrite.
            own = {name: x if name in ("losses", "mean_prob") else x.clone() for name, x in tensors.items()}
            ready = absent | {name: x.cpu().numpy() for name, x in own.items()}
            return lambda: ready
        hosts = {}
        for name, x in tensors.items():
            if x.device.type == "cuda":
                host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
                hosts[name] = host.copy_(x, non_blocking=True)
            else:
                hosts[name] = x.clone()
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(self._device))

        def wait() -> Arrays:
            copied.synchronize()
            return absent | {name: host.numpy() for name, host in hosts.items()}

        return wait
