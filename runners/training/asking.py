"""The teacher within one step: fixed or moving, with or without features, asked no question twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdstats.teacher.memo import Memo
from kdstats.teacher.network import Network
from runners.moving_teachers import MovingTeachers

Answer = tuple[Tensor, Sequence[Tensor] | None]


class Asking:
    """A step's teacher.

    Args:
        teacher: A fixed network, or teachers that follow the student.
        features: Whether the maps between the stages are wanted too.
    """

    def __init__(self, teacher: Network | MovingTeachers, features: bool) -> None:
        self.teacher, self.features = teacher, features
        self._memo = Memo(self._ask)

    def next_step(self) -> None:
        """Forgets the answers of the step before."""
        self._memo.forget()

    def know(self, images: Tensor, logits: Tensor) -> None:
        """Takes ``logits`` ``[B, C]`` for the teacher's answer to ``images``; not where features are wanted."""
        self._memo.know(images, (logits, None))

    def __call__(self, images: Tensor) -> Answer:
        """Float32 logits ``[B, C]`` without gradient, and the features or None."""
        return self._memo(images)

    def logits(self, images: Tensor) -> Tensor:
        """The logits alone, as schemes that pick ask for them."""
        return self(images)[0]

    def _ask(self, images: Tensor) -> Answer:
        if isinstance(self.teacher, MovingTeachers):
            if not self.features:
                return self.teacher.logits(images), None
            network = self.teacher.active
        elif not self.features:
            return self.teacher.logits(images), None
        else:
            network = self.teacher.model
        # Not inference mode: losses on features keep them for the backward pass.
        with torch.no_grad():
            logits, maps = network(images.contiguous(memory_format=torch.channels_last), features=True)
        return logits.float(), [m.float() for m in maps]
