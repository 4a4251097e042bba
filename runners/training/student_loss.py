"""The loss of one step: what originals and views contribute, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.errors import UsageError
from kdstats.schemes import AugmentedBatch, Targets
from runners import objectives
from runners.objectives.kd import KD
from runners.run_spec import RunSpec


@dataclass(frozen=True)
class Side:
    """What both networks say of the originals, or of the views.

    Attributes:
        student: ``[B, C]`` logits of the student, with gradient.
        teacher: ``[B, C]`` logits of the teacher.
        student_features: Of ``model(x, features=True)``; None where the objective needs none.
        teacher_features: Likewise.
    """

    student: Tensor
    teacher: Tensor
    student_features: Sequence[Tensor] | None = None
    teacher_features: Sequence[Tensor] | None = None


@dataclass(frozen=True)
class StepLoss:
    """The loss of a step.

    Attributes:
        loss: Scalar with gradient.
        parts: Unweighted parts by name, without gradient; their means over an epoch stand in ``metrics.jsonl``.
        originals: ``[B]`` distillation losses of the originals for the records; None where there are none.
        views: Likewise of the views.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    originals: Tensor | None
    views: Tensor | None


class StudentLoss(nn.Module):
    """``γ CE(x) + α KL(x) + β L(x) + α_v KL(x′)``, or the same on the views alone.

    With ``originals="kept"`` (Wang et al. 2022) originals and views are both trained on; labels and the objective L see
    the originals, the views are relabelled (``targets``) and weighed by α_v, which is α unless told otherwise. With
    ``originals="replaced"`` (MIX-KD, RecursiveMix) the views take the place of the originals, labels are mixed as the
    images are, and L sees the views.

    Args:
        spec: The run.
        classes: Number of classes.

    Raises:
        UsageError: Unknown objective, senseless weights, or views that nothing would be learned from.
    """

    def __init__(self, spec: RunSpec, classes: int) -> None:
        super().__init__()
        self.kept, self.classes = spec.originals == "kept", classes
        self.total = _total(spec)
        # The loop reads the sum of all losses once an epoch; a test in every step would wait for the device.
        self.total.check = False
        self.kd = KD(spec.temperature, spec.student_temperature)
        self.targets = Targets(spec.targets)
        self.weight = 0.0
        if self.kept:
            self.weight = self.total.weights.alpha if spec.alpha_views is None else spec.alpha_views
            if self.weight == 0:
                raise UsageError(
                    f"the views of {spec.scheme} would not be learned from: the objective {spec.objective} has α = 0. "
                    "Give it a weight (alpha, or alpha_views for the views alone), or train on the views "
                    "instead of the originals (originals = 'replaced')"
                )
            if "view" in self.total.needs or "recursive" in self.total.needs:
                raise UsageError(
                    f"the objective {spec.objective} is about views, and with originals = 'kept' it would see the "
                    "originals: train on the views instead (originals = 'replaced')"
                )
        elif spec.targets == "labels":
            raise UsageError(
                "with originals = 'replaced' labels are mixed as the images are, so targets = 'labels' changes nothing; "
                "for no teacher at all take the objective mix_ce"
            )
        elif spec.alpha_views is not None:
            raise UsageError(
                "alpha_views weighs the views beside the originals; there are none (originals = 'replaced')"
            )

    @property
    def features(self) -> frozenset[str]:
        """Whose features are needed: ``student``, ``teacher``."""
        needs = self.total.needs
        both = {"student", "teacher"} if "features" in needs else set()
        return frozenset(both | ({"student"} if "student_features" in needs else set()))

    @property
    def objectives(self) -> list[objectives.Objective]:
        """The summands that are not weighed with 0."""
        return [o for o in self.total.objectives.values() if isinstance(o, objectives.Objective)]

    def build(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        example: Tensor,
        labels: Tensor,
        ids: Tensor,
        generator: torch.Generator,
    ) -> None:
        """Makes the modules of the objective, where it has any; see :meth:`Objective.build`."""
        if "modules" not in self.total.needs:
            return
        shapes = [_shapes(network, example) if network is not None else [] for network in (student, teacher)]
        head = getattr(student, getattr(type(student), "HEAD", "fc"), None)
        self.total.build(
            *shapes, classes=self.classes, generator=generator, train_labels=labels, train_ids=ids, head=head
        )

    def start_epoch(self, epoch: int) -> None:
        """``epoch`` (from 1) begins, or goes on."""
        self.total.start_epoch(epoch)

    def forget(self) -> None:
        """Forgets what was kept of the batch before, at the start of an epoch."""
        self.targets.reset()

    def of(
        self,
        originals: Side | None,
        views: Side,
        view: AugmentedBatch,
        labels: Tensor,
        ids: Tensor,
        mine: slice,
        asked: Tensor,
    ) -> StepLoss:
        """The loss of a step.

        Args:
            originals: Of the originals; None where the views replace them.
            views: Of the views.
            view: What they are made of.
            labels: ``[B_in]`` classes of the whole batch of originals, in which ``view.index`` counts.
            ids: ``[B_in]`` their sample ids.
            mine: Which of them ``originals`` are.
            asked: ``[B_in, C]`` the teacher's logits of the originals, for interpolated targets.
        """
        if originals is None:
            return self._replaced(views, view, labels, asked)
        found = self.total.evaluate(
            originals.student,
            originals.teacher,
            labels[mine],
            student_features=originals.student_features,
            teacher_features=originals.teacher_features,
            sample_id=ids[mine],
        )
        kd_v = self._view_loss(views, view, labels, asked)
        mean_v = kd_v.mean()
        return StepLoss(
            found.loss + self.weight * mean_v,
            {**found.parts, "views": mean_v.detach()},
            found.per_image.get("kd"),
            kd_v.detach(),
        )

    def _view_loss(self, side: Side, view: AugmentedBatch, labels: Tensor, asked: Tensor) -> Tensor:
        if self.targets.kind == "labels":
            mixed = self.targets.labels(view, labels, self.classes)
            return -(mixed * side.student.float().log_softmax(1)).sum(1)
        return self.kd.per_image(side.student, self._targets(side, view, asked))

    def _targets(self, side: Side, view: AugmentedBatch, asked: Tensor) -> Tensor:
        return side.teacher if self.targets.kind == "teacher" else self.targets.logits(view, asked)

    def _replaced(self, side: Side, view: AugmentedBatch, labels: Tensor, asked: Tensor) -> StepLoss:
        teacher = self._targets(side, view, asked)
        found = self.total.evaluate(
            side.student,
            teacher,
            labels[view.index] if view.labels is None else view.labels,
            student_features=side.student_features,
            teacher_features=side.teacher_features,
            sample_id=view.sample_id,
            view=view,
        )
        return StepLoss(found.loss, found.parts, None, found.per_image.get("kd"))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the objective's modules, for the optimiser."""
        return self.total.parameters()

    def memory(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"objective": self.total.state_dict(), "targets": self.targets.state_dict()}

    def remember(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`memory`."""
        self.total.load_state_dict(state["objective"])
        self.targets.load_state_dict(state["targets"])


def _total(spec: RunSpec) -> objectives.Total:
    """``γ CE + α KL + β L`` of the run; labels are mixed where views replace the originals."""
    temperatures = {"temperature": spec.temperature, "student_temperature": spec.student_temperature}
    params = dict(spec.objective_params)
    if spec.objective == "kd":
        twice = sorted(set(params) & {"temperature", "student_temperature", "kd_T", "kd_S"})
        if twice:
            raise UsageError(
                f"{twice[0]} of kd is the run's own temperature: set that instead of the parameter"
            )
        params |= temperatures
    own = objectives.get(spec.objective, **params)
    mixed = spec.originals == "replaced" and spec.objective not in ("ce", "mix_ce")
    return objectives.total(
        own,
        hard="mix_ce" if mixed else "ce",
        gamma=spec.gamma,
        alpha=spec.alpha,
        beta=spec.beta,
        **({} if spec.objective == "kd" else temperatures),
    )


def _shapes(network: nn.Module, example: Tensor) -> list[tuple[int, ...]]:
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            _, maps = network(example, features=True)
    except TypeError:
        raise UsageError(
            f"the objective needs the maps between the stages; {type(network).__name__} is no network of "
            "kdstats.models and gives none"
        ) from None
    finally:
        network.train(was_training)
    return [tuple(m.shape[1:]) for m in maps]
