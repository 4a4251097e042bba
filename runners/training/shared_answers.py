"""A fixed teacher's answers to the originals, given once for all runs of a seed.

Order and standard augmentation are functions of (seed, epoch, image), whatever the scheme and the student. So the runs of
a study ask one teacher about the same originals again and again: under nine schemes, nine times. The run that comes first
through an epoch keeps the answers, the others read them.

What is read is, bit for bit, what would be computed. The file's name and content say whose answers to which images they
are, and on what machine; its sha256 is checked; and the first batch of each epoch is asked about all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from kdstats._version import __version__
from kdstats.data import LabelledImages
from kdstats.errors import KdstatsError
from runners.run_spec import RunSpec
from runners.training.asking import Asking
from runners.training.checkpoint import load_state, save_state

MOST = 1 << 30
"""Bytes of an epoch's answers, above which a run keeps none: they are held in memory."""
_LAYOUT = "kdstats/teacher-answers/1"
_BESIDES = 1 << 16  # bytes of a file that are no answers, at most


def group_of(spec: RunSpec) -> str | None:
    """Runs with the same digest ask a teacher about the same originals; None: no other run can ask the same."""
    if spec.teaching is not None or spec.originals != "kept":
        return None
    asked = {
        "teacher": spec.teacher_sha256,
        "images": spec.dataset_sha256,
        "selection": asdict(spec.selection) | {"path": None},
        "seed": spec.seed,
        "batch_size": spec.recipe.batch_size,
        "layout": [spec.channels_last, spec.fold_teacher, spec.determinism],
    }
    return _digest(asked)


class SharedAnswers:
    """The answers that runs of one group share in a folder.

    Args:
        folder: Of the study's answers; nothing is shared unless it has a folder for the run's group.
        spec: The run.
        say: Told when answers cannot be used.
    """

    def __init__(self, folder: Path, spec: RunSpec, say: Callable[[str], None]) -> None:
        self._folder, self._group, self._spec, self._say = folder, group_of(spec), spec, say

    def of_epoch(self, epoch: int, step: int, images: LabelledImages) -> EpochAnswers | None:
        """The answers of one epoch (from 0), entered at ``step``; None where the run shares none."""
        if self._group is None or not (self._folder / self._group).is_dir():
            return None
        device = images.device
        asked = {
            "version": [__version__, torch.__version__],
            "machine": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else [device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
            "constants": [images.mean, images.std, images.base],
        }
        place = self._folder / self._group / _digest(asked)
        if any(path.is_symlink() for path in (self._folder, place.parent, place)):
            return None  # a study's folder may come from somebody else
        identity = f"{_LAYOUT} {self._group} {place.name} epoch {epoch}"
        known = _read(place / f"epoch={epoch:04d}.pt", identity, images, self._say)
        keeps = known is None and step == 0
        return EpochAnswers(place / f"epoch={epoch:04d}.pt", identity, len(images), known, keeps, self._say)


class EpochAnswers:
    """The teacher's answers to the originals of one epoch, in the epoch's order.

    Attributes:
        read: Batches whose answers were taken from the file.
    """

    def __init__(
        self,
        file: Path,
        identity: str,
        images: int,
        known: Tensor | None,
        keeps: bool,
        say: Callable[[str], None],
    ) -> None:
        self._file, self._identity, self._images, self._say = file, identity, images, say
        self._known, self._keeps = known, keeps
        self._heard: Tensor | None = None
        self._compared = False
        self.read = 0

    def tell(self, asking: Asking, x: Tensor, at: int) -> None:
        """Spares ``asking`` the originals ``x`` ``[B, …]``, the epoch's images from position ``at``, where it can."""
        if self._known is None:
            return
        rows = self._known[at : at + len(x)]
        if self._compared:
            asking.know(x, rows.clone())
            self.read += 1
            return
        self._compared = True
        if not torch.equal(asking.logits(x), rows):
            self._say(f"{self._file}: the teacher answers otherwise here, so it is asked itself")
            self._known = None

    def keep(self, logits: Tensor, at: int) -> None:
        """Notes the answers ``[B, C]`` to the images from position ``at``."""
        if not self._keeps:
            return
        if self._heard is None:
            if self._images * logits.shape[1] * logits.element_size() > MOST:
                self._keeps = False
                return
            self._heard = torch.empty(self._images, logits.shape[1], dtype=logits.dtype, device=logits.device)
        self._heard[at : at + len(logits)] = logits

    def close(self) -> None:
        """The epoch is over: its answers are left for other runs, unless another has left them."""
        if self._heard is None or self._file.exists():
            return
        if not self._file.parent.parent.is_dir():
            return  # no other run is left that could ask
        # Without room for them the run goes on all the same.
        with contextlib.suppress(KdstatsError, OSError):
            save_state(self._file, {"identity": self._identity, "logits": self._heard.cpu()})
        self._heard = None


def _read(file: Path, identity: str, images: LabelledImages, say: Callable[[str], None]) -> Tensor | None:
    try:
        if file.stat().st_size > 4 * len(images) * images.classes + _BESIDES:
            return None
    except OSError:
        return None
    state = load_state(file, identity, say, "the teacher is asked itself")
    logits = None if state is None else state.get("logits")
    if not isinstance(logits, Tensor) or logits.dtype != torch.float32:
        return None
    return logits.to(images.device) if logits.shape == (len(images), images.classes) else None


def _digest(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
