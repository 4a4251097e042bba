"""Teachers that follow the student, each in its shifts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.errors import UsageError
from runners.moving_teachers.averaging import Averaging
from runners.moving_teachers.schedule import Shift, ShiftSchedule


class MovingTeachers:
    """K teachers, averages of the student, that take turns answering and being updated.

    A training loop calls, in this order::

        teachers.before_epoch(epoch)
        for step in ...:
            targets = teachers.logits(x)       # of the active teacher; its scheme is teachers.shift.scheme
            ...                                # the optimiser's step
            teachers.after_step(student, step)

    All teachers begin as copies of the student. In the first step of a shift the active teacher answers with
    the weights of its last shift; the update after that step is the first of the new one.

    Args:
        student: What to copy; may be wrapped (DistributedDataParallel, compiled) when updates come.
        schedule: Whose turn it is.
        averaging: How the active teacher is updated.
    """

    def __init__(self, student: nn.Module, schedule: ShiftSchedule, averaging: Averaging) -> None:
        self.schedule, self.averaging = schedule, averaging
        self.models = [copy.deepcopy(student).requires_grad_(False) for _ in range(schedule.teachers)]
        for model in self.models:
            averaging.set_mode(model)
        self._shapes = _shapes(student)
        self._known: nn.Module | None = None
        self._epoch = self._step = 0

    @property
    def shift(self) -> Shift:
        """Who teaches in the coming step, under which scheme."""
        return self.schedule.at(self._epoch, self._step)

    @property
    def active(self) -> nn.Module:
        """The network that answers in the coming step."""
        return self.models[self.shift.teacher]

    @property
    def latest(self) -> nn.Module:
        """The network that was updated last: what to measure at the end of an epoch."""
        return self.models[self.schedule.at(self._epoch, max(self._step - 1, 0)).teacher]

    def before_epoch(self, epoch: int, step: int = 0) -> None:
        """``epoch`` (from 0) begins, at ``step`` when a run continues inside it."""
        self.schedule.at(epoch, step)
        self._epoch, self._step = epoch, step

    def logits(self, images: Tensor) -> Tensor:
        """Float32 logits ``[B, C]`` of the active teacher, without gradient.

        With ``buffers="own"`` its BatchNorm statistics move with every call, as in the published code.
        """
        if self._step >= self.schedule.steps_per_epoch:
            raise UsageError(
                f"epoch {self._epoch} has had its {self.schedule.steps_per_epoch} steps; call before_epoch first"
            )
        with torch.no_grad():
            out: Tensor = self.active(images.contiguous(memory_format=torch.channels_last)).float()
        return out

    def after_step(self, student: nn.Module, step: int) -> None:
        """The optimiser has made ``step`` (from 0) of the epoch: the active teacher follows.

        Raises:
            UsageError: Steps were left out or repeated, or ``student`` is another network.
        """
        if step != self._step:
            raise UsageError(
                f"the teacher waits for step {self._step} of epoch {self._epoch}, not step {step}: "
                "after_step is called once after every step"
            )
        if student is not self._known:
            if (given := _shapes(student)) != self._shapes:
                what = _other(given, self._shapes)
                raise UsageError(f"this is not the network that the teacher is an average of: {what}")
            self._known = student
        shift = self.shift
        self.averaging.update(self.models[shift.teacher], student, shift.iteration)
        self._step += 1

    def resolved(self) -> dict[str, Any]:
        """What decides numbers, as plain JSON: belongs to a run's configuration and its digest."""
        return {"schedule": self.schedule.resolved(), "averaging": self.averaging.resolved()}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: place and weights. Like a module's, its tensors are the live ones."""
        return {
            "setting": self.resolved(),
            "epoch": self._epoch,
            "step": self._step,
            "teachers": [model.state_dict() for model in self.models],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`.

        Raises:
            UsageError: The state was made under another schedule or averaging rule.
        """
        ours = self.resolved()
        for part, fields in ours.items():
            for key, value in fields.items():
                found = state["setting"][part].get(key)
                if found != value:
                    raise UsageError(
                        f"the state of the teachers was made with {key} = {found!r}, this run has {value!r}"
                    )
        for model, weights in zip(self.models, state["teachers"], strict=True):
            model.load_state_dict(weights)
        self._epoch, self._step = state["epoch"], state["step"]


def _shapes(network: nn.Module) -> list[tuple[int, ...]]:
    tensors = (*network.parameters(), *network.buffers())
    return [tuple(tensor.shape) for tensor in tensors]


def _other(given: list[tuple[int, ...]], own: list[tuple[int, ...]]) -> str:
    if len(given) != len(own):
        return f"{len(given)} tensors instead of {len(own)}"
    place = next(k for k, (a, b) in enumerate(zip(given, own, strict=True)) if a != b)
    return f"tensor {place} has the shape {given[place]} instead of {own[place]}"
