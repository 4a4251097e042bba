"""PKT: probabilities that one image is the neighbour of another."""

from __future__ import annotations

import torch
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs

_EPS = 1e-7


class PKT(Objective):
    """``1/B² Σ_ij t_ij log((t_ij + ε) / (s_ij + ε))``, s and t rows of ``(1 + cos(f_i, f_j)) / 2`` made to sum to 1.

    On pooled vectors ``f[-1]``, an image counting as its own neighbour, ε = 1e-7 (also added to the norms), as
    in RepDistiller. The mean over B² entries near 1/B is small, hence β = 30000.

    Source: Passalis & Tefas, ECCV 2018; RepDistiller (``pkt``).
    """

    name = "pkt"
    formula = "mean t log(t / s), rows of (1 + cos(f_i, f_j))/2 normalised to 1, f[-1]"
    source = "Passalis & Tefas 2018; RepDistiller"
    weights = Weights(1, 0, 30000)
    needs = frozenset({"features"})
    least = 2

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        s, t = (_neighbours(f) for f in o.vectors())
        return {"pkt": (t * ((t + _EPS) / (s + _EPS)).log()).mean()}


def _neighbours(vectors: Tensor) -> Tensor:
    unit = vectors / (torch.linalg.vector_norm(vectors, dim=1, keepdim=True) + _EPS)
    similar = (unit @ unit.T + 1) / 2
    out: Tensor = similar / similar.sum(1, keepdim=True)
    return out
