"""The averaging rule: how a teacher's weights follow the student's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdstats.errors import UsageError, unknown

BUFFERS = ("own", "averaged", "copied")


@dataclass(frozen=True)
class Averaging:
    """θ_t ← a_i θ_t + (1 − a_i) θ_s after each of the student's steps, with a_i = min(1 − 1/(i + 1), decay).

    i counts the teacher's updates from 0. So a_0 = 0, the first update copies the student; up to
    i = 1/(1 − decay) − 1 the teacher is the plain mean of the student's weights so far; an exponential mean
    afterwards (Dual Teacher, Na et al. 2023, released code, decay 0.99).

    Attributes:
        decay: Largest a_i, in [0, 1).
        warmup: Without it a_i is ``decay`` from the start.
        buffers: What becomes of BatchNorm's running statistics.
            ``own``: the teacher normalises by its current batch and moves its own statistics, which are never
            mixed with the student's. This is how the released code of Dual Teacher behaves: parameters alone
            are averaged, and the teacher stays in training mode. Dropout and stochastic depth stay off.
            ``averaged``: running like the parameters, the teacher in evaluation mode.
            ``copied``: the student's as they are, the teacher in evaluation mode.
            Whole numbers (BatchNorm's batch counter) are copied by ``averaged`` too.
    """

    decay: float = 0.99
    warmup: bool = True
    buffers: str = "averaged"

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UsageError(f"the decay of a teacher's average lies in [0, 1), not {self.decay}")
        if self.buffers not in BUFFERS:
            raise unknown("treatment of buffers", self.buffers, BUFFERS)

    def weight_at(self, iteration: int) -> float:
        """a_i, the share that the teacher keeps of itself in update ``iteration`` (from 0)."""
        return min(1 - 1 / (iteration + 1), self.decay) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, teacher: nn.Module, student: nn.Module, iteration: int) -> None:
        """Moves ``teacher`` towards ``student`` in place; they hold the same tensors in the same order."""
        kept = self.weight_at(iteration)
        mine: list[Tensor] = [p.detach() for p in teacher.parameters()]
        theirs: list[Tensor] = [p.detach() for p in student.parameters()]
        if self.buffers != "own":
            pairs = list(zip(teacher.buffers(), student.buffers(), strict=True))
            averaged = [p for p in pairs if self.buffers == "averaged" and p[0].is_floating_point()]
            for own, current in pairs:
                if self.buffers == "copied" or not own.is_floating_point():
                    own.copy_(current)
            mine += [own for own, _ in averaged]
            theirs += [current for _, current in averaged]
        if kept == 0:  # exact, whatever the teacher held
            for own, current in zip(mine, theirs, strict=True):
                own.copy_(current)
        else:
            get_ema_multi_avg_fn(kept)(mine, theirs, iteration)  # type: ignore[no-untyped-call]

    def set_mode(self, teacher: nn.Module) -> None:
        """Evaluation mode, but for the BatchNorm layers of a teacher that keeps its own statistics."""
        teacher.eval()
        if self.buffers == "own":
            for module in teacher.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()

    def resolved(self) -> dict[str, Any]:
        """What decides numbers, as plain JSON."""
        return asdict(self)
