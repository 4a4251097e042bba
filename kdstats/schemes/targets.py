"""What a view is to be taught: the teacher's own answer, mixed teacher logits, or mixed labels."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import AugmentedBatch

TARGETS = {
    "teacher": "the teacher is asked about the view itself (the papers' main choice)",
    "interpolated": "λ-mixed teacher logits of the images in it",
    "labels": "λ-mixed hard labels of the images in it, cross-entropy",
}


def check_targets(kind: str) -> str:
    """``kind`` if it is one of :data:`TARGETS`, else ``UsageError`` with the nearest."""
    if kind not in TARGETS:
        raise unknown("kind of targets", kind, TARGETS)
    return kind


class Targets:
    """Targets of the views of one run, batch after batch.

    For a scheme with a history the partner of a view is itself mixed, so the mixed values of the batch before
    are kept here, and belong into the checkpoint beside the scheme's.

    Args:
        kind: ``teacher``, ``interpolated`` (Wang et al. 2022, without ``t_output_as_target_for_input_mix``) or
            ``labels``. Under a scheme that mixes nothing the last two are the teacher's answer to the original
            and the original's label.

    Raises:
        UsageError: Unknown kind.
    """

    def __init__(self, kind: str) -> None:
        self.kind = check_targets(kind)
        self._before: Tensor | None = None

    def reset(self) -> None:
        """Forgets the batch before; together with the scheme's :meth:`~kdstats.schemes.Scheme.reset`."""
        self._before = None

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; empty without a history."""
        return {} if self._before is None else {"before": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self._before = state.get("before")

    def logits(self, batch: AugmentedBatch, originals: Tensor) -> Tensor:
        """λ-mixed teacher logits ``[B, C]`` of the views, from those of the originals ``[B_in, C]``."""
        return self._keep(batch, originals)

    def labels(self, batch: AugmentedBatch, labels: Tensor, classes: int) -> Tensor:
        """λ-mixed labels ``[B, C]`` of the views (rows sum to 1), from the originals' classes ``[B_in]``."""
        return self._keep(batch, F.one_hot(labels, classes).float())

    def _keep(self, batch: AugmentedBatch, values: Tensor) -> Tensor:
        if self.kind == "teacher":
            raise UsageError("targets=teacher mixes nothing: ask the teacher about the views")
        mixed = batch.mix(values, self._before)
        self._before = mixed.detach()
        return mixed
