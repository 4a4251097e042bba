"""``γ CE + α KL + β L``: the loss of a student, its parts told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from kdstats.errors import CheckError, UsageError
from runners.objectives.card import Weights
from runners.objectives.ce import CE
from runners.objectives.evaluation import summed
from runners.objectives.kd import KD
from runners.objectives.objective import Objective
from runners.objectives.outputs import Outputs, Shape
from runners.objectives.parameters import not_negative


@dataclass(frozen=True)
class TotalEvaluation:
    """A total on one batch.

    Attributes:
        loss: Scalar float32 with gradient.
        parts: Unweighted losses by objective, and below them ``objective.term`` where it has several; no gradient.
        weighted: ``γ CE``, ``α KL``, ``β L`` by objective, the summands of ``loss``; no gradient.
        per_image: ``[B]`` unweighted losses without gradient, of the objectives that have them.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    weighted: dict[str, Tensor]
    per_image: dict[str, Tensor]


class Total(nn.Module):
    """The weighted sum ``γ hard + α soft + β other``, each objective called once per batch.

    An objective with weight 0 is not computed. Modules of the parts are its modules: ``parameters()`` and
    ``state_dict()`` hold theirs.

    Args:
        gamma: Weight of ``hard``.
        alpha: Weight of ``soft``.
        beta: Weight of ``other``.
        hard: Cross-entropy with labels; :class:`CE` when left out.
        soft: Distillation of the logits; :class:`KD` when left out.
        other: Any other objective; without it β is 0.

    Raises:
        UsageError: A weight below 0, all of them 0, or β without ``other``.
    """

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]

    def __init__(
        self,
        gamma: float = 0.1,
        alpha: float = 0.9,
        beta: float = 0.0,
        *,
        hard: Objective | None = None,
        soft: Objective | None = None,
        other: Objective | None = None,
    ) -> None:
        super().__init__()
        not_negative("the loss", gamma=gamma, alpha=alpha, beta=beta)
        if beta and other is None:
            raise UsageError(f"beta={beta:g} weighs another objective than CE and KL, and none was given")
        if not (gamma or alpha or beta):
            raise UsageError("gamma, alpha and beta are all 0: there is no loss")
        self.weights = Weights(gamma, alpha, beta)
        summands = ((gamma, hard or CE()), (alpha, soft or KD()), (beta, other))
        self._summands = [(w, o) for w, o in summands if w and o is not None]
        if len({o.name for _, o in self._summands}) < len(self._summands):
            names = ", ".join(o.name for _, o in self._summands)
            raise UsageError(f"an objective enters the loss twice: {names}; add up its weights")
        self.objectives = nn.ModuleDict({o.name: o for _, o in self._summands})

    @property
    def needs(self) -> frozenset[str]:
        """What the parts need, keys of :data:`runners.objectives.card.NEEDS`."""
        return frozenset().union(*(o.needs for _, o in self._summands))

    @property
    def least(self) -> int:
        """The smallest batch in which all parts have a meaning."""
        return max(o.least for _, o in self._summands)

    @property
    def check(self) -> bool:
        """See :attr:`Objective.check`; holds for all parts."""
        return all(o.check for _, o in self._summands)

    @check.setter
    def check(self, value: bool) -> None:
        for _, objective in self._summands:
            objective.check = value

    def __str__(self) -> str:
        return " + ".join(f"{w:g} {o.name}" for w, o in self._summands)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        """The loss; arguments and errors as :meth:`Objective.forward`."""
        return self.evaluate(student_logits, teacher_logits, labels, **more).loss

    def evaluate(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> TotalEvaluation:
        """The loss with its parts; arguments and errors as :meth:`Objective.forward`."""
        summands, parts, weighted, per_image = [], {}, {}, {}
        seen: list[tuple[Objective, Tensor, Outputs]] = []
        for weight, objective in self._summands:
            # Every test waits for the device: labels are tested once, losses by their sum.
            found, outputs = objective.unchecked(
                student_logits, teacher_logits, labels, self.check and not seen, more
            )
            seen.append((objective, found.loss, outputs))
            summands.append(weight * found.loss)
            parts[objective.name] = found.loss.detach()
            weighted[objective.name] = summands[-1].detach()
            if len(found.parts) > 1:
                parts |= {f"{objective.name}.{term}": value for term, value in found.parts.items()}
            if found.per_image is not None:
                per_image[objective.name] = found.per_image.detach()
        loss = summed(summands)
        if self.check and not bool(loss.isfinite()):
            for objective, part, outputs in seen:
                if not bool(part.isfinite()):
                    raise objective.diagnosis(outputs, float(part.detach()))
            sizes = ", ".join(f"{name} {float(value):g}" for name, value in weighted.items())
            raise CheckError(f"the loss {self} is {float(loss.detach())}, its weighted parts are {sizes}")
        return TotalEvaluation(loss, parts, weighted, per_image)

    def build(
        self,
        student_shapes: Sequence[Shape],
        teacher_shapes: Sequence[Shape],
        *,
        generator: torch.Generator,
        **more: Any,
    ) -> Self:
        """Builds every part, see :meth:`Objective.build`."""
        for _, objective in self._summands:
            objective.build(student_shapes, teacher_shapes, generator=generator, **more)
        return self

    def start_epoch(self, epoch: int) -> None:
        """Tells every part, see :meth:`Objective.start_epoch`."""
        for _, objective in self._summands:
            objective.start_epoch(epoch)
