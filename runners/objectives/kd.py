"""KD: Kullback–Leibler divergence from the teacher's to the student's softened outputs."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kdstats.errors import UsageError
from runners.objectives.card import Weights
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs


class KD(Objective):
    """``T_s² / B · Σ_n Σ_c p_t log(p_t / p_s)`` with p_t at temperature T_t and p_s at T_s.

    Sum over classes, mean over the batch, times T_s². Two temperatures as in Good-DA-in-KD (``kd_T``, ``kd_S``),
    both 4 by default, where the factor is also the student's. Computed in float32 whatever the precision of
    the logits.

    Source: Hinton, Vinyals & Dean 2015; weights 0.1 CE + 0.9 KL of RepDistiller and Good-DA-in-KD.

    Args:
        temperature: T_t of the teacher (``kd_T``).
        student_temperature: T_s of the student (``kd_S``); the teacher's by default.
    """

    name = "kd"
    formula = "T_s² Σ_c p_t log(p_t / p_s), p_t at T_t = 4, p_s at T_s = 4"
    source = "Hinton et al. 2015; RepDistiller, Good-DA-in-KD"
    weights = Weights(0.1, 0.9, 0)
    needs = frozenset({"teacher"})
    separable = True
    renamed: ClassVar[dict[str, str]] = {"kd_T": "temperature", "kd_S": "student_temperature"}

    def __init__(self, temperature: float = 4.0, student_temperature: float | None = None) -> None:
        super().__init__()
        self.teacher_t = temperature
        self.student_t = temperature if student_temperature is None else student_temperature
        if not (0 < self.teacher_t < float("inf") and 0 < self.student_t < float("inf")):
            raise UsageError(f"temperatures are positive, not {self.teacher_t} and {self.student_t}")

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        return {"kd": self.student_t**2 * kl(o.teacher / self.teacher_t, o.student_logits / self.student_t)}


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """``KL(softmax(teacher) ‖ softmax(student))`` of each row, ``[B]``."""
    log_t, log_s = teacher.log_softmax(1), student.log_softmax(1)
    return (log_t.exp() * (log_t - log_s)).sum(1)
