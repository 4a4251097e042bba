"""The loss on the views, by what they are to be taught."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdstats.schemes import AugmentedBatch, Targets
from runners.objectives.kd import KD


class ViewLoss:
    """Per-image loss of the student on the views x′, weighted by α in the objective.

    ``teacher``: KL(teacher(x′) ‖ student(x′)), the published choice (``--t_output_as_target_for_input_mix``).
    ``interpolated``: KL to the λ-mixed teacher logits of the images in the view. ``labels``: cross-entropy with
    their λ-mixed labels, at T = 1 and without T² (there ``w2`` of ``--lw_mix``).

    Args:
        kind: One of :data:`kdstats.schemes.TARGETS`.
        kd: The distillation loss.
        classes: Number of classes.
    """

    def __init__(self, kind: str, kd: KD, classes: int) -> None:
        self.targets, self.kd, self.classes = Targets(kind), kd, classes

    def per_image(
        self,
        view: AugmentedBatch,
        student: Tensor,
        teacher: Tensor,
        teacher_originals: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Loss of each view, ``[B]``, nats.

        Args:
            view: The views and what they are made of.
            student: ``[B, C]`` logits of the student on the views.
            teacher: ``[B, C]`` logits of the teacher on the views.
            teacher_originals: ``[B_in, C]`` logits of the teacher on the originals.
            labels: ``[B_in]`` classes of the originals.
        """
        if self.targets.kind == "teacher":
            return self.kd.per_image(student, teacher)
        if self.targets.kind == "interpolated":
            return self.kd.per_image(student, self.targets.logits(view, teacher_originals))
        mixed = self.targets.labels(view, labels, self.classes)
        return -(mixed * student.float().log_softmax(1)).sum(1)

    def reset(self) -> None:
        """At the start of every epoch."""
        self.targets.reset()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return self.targets.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self.targets.load_state_dict(state)
