"""A fixed teacher's answers to the originals, given once and read by the other runs of a seed.

Order and standard augmentation are functions of (seed, epoch, image), whatever the scheme and the student. So the runs of
a study ask one teacher about the same originals again and again: under nine schemes, nine times. The run that comes first
through an epoch keeps the answers, the others read them.

What is read is, bit for bit, what would be computed. The file's name and content say whose answers to which images they
are, and on what machine; its sha256 is checked; and one batch of each size is asked about in every epoch all the same.
Whatever else is wrong with a file, the teacher is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from kdstats._version import __version__
from kdstats.data import LabelledImages
from kdstats.errors import KdstatsError
from kdstats.teacher.architectures import runs_own_code
from runners.objectives import objective_class
from runners.run_spec import RunSpec
from runners.training.asking import Asking
from runners.training.checkpoint import load_state, save_state

MOST = 1 << 27
"""Bytes of an epoch's answers, above which none are kept: they are held in memory, three times while they are written."""
_LAYOUT = "kdstats/teacher-answers/1"
_BESIDES = 1 << 16  # bytes of a file that are no answers, at most


def group_of(spec: RunSpec) -> str | None:
    """Runs with the same digest ask a teacher about the same originals; None: no other run may read what this one hears.

    A teacher from a factory is asked every time: its code can change while its weights do not.
    """
    alone = spec.teaching is not None or spec.originals != "kept" or runs_own_code(spec.teacher_arch)
    if alone or "features" in objective_class(spec.objective).needs:
        return None
    asked = {
        "teacher": [spec.teacher_arch, spec.teacher_sha256],
        "images": spec.dataset_sha256,
        "selection": asdict(spec.selection) | {"path": None},
        "seed": spec.seed,
        "batch_size": spec.recipe.batch_size,
        "layout": [spec.channels_last, spec.fold_teacher, spec.determinism],
    }
    return _digest(asked)


def answers_size(images: LabelledImages) -> int:
    """Bytes of an epoch's answers: float32 logits ``[N, C]``."""
    return 4 * len(images) * images.classes


class SharedAnswers:
    """The answers that a run shares with others of its group.

    Args:
        folder: Of the study's answers; nothing is shared unless it has a folder for the run's group.
        spec: The run.
        say: Told when answers cannot be used.
    """

    def __init__(self, folder: Path, spec: RunSpec, say: Callable[[str], None]) -> None:
        self._folder, self._group, self._say = folder, group_of(spec), say

    def of_epoch(self, epoch: int, step: int, images: LabelledImages) -> EpochAnswers | None:
        """The answers of one epoch (from 0), entered at ``step``; None where the run shares none."""
        if self._group is None:
            return None
        place = self._folder / self._group / _digest(_circumstances(images))
        # A study's folder may come from somebody else: no link is followed.
        if not _is_folder(self._folder) or not _is_folder(place.parent) or place.is_symlink():
            return None
        identity = f"{_LAYOUT} {self._group} {place.name} epoch {epoch}"
        file = place / f"epoch={epoch:04d}.pt"
        known = _read(file, identity, images, self._say)
        hears = known is None and step == 0 and answers_size(images) <= MOST
        return EpochAnswers(file, identity, known, hears, self._say)


class EpochAnswers:
    """The teacher's answers to the originals of one epoch, in the epoch's order."""

    def __init__(
        self, file: Path, identity: str, known: Tensor | None, hears: bool, say: Callable[[str], None]
    ) -> None:
        self._file, self._identity, self._known, self._say = file, identity, known, say
        self._heard = list[Tensor]() if hears else None
        self._compared: set[int] = set()

    def tell(self, asking: Asking, x: Tensor, at: int) -> None:
        """Spares ``asking`` the originals ``x`` ``[B, …]``, the epoch's images from position ``at``, or hears its answer.

        To be called before a scheme has had ``x`` in its hands.
        """
        rows = None if self._known is None else self._known[at : at + len(x)]
        if rows is not None and len(x) in self._compared:
            asking.know(x, rows)
            return
        logits = asking.logits(x)
        if rows is not None and not torch.equal(logits, rows):
            self._say(f"{self._file}: the teacher answers otherwise here, so it is asked itself")
            self._known = None
        self._compared.add(len(x))
        if self._heard is not None:
            self._heard.append(logits)

    def close(self) -> None:
        """The epoch is over: its answers are left for other runs, in place of those that could not be used.

        Without room for them, or without anybody left who could ask, the run goes on all the same.
        """
        if self._heard is None:
            return
        with contextlib.suppress(KdstatsError, OSError):
            self._file.parent.mkdir(exist_ok=True)  # not its parents: the driver has removed them
            save_state(self._file, {"identity": self._identity, "logits": torch.cat(self._heard).cpu()})
        self._heard = None


def _circumstances(images: LabelledImages) -> dict[str, object]:
    """What else an answer depends on, as the worker finds it."""
    device = images.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "version": [__version__, torch.__version__],
        "machine": [gpu, *_processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        # A streamed set's digest is of names, labels and sizes alone; its stamp of the times of writing.
        "images": [images.stamp, images.mean, images.std, images.base],
    }


@lru_cache(maxsize=1)
def _processor() -> tuple[str, ...]:
    """Architecture and model of the processor, as far as the system tells."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line for line in lines if line.startswith("model name")), model)
    return platform.machine(), model


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _read(file: Path, identity: str, images: LabelledImages, say: Callable[[str], None]) -> Tensor | None:
    otherwise = "the teacher is asked itself"
    try:
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > answers_size(images) + _BESIDES:
            return None
        state = load_state(file, identity, say, otherwise)
        logits = None if state is None else state.get("logits")
        if not isinstance(logits, Tensor) or logits.shape != (len(images), images.classes):
            return None
        if (logits.dtype, logits.layout, logits.device.type) != (torch.float32, torch.strided, "cpu"):
            return None
        return logits.detach().to(images.device)
    except FileNotFoundError:
        return None
    except Exception as error:  # no file is needed, so none is a reason to fail
        say(f"{file}: {type(error).__name__}: {error}: {otherwise}")
        return None


def _digest(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
