"""RecursiveMix's region consistency: what is seen in the pasted region is what was said of the earlier view."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from kdstats.errors import UsageError, unknown
from kdstats.schemes import AugmentedBatch
from runners.objectives.card import Weights
from runners.objectives.objective import Objective, Setup
from runners.objectives.outputs import Outputs, numbers_in

HEADS = ("own", "shared")
TARGETS = ("student", "teacher")


class RegionConsistency(Objective):
    """``1/B Σ_n (1 − λ_n) Σ_c −p_c(z_n^before) log softmax(h(RoIAlign(f_s[-2], box_n)))_c``.

    A view of ``recursive_mix`` shows the whole view of the batch before, shrunk into a box. The map of the
    student over that box, aligned to 1×1 (continuous box, bilinear, ``aligned``, as many samples as pixels of
    the map per side), passes through a linear head h and is compared with what was said of that earlier view as
    a whole. 1 − λ is the share of the box, so views without one count 0; ω is β in ``γ CE + α KL + β L``.

    The head is a linear layer of its own, or the student's: possible where that reads the mean of the last map
    (resnets, vgg, ShuffleV1), not in wrn, MobileNetV2 and ShuffleV2, which have layers in between.

    Call it on every batch of views of an epoch, the first included: it keeps the logits of the views for the
    next, and forgets them when an epoch starts.

    Source: Yang et al., NeurIPS 2022, and its code (``aug_omega`` 0.5, own head unless ``share_fc``).

    Args:
        head: ``own`` or ``shared``.
        target: Whose earlier logits are the target: the ``student``'s, as published, or the ``teacher``'s.
    """

    name = "region_consistency"
    formula = "(1 − λ) CE(softmax(z_before), h(RoIAlign(f_s[-2], box)))"
    source = "Yang et al. 2022, RecursiveMix"
    weights = Weights(1, 0, 0.5)
    needs = frozenset({"student_features", "view", "recursive", "modules"})
    separable = True

    def __init__(self, head: str = "own", target: str = "student") -> None:
        super().__init__()
        if head not in HEADS:
            raise unknown("head of region_consistency", str(head), HEADS)
        if target not in TARGETS:
            raise unknown("target of region_consistency", str(target), TARGETS)
        self.shared, self.target = head == "shared", target
        if target == "teacher":
            self.needs = self.needs | {"teacher"}
        self._before: Tensor | None = None
        self._student_head: tuple[nn.Module, ...] = ()
        self._compared = False

    def _build(self, setup: Setup) -> None:
        if len(setup.student_shapes) < 2 or len(setup.student_shapes[-2]) != 3:
            raise UsageError(f"{self.name}: the student has no map before its pooled vector")
        channels, vector = setup.student_shapes[-2][0], numbers_in(setup.student_shapes[-1])
        if not self.shared:
            self.head = nn.Linear(channels, setup.classes)
            return
        if setup.head is None:
            raise UsageError(f"{self.name}: head='shared' needs the student's head, build(…, head=)")
        if channels != vector:
            raise UsageError(
                f"{self.name}: the student's head reads {vector} numbers, its last map has {channels} channels; "
                "use head='own'"
            )
        self._student_head = (
            setup.head,
        )  # in a tuple: its parameters are the student's, not the objective's

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        view = o.view
        if view is None:
            raise UsageError(f"the objective {self.name} needs view, the AugmentedBatch of the images")
        before = self._before
        self._before = (o.teacher if self.target == "teacher" else o.student_logits).detach().clone()
        if not view.recursive:
            if bool((view.lam < 1).any()):
                raise UsageError(
                    f"{self.name} is defined for views of recursive_mix, not of {view.draw.scheme}: only there the "
                    "pasted region was seen before"
                )
            return {"region": (0 * o.student_logits).sum(1)}
        if before is None:
            raise UsageError(
                f"{self.name}: these views show the batch before, which the objective has not seen; call it on "
                "every batch of the epoch"
            )
        logits = self._linear(self._regions(o, view))
        target = before.to(logits).softmax(1)[view.partner_index]
        return {"region": (1 - view.lam) * -(target * logits.log_softmax(1)).sum(1)}

    def _regions(self, o: Outputs, view: AugmentedBatch) -> Tensor:
        """The map of each image over its box, ``[B, D]``."""
        maps = o.student_feature(-2)
        b = len(maps)
        top, bottom, left, right = view.draw.params["box"].to(maps).expand(b, 4).unbind(1)
        corners = torch.stack([torch.arange(b).to(maps), left, top, right, bottom], dim=1)
        if self.shared and not self._compared:
            self._compare(o, maps)
        scale = maps.shape[2] / view.images.shape[2]
        regions: Tensor = roi_align(maps, corners, 1, scale, -1, True)
        return regions.flatten(1)

    def _compare(self, o: Outputs, maps: Tensor) -> None:
        vector = o.student_feature(-1).detach()
        if not torch.allclose(
            maps.detach().mean((2, 3)), vector, rtol=1e-2, atol=1e-3 * float(vector.abs().max())
        ):
            raise UsageError(
                f"{self.name}: the student's head does not read the mean of its last map (wrn has BatchNorm and ReLU "
                "in between); use head='own'"
            )
        self._compared = True

    def _linear(self, regions: Tensor) -> Tensor:
        module = self._student_head[0] if self.shared else self.head
        out: Tensor = module(regions)
        return out

    def _forget(self) -> None:
        self._before = None

    def _memory(self) -> dict[str, Any]:
        return {} if self._before is None else {"logits": self._before}

    def _remember(self, state: dict[str, Any]) -> None:
        self._before = state.get("logits")
