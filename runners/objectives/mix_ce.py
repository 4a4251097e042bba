"""Hard-label mixing: cross-entropy with the λ-mixed labels of a view."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from runners.objectives.card import Weights
from runners.objectives.mixed_labels import MixedLabels
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs


class MixCE(Objective):
    """``1/B Σ_n [ −λ log p_s(y) − (1 − λ) log p_s(y_partner) ]`` at T = 1, no T².

    No teacher. λ is the share of the view's own image after clipping, both labels travel with the view
    (``view.labels``, ``view.partner_labels``). Views of RecursiveMix are mixed with the fused labels of the
    batch before, which are kept from call to call and forgotten at the start of an epoch.

    Source: Zhang et al. 2018 (mixup), Yun et al. 2019 (CutMix); in Good-DA-in-KD the second weight of
    ``lw_mix``, implemented there for CutMix alone.
    """

    name = "mix_ce"
    formula = "−λ log p_s[y] − (1 − λ) log p_s[y_partner], T = 1"
    source = "mixup, CutMix; Good-DA-in-KD lw_mix w2"
    weights = Weights(1, 0, 0)
    needs = frozenset({"labels"})
    separable = True

    def __init__(self) -> None:
        super().__init__()
        self._labels = MixedLabels()

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        return {"mix_ce": -(self._labels.of(o) * o.student_logits.log_softmax(1)).sum(1)}

    def _forget(self) -> None:
        self._labels.forget()

    def _memory(self) -> dict[str, Any]:
        return self._labels.state()

    def _remember(self, state: dict[str, Any]) -> None:
        self._labels.load(state)
