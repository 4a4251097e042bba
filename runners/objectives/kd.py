"""KD: Kullback–Leibler divergence from the teacher's to the student's softened outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError


class KD:
    """``T_s² / B · Σ_n Σ_c p_t log(p_t / p_s)`` with p_t at temperature T_t and p_s at T_s (Hinton et al. 2015).

    Sum over classes, mean over the batch, times T². Two temperatures as in Good-DA-in-KD (``--kd_T``,
    ``--kd_S``), both 4 by default. Computed in float32 whatever the precision of the logits.

    Args:
        temperature: T_t of the teacher.
        student_temperature: T_s of the student; the teacher's by default.
    """

    def __init__(self, temperature: float = 4.0, student_temperature: float | None = None) -> None:
        self.teacher_t = temperature
        self.student_t = temperature if student_temperature is None else student_temperature
        if not (self.teacher_t > 0 and self.student_t > 0):
            raise UsageError(f"temperatures are positive, not {self.teacher_t} and {self.student_t}")

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = None
    ) -> Tensor:
        """Mean loss over the batch from logits ``[B, C]``; labels are not used."""
        if teacher_logits is None:
            raise UsageError("the objective kd needs the teacher's logits")
        return self.per_image(student_logits, teacher_logits).mean()

    def per_image(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Loss of each image, ``[B]``."""
        log_t = torch.log_softmax(teacher_logits.detach().float() / self.teacher_t, dim=1)
        log_s = torch.log_softmax(student_logits.float() / self.student_t, dim=1)
        return self.student_t**2 * (log_t.exp() * (log_t - log_s)).sum(1)
