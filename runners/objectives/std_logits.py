"""MIX-KD: logits divided by their own standard deviation, in three published versions."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from kdstats.errors import UsageError, unknown
from runners.objectives.card import Weights
from runners.objectives.kd import kl
from runners.objectives.mixed_labels import MixedLabels
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs
from runners.objectives.parameters import not_negative, positive

VERSIONS = {
    "v1": "cross-entropy on raw logits; KL of the logits over T, times T²",
    "v2": "cross-entropy on s · z_s/σ_s; KL of z/σ, times s² (the release, at s = 1)",
    "v3": "cross-entropy on raw logits; KL of z/σ, times s²",
}


class StdLogits(Objective):
    """``γ' CE(y, softmax(a)) + α' k KL(softmax(b_t) ‖ softmax(b_s))``, mean over the batch, no other T².

    σ is the standard deviation of an image's logits over the classes (divisor C − 1), a temperature of its own
    for each image and network; the gradient flows through the student's. y are mixed labels. The versions:

    ======  ============  ==========  ==========================================
    v1      a = z_s       b = z / T   k = T²: plain KD with mixed labels
    v2      a = s z_s/σ_s b = z / σ   k = s²: both losses rescaled (the release)
    v3      a = z_s       b = z / σ   k = s²: only the distillation is rescaled
    ======  ============  ==========  ==========================================

    So v1 → v3 exchanges the fixed temperature for each image's own deviation, v3 → v2 rescales the
    cross-entropy as well, which bounds how confident it can become. Only v2 at s = 1 was released as source;
    v1 and v3 (and s in v2) are known from compiled leftovers, where s is read as it is written here.

    The loss holds its own cross-entropy: combine it with γ = α = 0, β = 1, which are its default weights.

    Source: Choi et al., WACV 2023, and its code (``gamma`` 0.1, ``alpha`` 0.9, ``kd_T`` 4, ``scale_T`` 1).

    Args:
        version: One of :data:`VERSIONS`.
        gamma: γ' of the cross-entropy.
        alpha: α' of the KL.
        temperature: T of v1.
        scale: s of v2 and v3.
    """

    name = "std_logits"
    formula = "0.1 CE(y, z_s/σ_s) + 0.9 KL(z_t/σ_t ‖ z_s/σ_s) (v2; v1 fixed T², v3 CE on raw logits)"
    source = "Choi et al. 2023, MIX-KD"
    weights = Weights(0, 0, 1)
    needs = frozenset({"teacher", "labels"})
    separable = True
    renamed: ClassVar[dict[str, str]] = {"kd_T": "temperature", "scale_T": "scale"}

    def __init__(
        self,
        version: str = "v2",
        gamma: float = 0.1,
        alpha: float = 0.9,
        temperature: float = 4.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if version not in VERSIONS:
            raise unknown("version of std_logits", str(version), VERSIONS)
        not_negative(self.name, gamma=gamma, alpha=alpha)
        positive(self.name, temperature=temperature, scale=scale)
        self.version, self.gamma, self.alpha = version, gamma, alpha
        self.temperature, self.scale = temperature, scale
        self._labels = MixedLabels()

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        if o.classes < 2:
            raise UsageError(f"{self.name}: one class has no deviation over classes")
        hard = o.student_logits
        if self.version == "v1":
            soft = kl(o.teacher / self.temperature, o.student_logits / self.temperature)
            factor = self.temperature**2
        else:
            rescaled = standardised(o.student_logits)
            soft = kl(standardised(o.teacher), rescaled)
            factor = self.scale**2
            if self.version == "v2":
                hard = self.scale * rescaled
        ce = -(self._labels.of(o) * hard.log_softmax(1)).sum(1)
        return {"ce": self.gamma * ce, "kl": self.alpha * factor * soft}

    def _forget(self) -> None:
        self._labels.forget()

    def _memory(self) -> dict[str, Any]:
        return self._labels.state()

    def _remember(self, state: dict[str, Any]) -> None:
        self._labels.load(state)


def standardised(logits: Tensor) -> Tensor:
    """``z / σ`` row by row; σ over the classes with divisor C − 1. Equal logits give NaN, which is then named."""
    return logits / logits.std(1, keepdim=True)
