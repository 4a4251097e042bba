"""RKD: distances and angles between the images of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs
from runners.objectives.parameters import not_negative

_EPS = 1e-12


class RKD(Objective):
    """``25 · mean ℓ(d_s − d_t) + 50 · mean ℓ(cos ∠_s − cos ∠_t)``, ℓ the smooth L1 loss (quadratic up to 1).

    d are Euclidean distances of pooled vectors ``f[-1]`` over their mean across different images; ∠_kij is the
    angle at image k between images i and j. Means run over all B² pairs and B³ triples, equal ones included
    (they are 0), as in RepDistiller. Distances are taken from differences, not from the expansion of the
    square, which loses half the digits of close pairs; below 1e-6 they count as 1e-6.

    Source: Park et al., CVPR 2019; RepDistiller (``rkd``, β = 1).

    Args:
        distance: Weight of the distances.
        angle: Weight of the angles.
    """

    name = "rkd"
    formula = "25 smoothL1(d_s, d_t) + 50 smoothL1(cos∠_s, cos∠_t), d over its mean, f[-1]"
    source = "Park et al. 2019; RepDistiller"
    weights = Weights(1, 0, 1)
    needs = frozenset({"features"})
    least = 2

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        not_negative(self.name, distance=distance, angle=angle)
        self.distance, self.angle = distance, angle

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        (d_s, a_s), (d_t, a_t) = (_relations(f) for f in o.vectors())
        return {
            "distance": self.distance * F.smooth_l1_loss(d_s, d_t),
            "angle": self.angle * F.smooth_l1_loss(a_s, a_t),
        }


def _relations(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Distances over their mean ``[B, B]``, and cosines at image k between i and j ``[B, B, B]`` (k first)."""
    differences = vectors[None] - vectors[:, None]
    n = len(vectors)
    apart = ~torch.eye(n, dtype=torch.bool, device=vectors.device)
    distances = differences.square().sum(2).clamp(min=_EPS).sqrt() * apart
    distances = distances / (distances.sum() / (n * (n - 1)))
    unit = F.normalize(differences, dim=2)
    return distances, unit @ unit.transpose(1, 2)
