"""CE: cross-entropy with the labels, no teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdstats.errors import UsageError


class CE:
    """Mean over the batch of ``−log p_s[label]`` at T = 1, float32."""

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor | None = None
    ) -> Tensor:
        """Mean loss over the batch from logits ``[B, C]`` and labels ``[B]``; the teacher is not used."""
        if labels is None:
            raise UsageError("the objective ce needs labels")
        return F.cross_entropy(student_logits.float(), labels)
