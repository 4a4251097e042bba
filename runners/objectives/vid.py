"""VID: a variational bound on the information that the student's maps have on the teacher's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.errors import UsageError
from runners.objectives.card import Weights
from runners.objectives.evaluation import summed
from runners.objectives.objective import Objective, Setup
from runners.objectives.outputs import Outputs, mid_indices
from runners.objectives.parameters import positive
from runners.objectives.spatial import same_size

_EPS = 1e-5


class VID(Objective):
    """``Σ_layers mean ½ [ (μ(f_s) − f_t)² / σ² + log σ² ]``, a Gaussian without its constant.

    μ are three 1×1 convolutions without bias (ReLU between them, as wide as the teacher's map), σ² one trainable
    variance per channel of the teacher, ``softplus(·) + 1e-5``, started at 5. Over the maps ``f[1:-1]``, the
    larger average-pooled to the smaller. The loss may be negative.

    Source: Ahn et al., CVPR 2019; RepDistiller (``vid``, β = 1).

    Args:
        variance: σ² at the start.
    """

    name = "vid"
    formula = "Σ_layers mean ½[(μ(f_s) − f_t)²/σ² + log σ²], σ² per channel from 5, f[1:-1]"
    source = "Ahn et al. 2019; RepDistiller"
    weights = Weights(1, 0, 1)
    needs = frozenset({"features", "modules"})
    separable = True

    def __init__(self, variance: float = 5.0) -> None:
        super().__init__()
        positive(self.name, variance=variance)
        if variance <= _EPS:
            raise UsageError(f"{self.name}: the variance stays above {_EPS}, not {variance}")
        self.variance = variance
        self.layers = nn.ModuleList()

    def _build(self, setup: Setup) -> None:
        pairs = mid_indices(self.name, setup.student_shapes, setup.teacher_shapes)
        self.layers = nn.ModuleList(
            _Layer(setup.student_shapes[i][0], setup.teacher_shapes[i][0], self.variance) for i in pairs
        )

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        pairs = zip(self.layers, o.maps(), strict=True)
        return {"vid": summed([layer(*same_size(self.name, *pair)) for layer, pair in pairs])}


class _Layer(nn.Module):
    def __init__(self, student: int, teacher: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((teacher,), math.log(math.expm1(variance - _EPS))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Negative log-density of each image, mean over channels and positions, ``[B]``."""
        variance = (F.softplus(self.log_scale) + _EPS)[None, :, None, None]
        density = (self.mean(student) - teacher).square() / variance + variance.log()
        out: Tensor = 0.5 * density.mean((1, 2, 3))
        return out
