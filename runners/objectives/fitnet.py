"""FitNet: a middle map of the teacher as a hint."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from kdstats.errors import UsageError
from runners.objectives.card import Weights
from runners.objectives.objective import Objective, Setup
from runners.objectives.outputs import Outputs, Shape, check_index


class FitNet(Objective):
    """``mean (r(f_s) − f_t)²`` on feature 2, r a trainable regressor: convolution, BatchNorm, ReLU.

    The convolution maps the student's size to the teacher's: 3×3 with stride 2 where the student's map is twice
    as large, a transposed 4×4 with stride 2 where it is half as large, else one whose kernel takes off the
    difference (1×1 for equal sizes). In one stage with the student, not as a pre-training.

    Source: Romero et al., ICLR 2015; RepDistiller (``hint``, ``hint_layer`` 2, β = 100).

    Args:
        hint_layer: Index in the feature list; 0 is the stem.
    """

    name = "fitnet"
    formula = "mean (ReLU(BN(conv(f_s[2]))) − f_t[2])²"
    source = "Romero et al. 2015; RepDistiller"
    weights = Weights(1, 0, 100)
    needs = frozenset({"features", "modules"})
    separable = True
    renamed: ClassVar[dict[str, str]] = {"layer": "hint_layer"}

    def __init__(self, hint_layer: int = 2) -> None:
        super().__init__()
        if isinstance(hint_layer, bool) or not isinstance(hint_layer, int):
            raise UsageError(f"{self.name}: hint_layer is the index of a feature, not {hint_layer!r}")
        self.hint_layer = hint_layer
        self.regressor: nn.Module = nn.Identity()

    def _build(self, setup: Setup) -> None:
        student = check_index(self.name, "student", setup.student_shapes, self.hint_layer)
        teacher = check_index(self.name, "teacher", setup.teacher_shapes, self.hint_layer)
        if len(student) != 3 or len(teacher) != 3:
            raise UsageError(
                f"{self.name}: feature {self.hint_layer} of the student is {list(student)}, of the teacher "
                f"{list(teacher)}; a hint is a map [D, H, W], choose another hint_layer"
            )
        self.regressor = nn.Sequential(
            _convolution(student, teacher), nn.BatchNorm2d(teacher[0]), nn.ReLU(inplace=True)
        )

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        guess = self.regressor(o.student_feature(self.hint_layer))
        return {"fitnet": (guess - o.teacher_feature(self.hint_layer)).square().mean((1, 2, 3))}


def _convolution(student: Shape, teacher: Shape) -> nn.Module:
    (channels, height, width), (out, h, w) = student, teacher
    if (height, width) == (2 * h, 2 * w):
        return nn.Conv2d(channels, out, 3, stride=2, padding=1)
    if (2 * height, 2 * width) == (h, w):
        return nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
    if height >= h and width >= w:
        return nn.Conv2d(channels, out, (1 + height - h, 1 + width - w))
    raise UsageError(
        f"fitnet: the student's map {height}×{width} is smaller than the teacher's {h}×{w} and not half of it; "
        "choose a hint_layer whose maps are equal, half or larger"
    )
