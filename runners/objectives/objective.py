"""The contract that every objective fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from kdstats.errors import CheckError, UsageError
from kdstats.schemes import AugmentedBatch
from runners.objectives.card import Weights
from runners.objectives.evaluation import Evaluation, summed
from runners.objectives.outputs import (
    Outputs,
    Shape,
    check_labels,
    check_rows,
    frozen,
    not_finite,
    said,
    shapes_of,
)


@dataclass(frozen=True)
class Setup:
    """What an objective with modules of its own is built for.

    Attributes:
        student_shapes: Shapes of the student's features of one image, see :func:`kdstats.models.measure.measure`.
        teacher_shapes: Likewise.
        classes: C.
        train_labels: ``[N]`` classes of the training images; needed by memory banks.
        train_ids: ``[N]`` their sample ids.
        head: The student's own linear head, where it is shared.
    """

    student_shapes: tuple[Shape, ...]
    teacher_shapes: tuple[Shape, ...]
    classes: int
    train_labels: Tensor | None = None
    train_ids: Tensor | None = None
    head: nn.Module | None = None


class Objective(nn.Module, ABC):
    """A distillation loss in nats (or in the units of its features).

    A subclass states its terms in :meth:`_terms`; casting, checking and summing are done here. An objective is
    a module: ``parameters()`` go to the student's optimiser, ``state_dict()`` holds everything that an exact
    resume needs (banks, generators, the batch before). In evaluation mode banks stay as they are.

    Attributes:
        name: Registry name.
        formula: The loss of a batch, for tables.
        source: Publication and code that the defaults come from.
        weights: Published weights in ``γ CE + α KL + β L``.
        needs: What must be handed over, keys of :data:`runners.objectives.card.NEEDS`.
        separable: Whether the loss is the mean of losses of single images.
        least: The smallest batch in which it has a meaning.
        renamed: Published names of parameters.
        check: Whether losses are tested for NaN and infinity and labels for their range. It waits for the
            device, so switch it off under CUDA graphs.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    weights: ClassVar[Weights] = Weights(1, 0, 1)
    needs: frozenset[str] = frozenset()
    separable: ClassVar[bool] = False
    least: ClassVar[int] = 1
    renamed: ClassVar[dict[str, str]] = {}
    check: bool = True

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]

    def __init__(self) -> None:
        super().__init__()
        self._epoch: int | None = None
        self._built: tuple[tuple[Shape, ...], tuple[Shape, ...]] | None = None

    @abstractmethod
    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        """The summands of the loss by name: ``[B]`` each if separable, else scalars; called once per batch."""

    def _build(self, setup: Setup) -> None:
        """Makes the modules; the global generator has been seeded for it."""

    def _forget(self) -> None:
        """Forgets what was kept of the batch before."""

    def _memory(self) -> dict[str, Any]:
        """What is no parameter or buffer and belongs into the checkpoint."""
        return {}

    def _remember(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`_memory`."""

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        student_features: Sequence[Tensor] | None = None,
        teacher_features: Sequence[Tensor] | None = None,
        sample_id: Tensor | None = None,
        view: AugmentedBatch | None = None,
    ) -> Tensor:
        """The loss, a float32 scalar with gradient to the student and to modules of the objective.

        Args:
            student_logits: ``[B, C]`` in any precision; computed in float32.
            teacher_logits: ``[B, C]``; never receives a gradient.
            labels: ``[B]`` classes, or ``[B, C]`` shares that sum to 1.
            student_features: ``[f0, …, f_last]`` of ``model(x, features=True)``.
            teacher_features: Likewise.
            sample_id: ``[B]`` ids.
            view: What the images are made of, when they are views.

        Raises:
            UsageError: Something needed is missing, or shapes do not fit.
            CheckError: The loss is NaN or infinite, or a label out of range (where :attr:`check`).
        """
        return self.evaluate(
            student_logits,
            teacher_logits,
            labels,
            student_features=student_features,
            teacher_features=teacher_features,
            sample_id=sample_id,
            view=view,
        ).loss

    def evaluate(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> Evaluation:
        """As :meth:`forward`, with the parts and the losses of single images."""
        found, outputs = self.unchecked(student_logits, teacher_logits, labels, self.check, more)
        if self.check and not bool(found.loss.isfinite()):
            raise self.diagnosis(outputs, float(found.loss.detach()))
        return found

    def unchecked(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None,
        check_range: bool,
        more: dict[str, Any],
    ) -> tuple[Evaluation, Outputs]:
        """The evaluation, perhaps NaN, and what :meth:`diagnosis` needs to say why.

        Args:
            student_logits: See :meth:`forward`.
            teacher_logits: Likewise.
            labels: Likewise.
            check_range: Whether labels are tested for their range.
            more: The keyword arguments of :meth:`forward`.
        """
        outputs, terms = self._evaluate(student_logits, teacher_logits, labels, check_range, more)
        means = {name: term.mean() for name, term in terms.items()}
        parts = {name: mean.detach() for name, mean in means.items()}
        per_image = summed(terms.values()) if self.separable else None
        return Evaluation(summed(means.values()), parts, per_image), outputs

    def per_image(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        """Losses of the images, ``[B]`` with gradient; their mean is the loss. The caller looks for NaN.

        Raises:
            UsageError: The loss compares images with each other.
        """
        if not self.separable:
            raise UsageError(f"{self.name} compares the images of a batch; it has no loss per image")
        return summed(self._evaluate(student_logits, teacher_logits, labels, False, more)[1].values())

    def _evaluate(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor | None,
        check: bool,
        more: dict[str, Any],
    ) -> tuple[Outputs, dict[str, Tensor]]:
        outputs = Outputs(
            self.name,
            student_logits.float(),
            None if teacher_logits is None else frozen(teacher_logits),
            labels,
            **more,
        )
        check_rows(outputs)
        self._check_needs(outputs)
        if check:
            check_labels(outputs)
        with torch.autocast(student_logits.device.type, enabled=False):
            return outputs, self._terms(outputs)

    def _check_needs(self, o: Outputs) -> None:
        if "teacher" in self.needs:
            _ = o.teacher
        if "labels" in self.needs:
            o.own_labels()
        if "sample_id" in self.needs:
            _ = o.ids
        if "view" in self.needs and o.view is None:
            raise UsageError(f"the objective {self.name} needs view, the AugmentedBatch of the images")
        if len(o.student_logits) < self.least:
            raise UsageError(
                f"{self.name} compares images with each other and needs a batch of at least {self.least}, "
                f"not {len(o.student_logits)}; change the batch size so that the last batch is larger"
            )
        if "modules" not in self.needs:
            return
        if self._built is None:
            raise UsageError(
                f"the objective {self.name} has modules of its own: call build(student_shapes, teacher_shapes, …) "
                "and give its parameters to the optimiser"
            )
        for whose, features, built in zip(
            ("student", "teacher"), (o.student_features, o.teacher_features), self._built, strict=True
        ):
            if features is not None and shapes_of(features) != built:
                raise UsageError(
                    f"{self.name} was built for {whose} features {said(built)}, these are {said(shapes_of(features))}"
                )

    def diagnosis(self, outputs: Outputs, loss: float) -> CheckError:
        """The error for a ``loss`` that is no number: which inputs or parameters are to blame."""
        found = not_finite(outputs)
        wrong = [k for k, p in self.named_parameters() if not bool(p.isfinite().all())]
        if wrong:
            found.append(f"own parameters {', '.join(wrong)}")
        why = (
            "; ".join(found)
            or "its inputs are finite, so it overflowed: lower its weight or the learning rate"
        )
        return CheckError(f"the loss {self.name} is {loss}: {why}")

    def build(
        self,
        student_shapes: Sequence[Shape],
        teacher_shapes: Sequence[Shape],
        *,
        classes: int,
        generator: torch.Generator,
        train_labels: Tensor | None = None,
        train_ids: Tensor | None = None,
        head: nn.Module | None = None,
    ) -> Self:
        """Makes the modules of the objective, on the CPU; does nothing for one that has none.

        Args:
            student_shapes: Shapes of the student's features of one image, stem to pooled vector.
            teacher_shapes: Likewise.
            classes: C.
            generator: A CPU generator; decides initial weights and later draws. The global one stays untouched.
            train_labels: ``[N]`` classes of all training images, for memory banks.
            train_ids: ``[N]`` their sample ids; 0…N−1 when left out.
            head: The student's linear head, for objectives that share it.

        Raises:
            UsageError: The shapes do not fit the objective.
        """
        if "modules" not in self.needs:
            return self
        shapes = tuple(tuple(s) for s in student_shapes), tuple(tuple(s) for s in teacher_shapes)
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self._build(Setup(*shapes, classes, train_labels, train_ids, head))
        self._built = shapes
        return self

    def start_epoch(self, epoch: int) -> None:
        """Tells the epoch, from 1: schedules follow it, and what was kept of the batch before is forgotten.

        Telling the same epoch again changes nothing, so a run resumed within it may say so.
        """
        if epoch < 1:
            raise UsageError(f"epochs count from 1, not {epoch}")
        if epoch != self._epoch:
            self._forget()
        self._epoch = epoch

    def get_extra_state(self) -> dict[str, Any]:
        """See ``torch.nn.Module``: epoch, and what the objective keeps beside parameters and buffers."""
        return {"objective": self.name, "epoch": self._epoch, "memory": self._memory()}

    def set_extra_state(self, state: Any) -> None:
        """See ``torch.nn.Module``.

        Raises:
            UsageError: The state of another objective.
        """
        if not isinstance(state, dict) or state.get("objective") != self.name:
            other = state.get("objective") if isinstance(state, dict) else None
            raise UsageError(
                f"a state of the objective {other or 'of nobody'} cannot be loaded into {self.name}"
            )
        self._epoch = state["epoch"]
        self._forget()
        self._remember(state["memory"])
