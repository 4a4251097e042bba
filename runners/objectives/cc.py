"""CC: correlation congruence."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from runners.objectives.card import Weights
from runners.objectives.objective import Objective, Setup
from runners.objectives.outputs import Outputs, numbers_in
from runners.objectives.parameters import whole


class CC(Objective):
    """``1/(B − 1) Σ_i Σ_d |e_s − e_t|_id · |e_s − e_t|_(i+1)d``, e linear embeddings of pooled vectors in 128 numbers.

    Images are compared with their successor in the batch, so the value depends on the order. As published in
    RepDistiller, where both embeddings are trained with the student (the teacher network is not).

    Source: Peng et al., ICCV 2019; RepDistiller (``correlation``, ``feat_dim`` 128, β = 0.02).

    Args:
        dim: Numbers in an embedding.
    """

    name = "cc"
    formula = "mean_i Σ δ_i δ_(i+1), δ = |e_s − e_t|, linear embeddings of f[-1] to 128"
    source = "Peng et al. 2019; RepDistiller"
    weights = Weights(1, 0, 0.02)
    needs = frozenset({"features", "modules"})
    least = 2
    renamed: ClassVar[dict[str, str]] = {"feat_dim": "dim"}

    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        whole(self.name, dim=dim)
        self.dim = dim
        self.student: nn.Module = nn.Identity()
        self.teacher: nn.Module = nn.Identity()

    def _build(self, setup: Setup) -> None:
        self.student = nn.Linear(numbers_in(setup.student_shapes[-1]), self.dim)
        self.teacher = nn.Linear(numbers_in(setup.teacher_shapes[-1]), self.dim)

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        s, t = o.vectors()
        delta = (self.student(s) - self.teacher(t)).abs()
        return {"cc": (delta[:-1] * delta[1:]).sum(1).mean()}
