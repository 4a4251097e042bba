"""One step of both networks: what they are asked, how a batch is shared among processes, what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.records.recorder import Recorder
from kdstats.schemes import AugmentedBatch
from runners.run_spec import RunSpec
from runners.training.ranks import Ranks
from runners.training.setup import Training
from runners.training.student_loss import Side, StepLoss


def sides(run: Training, spec: RunSpec, x: Tensor, view: AugmentedBatch) -> tuple[Side | None, Side]:
    """Both networks on the originals (unless they are replaced) and on the views.

    The teacher answers in float32 whatever the precision of training: originals and views are compared with each other.
    """
    kept, features = spec.originals == "kept", bool(run.loss.features)
    scored = view.teacher_logits
    if scored is None or (run.asking.features and not kept):
        teacher_v, maps_v = run.asking(view.images)
    else:
        teacher_v, maps_v = scored, None  # picking has asked already
    teacher_x, maps_x = run.asking(x) if kept else (None, None)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=spec.recipe.precision == "bf16"):
        if teacher_x is None:
            student_v, own_v = _forward(run.network, view.images, features)
            return None, Side(student_v, teacher_v, own_v, maps_v)
        if spec.passes == "joint":
            both, maps = _forward(run.network, torch.cat([x, view.images]), features)
            student_x, student_v = both[: len(x)], both[len(x) :]
            own_x = None if maps is None else [m[: len(x)] for m in maps]
        else:
            student_x, own_x = _forward(run.network, x, features)
            student_v, _ = _forward(run.network, view.images, False)
    return Side(student_x, teacher_x, own_x, maps_x), Side(student_v, teacher_v)


def _forward(network: Any, images: Tensor, features: bool) -> tuple[Tensor, list[Tensor] | None]:
    if not features:
        return network(images), None
    logits, maps = network(images, features=True)
    return logits, maps


def score(student: nn.Module, images: Tensor) -> Tensor:
    """The student as a scorer for picking: evaluation mode, no gradient, its BatchNorm statistics untouched.

    The published code scores in training mode, so that the pool's statistics leak into BatchNorm.
    """
    was_training = student.training
    student.eval()
    with torch.no_grad():
        out: Tensor = student(images)
    student.train(was_training)
    return out


def part_of(view: AugmentedBatch, share: slice) -> AugmentedBatch:
    """This process's views, of which ``index`` still counts in the whole batch."""

    def cut(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows[share]

    return replace(
        view,
        images=view.images[share],
        sample_id=view.sample_id[share],
        partner_id=view.partner_id[share],
        lam=view.lam[share],
        index=view.index[share],
        partner_index=view.partner_index[share],
        labels=cut(view.labels),
        partner_labels=cut(view.partner_labels),
        teacher_logits=cut(view.teacher_logits),
    )


def record(
    recorder: Recorder | None,
    ranks: Ranks,
    step: int,
    ids: Tensor,
    labels: Tensor,
    view: AugmentedBatch,
    originals: Side | None,
    views: Side,
    found: StepLoss,
) -> None:
    """Leaves the rows of all processes with the first one."""

    def whole(part: Tensor | None, n: int) -> Tensor | None:
        return None if part is None else ranks.gather(part.detach(), n)

    n, m = len(labels), len(view.lam)
    rows_x = (
        None
        if originals is None
        else [whole(t, n) for t in (originals.teacher, originals.student, found.originals)]
    )
    rows_v = [whole(t, m) for t in (views.teacher, views.student, found.views)]
    if recorder is None:
        return
    if rows_x is not None:
        recorder.add(
            step=step,
            sample_id=ids,
            labels=labels,
            teacher_logits=rows_x[0],
            student_logits=rows_x[1],
            loss_kd=rows_x[2],
        )
    recorder.add(
        step=step,
        sample_id=view.sample_id,
        labels=view.labels,
        teacher_logits=rows_v[0],
        student_logits=rows_v[1],
        view="augmented",
        partner_id=view.partner_id,
        lam=view.lam,
        loss_kd=rows_v[2],
    )
