"""One run as it was planned: its images and teacher, checked, and its student, trained unless that is done."""

from __future__ import annotations

import functools
from typing import Any

from kdstats.data import Selection, Splits
from kdstats.errors import MissingError
from kdstats.records.paths import RunPaths
from kdstats.records.writer import is_complete, read_done
from kdstats.teacher.device import pick_device
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from runners.run_spec import RunSpec
from runners.training.loop import EpochDone, train_student


@functools.lru_cache(maxsize=4)
def images_of(selection: Selection, device: str) -> Splits:
    """A worker runs many students on the same data; it is read once."""
    return selection.splits().to(pick_device(device))


@functools.lru_cache(maxsize=4)
def teacher_of(weights: str, arch: str, selection: Selection, device: str) -> Network:
    return load_network(weights, arch, images_of(selection, device).train, pick_device(device))


def run_spec(
    spec: RunSpec, paths: RunPaths, device: str = "auto", on_epoch: EpochDone | None = None, **more: Any
) -> dict[str, Any]:
    """Carries out ``spec`` unless it is complete already; returns its outcome.

    ``more`` goes to :func:`runners.training.loop.train_student`.
    """
    if is_complete(paths):
        try:
            outcome: dict[str, Any] = read_done(paths)["extra"]["outcome"]
        except (KeyError, TypeError):
            raise MissingError(f"{paths.done} tells no outcome; remove it to train the run again") from None
        return outcome
    images = images_of(spec.selection, device)
    _check_same("the training images", spec.dataset_sha256, images.train.digest)
    teacher = None
    if spec.teaching is None:
        teacher = teacher_of(spec.teacher_weights, spec.teacher_arch, spec.selection, device)
        _check_same(f"the teacher {spec.teacher_weights}", spec.teacher_sha256, teacher.sha256)
    return train_student(spec, paths, images.train, images.test, teacher, on_epoch, images.validation, **more)


def _check_same(what: str, planned: str, found: str) -> None:
    if planned != found:
        raise MissingError(
            f"{what}: not what the run was planned with: sha256 {found[:12]}, not {planned[:12]}"
        )
