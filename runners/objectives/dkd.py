"""DKD: the KL divergence split into target class and the rest."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kdstats.errors import UsageError
from runners.objectives.card import Weights
from runners.objectives.kd import kl
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs
from runners.objectives.parameters import not_negative, positive


class DKD(Objective):
    """``w T² [ target · KL(b_t ‖ b_s) + non_target · KL(q_t ‖ q_s) ]``, w = min(epoch / 20, 1).

    At temperature T = 4: b is the pair (p[y], 1 − p[y]), q the distribution over the other classes given that it
    is not y. ``KL(p_t ‖ p_s) = KL(b_t ‖ b_s) + (1 − p_t[y]) KL(q_t ‖ q_s)``, so target = 1 and non_target = 8
    free the second term from the teacher's confidence.

    y of a mixed view is the class of its larger share, of label shares their largest. The warm-up follows
    :meth:`start_epoch`; until an epoch was told there is none (w = 1).

    Source: Zhao et al., CVPR 2022; mdistiller (α 1, β 8, T 4, warm-up 20, CE weight 1).

    Args:
        target: Weight of the target class (their alpha).
        non_target: Weight of the rest (their beta).
        temperature: T.
        warmup: Epochs of the linear warm-up; 0 for none.
    """

    name = "dkd"
    formula = "T² [1 · KL(b_t ‖ b_s) + 8 · KL(q_t ‖ q_s)] · min(epoch/20, 1), T = 4"
    source = "Zhao et al. 2022; mdistiller"
    weights = Weights(1, 0, 1)
    needs = frozenset({"teacher", "labels"})
    separable = True
    renamed: ClassVar[dict[str, str]] = {"kd_T": "temperature", "alpha": "target", "beta": "non_target"}

    def __init__(
        self, target: float = 1.0, non_target: float = 8.0, temperature: float = 4.0, warmup: int = 20
    ) -> None:
        super().__init__()
        not_negative(self.name, target=target, non_target=non_target, warmup=warmup)
        positive(self.name, temperature=temperature)
        self.target, self.non_target = target, non_target
        self.temperature, self.warmup = temperature, warmup

    @property
    def factor(self) -> float:
        """w of the present epoch."""
        return 1.0 if self._epoch is None or not self.warmup else min(self._epoch / self.warmup, 1.0)

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        if o.classes < 2:
            raise UsageError(f"{self.name}: one class has no others")
        labels = o.hard_labels()
        b_s, q_s = _split(o.student_logits / self.temperature, labels)
        b_t, q_t = _split(o.teacher / self.temperature, labels)
        scale = self.factor * self.temperature**2
        return {
            "target": scale * self.target * kl(b_t, b_s),
            "non_target": scale * self.non_target * kl(q_t, q_s),
        }


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of (the class, any other) ``[B, 2]`` and of the others among themselves ``[B, C − 1]``."""
    column = labels[:, None]
    others = torch.arange(logits.shape[1] - 1, device=logits.device)[None]
    rest = logits.gather(1, others + (others >= column))
    pair = torch.cat([logits.gather(1, column), rest.logsumexp(1, keepdim=True)], dim=1)
    return pair, rest
