"""NST: which positions each channel selects."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.evaluation import summed
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs
from runners.objectives.spatial import same_size


class NST(Objective):
    """``Σ_layers [ mean k(t, t') + mean k(s, s') − 2 mean k(s, t) ]``, ``k(a, b) = (aᵀ b)²``.

    The squared maximum mean discrepancy between the sets of channels of one image, each channel flattened over
    its positions and of unit length; over the maps ``f[1:-1]``, the larger average-pooled to the smaller. The
    first summand carries no gradient and is kept so that equal maps give 0.

    Source: Huang & Wang 2017; RepDistiller (``nst``, β = 50).
    """

    name = "nst"
    formula = "Σ_layers mean k(t,t) + mean k(s,s) − 2 mean k(s,t), k = (aᵀb)², channels of f[1:-1]"
    source = "Huang & Wang 2017; RepDistiller"
    weights = Weights(1, 0, 50)
    needs = frozenset({"features"})
    separable = True

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        layers = []
        for student, teacher in o.maps():
            s, t = (F.normalize(f.flatten(2), dim=2) for f in same_size(self.name, student, teacher))
            layers.append(_kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t))
        return {"nst": summed(layers)}


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean of the kernel over all pairs of channels of each image, ``[B]``."""
    return (a @ b.transpose(1, 2)).square().mean((1, 2))
