"""CE: cross-entropy with the labels, no teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs


class CE(Objective):
    """``−1/B Σ_n Σ_c y log p_s`` at T = 1, float32.

    Labels are classes, or shares that sum to 1 (then a soft cross-entropy). A mixed view counts with the class
    of the image it is based on; :class:`~runners.objectives.mix_ce.MixCE` mixes the labels too.
    """

    name = "ce"
    formula = "−log p_s[label], T = 1"
    source = "no teacher: the baseline of every table"
    weights = Weights(1, 0, 0)
    needs = frozenset({"labels"})
    separable = True

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(o.student_logits, o.own_labels(), reduction="none")}
