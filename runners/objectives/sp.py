"""SP: similarities of the images of a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs


class SP(Objective):
    """``‖ G_s − G_t ‖_F² / B²``, ``G = F Fᵀ`` with rows of unit length, F the flattened last map ``f[-2]``.

    Not a mean over images: every entry compares two of them.

    Source: Tung & Mori, ICCV 2019; RepDistiller (``similarity``, β = 3000).
    """

    name = "sp"
    formula = "‖G_s − G_t‖²_F / B², G = rownorm(F Fᵀ), F = f[-2]"
    source = "Tung & Mori 2019; RepDistiller"
    weights = Weights(1, 0, 3000)
    needs = frozenset({"features"})
    least = 2

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        difference = _similarities(o.teacher_feature(-2)) - _similarities(o.student_feature(-2))
        return {"sp": difference.square().mean()}


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
