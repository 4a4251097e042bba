"""AT: attention maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.evaluation import summed
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs
from runners.objectives.parameters import positive
from runners.objectives.spatial import same_size


class AT(Objective):
    """``Σ_layers mean (a_s − a_t)²``, ``a = v / ‖v‖₂``, ``v = vec(mean_c |f_c|^p)``.

    Over the maps ``f[1:-1]``, paired in order; the larger of two maps is average-pooled to the smaller; the
    mean runs over images and positions, so a layer counts 1/(HW) of the squared distance.

    Source: Zagoruyko & Komodakis, ICLR 2017; RepDistiller (``attention``, β = 1000, p = 2).

    Args:
        p: Power of the activations.
    """

    name = "at"
    formula = "Σ_layers mean (a_s − a_t)², a = vec(mean_c f²) / ‖·‖₂, f[1:-1]"
    source = "Zagoruyko & Komodakis 2017; RepDistiller"
    weights = Weights(1, 0, 1000)
    needs = frozenset({"features"})
    separable = True

    def __init__(self, p: float = 2) -> None:
        super().__init__()
        positive(self.name, p=p)
        self.p = p

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        layers = []
        for student, teacher in o.maps():
            a, b = (self._attention(f) for f in same_size(self.name, student, teacher))
            layers.append((a - b).square().mean(1))
        return {"at": summed(layers)}

    def _attention(self, maps: Tensor) -> Tensor:
        powered = maps.square() if self.p == 2 else torch.pow(maps.abs(), self.p)
        return F.normalize(powered.mean(1).flatten(1), dim=1)
