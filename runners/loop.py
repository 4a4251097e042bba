"""The training loop of a student: read once, top to bottom.

Each step sees a batch of originals x and its views x′. Both networks see the same tensors. The loss is

    γ CE(student(x), y) + α [ KL(teacher(x) ‖ student(x)) + KL(teacher(x′) ‖ student(x′)) ]

(Wang et al. 2022, ``--lw_mix [1,0,1]``): originals are kept, views are relabelled by the teacher (or taught
otherwise, see :mod:`runners.view_loss`). The student forwards originals and views separately, so BatchNorm sees
two batches, as published.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats import models, schemes
from kdstats.data import LabelledImages
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.errors import CheckError, UsageError
from kdstats.provenance import now, provenance
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.paths import RunPaths
from kdstats.records.recorder import Recorder
from kdstats.records.writer import write_done, write_json_atomic
from kdstats.teacher.accuracy import Accuracy, measure
from kdstats.teacher.network import Network
from runners.checkpoint import load_state, save_state
from runners.objectives.kd import KD
from runners.run_spec import RunSpec
from runners.view_loss import ViewLoss

EpochDone = Callable[[int, int, dict[str, Any]], None]


@dataclass
class _Best:
    """The best epoch so far: by accuracy, and apart from it by loss.

    Attributes:
        accuracy: Test accuracy in the epoch of the highest accuracy on the images that choose, a fraction.
        epoch: That epoch, from 1.
        loss: Test loss in the epoch of the lowest loss on the images that choose, nats.
        chosen_by: Accuracy and loss on the images that choose: the test images themselves, or those held out.
    """

    accuracy: float = -1.0
    epoch: int = -1
    loss: float = float("inf")
    chosen_by: tuple[float, float] = (-1.0, float("inf"))

    @classmethod
    def of(cls, kept: dict[str, Any]) -> _Best:
        """From a state; older ones knew of test images only."""
        by = kept.get("chosen_by", (kept["accuracy"], kept["loss"]))
        return cls(kept["accuracy"], kept["epoch"], kept["loss"], (by[0], by[1]))

    def see(self, epoch: int, test: Accuracy, choosing: Accuracy) -> bool:
        """Takes note of an epoch; whether it has the highest accuracy so far."""
        accuracy, loss = self.chosen_by
        if choosing.loss < loss:
            self.loss, loss = test.loss, choosing.loss
        better = choosing.accuracy > accuracy
        if better:
            self.accuracy, self.epoch, accuracy = test.accuracy, epoch, choosing.accuracy
        self.chosen_by = (accuracy, loss)
        return better


def train_student(
    spec: RunSpec,
    paths: RunPaths,
    train_set: LabelledImages,
    test_set: LabelledImages,
    teacher: Network,
    on_epoch: EpochDone | None = None,
    validation: LabelledImages | None = None,
) -> dict[str, Any]:
    """Trains one student and leaves a complete run directory; continues after the last whole epoch.

    Args:
        spec: What to train.
        paths: Where.
        train_set: Training images on the device.
        test_set: Test images on the device.
        teacher: The teacher, in evaluation mode.
        on_epoch: Called after each epoch with (epoch from 1, epochs, its metrics).
        validation: Images that choose the best epoch; the test images do without them, as in the papers.

    Returns:
        The outcome: last and best test loss (nats) and accuracy (fractions), seconds.

    Raises:
        CheckError: The loss became NaN or infinite; epoch, step and samples are named.
    """
    device = train_set.device
    recipe = spec.recipe
    torch.manual_seed(spec.seed)
    student = models.build(spec.student, train_set.classes, train_set.img_size, train_set.channels)
    student = student.to(device).to(memory_format=torch.channels_last)
    scheme = schemes.get(
        spec.scheme, draws=spec.draws, space=schemes.PixelSpace(train_set.mean, train_set.std)
    )
    rest = len(train_set) % recipe.batch_size
    if 0 < rest < scheme.least:
        raise UsageError(
            f"the last batch would hold {rest} image; {scheme.name} needs {scheme.least}. Change batch_size"
        )
    base = StandardAugmentation(train_set.base)
    kd = KD(spec.temperature)
    on_views = ViewLoss(spec.targets, kd, train_set.classes)
    optimiser = recipe.optimiser(student)
    best, first, spent, result = _Best(), 0, 0.0, None
    state = load_state(paths.state, spec.digest)
    if state is not None:
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        best, first, spent = _Best.of(state["best"]), state["epoch"], state["seconds"]
        scheme.load_state_dict(state.get("scheme", {}))
        on_views.load_state_dict(state.get("targets", {}))

    paths.root.mkdir(parents=True, exist_ok=True)
    # A run that says it is complete and is not (a damaged part) is taken up again, from its state if there is one.
    paths.done.unlink(missing_ok=True)
    write_json_atomic(paths.run_json, _card(spec, teacher, scheme, device))
    _keep_lines(paths, first)
    steps = -(-len(train_set) // recipe.batch_size)
    meta = {k: getattr(spec, k) for k in ("teacher", "student", "scheme", "seed", "digest")}
    recorder = Recorder(
        paths,
        classes=train_set.classes,
        every=spec.log_every,
        dtype=spec.log_dtype,
        meta=meta,
        resume=first > 0,
        overwrite=first == 0,
        finish=False,
    )
    with recorder:
        for epoch in range(first, recipe.epochs):
            began = time.perf_counter()
            recorder.start_epoch(epoch + 1)
            student.train()
            scheme.reset()
            on_views.reset()
            order = epoch_order(spec.seed, epoch, len(train_set))
            total = torch.zeros((), device=device)
            batches = train_set.batches(torch.split(order, recipe.batch_size), base, spec.seed, epoch)
            for step, (pixels, labels, ids) in enumerate(batches):
                x = train_set.normalise(pixels).to(memory_format=torch.channels_last)
                teacher_x = teacher.logits(x)
                view = scheme.apply(
                    x,
                    labels,
                    ids,
                    generator=view_generator(spec.seed, scheme.draws, epoch, step),
                    teacher=teacher.logits,
                    student=_scored(student),
                )
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr_at(epoch * steps + step, steps)
                teacher_v = view.teacher_logits  # picking has asked already
                if teacher_v is None:
                    teacher_v = teacher.logits(view.images)
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    student_x, student_v = student(x), student(view.images)
                kd_x = kd.per_image(student_x, teacher_x)
                kd_v = on_views.per_image(view, student_v, teacher_v, teacher_x, labels)
                loss = spec.gamma * F.cross_entropy(student_x.float(), labels)
                loss = loss + spec.alpha * (kd_x.mean() + kd_v.mean())
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.detach() * len(labels)
                recorder.add(
                    step=step,
                    sample_id=ids,
                    labels=labels,
                    teacher_logits=teacher_x,
                    student_logits=student_x.detach(),
                    loss_kd=kd_x.detach(),
                )
                recorder.add(
                    step=step,
                    sample_id=view.sample_id,
                    labels=view.labels,
                    teacher_logits=teacher_v,
                    student_logits=student_v.detach(),
                    view="augmented",
                    partner_id=view.partner_id,
                    lam=view.lam,
                    loss_kd=kd_v.detach(),
                )
            train_loss = float(total) / len(train_set)
            if not abs(train_loss) < float("inf"):
                raise CheckError(f"the training loss is {train_loss} in epoch {epoch + 1} of {spec.title}")
            recorder.end_epoch()
            result = measure(student, test_set)
            seconds = time.perf_counter() - began
            spent += seconds
            held = None if validation is None else measure(student, validation)
            if best.see(epoch + 1, result, held or result):
                models.save_weights(student, paths.best, {"arch": spec.student, "dataset": spec.dataset})
            line = {
                "epoch": epoch + 1,
                "lr": optimiser.param_groups[0]["lr"],
                "train_loss": train_loss,
                "test_loss": result.loss,
                "test_acc": result.accuracy,
                **({} if held is None else {"val_loss": held.loss, "val_acc": held.accuracy}),
                "seconds": round(seconds, 3),
            }
            with paths.metrics.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            # The history ends with the epoch, so the state needs to carry none of it.
            scheme.reset()
            on_views.reset()
            # After the records and the metrics, so that a state never speaks of an epoch that is not on disk.
            save_state(
                paths.state,
                {
                    "identity": spec.digest,
                    "student": student.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "scheme": scheme.state_dict(),
                    "targets": on_views.state_dict(),
                    "best": {**vars(best), "chosen_by": list(best.chosen_by)},
                    "epoch": epoch + 1,
                    "seconds": spent,
                },
            )
            if on_epoch is not None:
                on_epoch(epoch + 1, recipe.epochs, line)
    models.save_weights(student, paths.last, {"arch": spec.student, "dataset": spec.dataset})
    final = result or measure(student, test_set)  # a run resumed after its last epoch has measured none
    outcome = {
        "test_loss_last": final.loss,
        "acc_last": final.accuracy,
        "test_loss_best": best.loss,
        "acc_best": best.accuracy,
        "epoch_best": best.epoch,
        "best_chosen_by": "test images" if validation is None else "validation images",
        "epochs": recipe.epochs,
        "seconds": spent,
    }
    write_done(paths, {"outcome": outcome, "run": spec.resolved(), "recipe_digest": spec.recipe_digest})
    paths.state.unlink(missing_ok=True)
    return outcome


def _scored(student: nn.Module) -> Callable[[Tensor], Tensor]:
    """The student as a scorer for picking: evaluation mode, no gradient, its BatchNorm statistics untouched.

    The published code scores in training mode, so that the pool's statistics leak into BatchNorm.
    """

    def logits(images: Tensor) -> Tensor:
        was_training = student.training
        student.eval()
        with torch.no_grad():
            out: Tensor = student(images)
        student.train(was_training)
        return out

    return logits


def _keep_lines(paths: RunPaths, epochs: int) -> None:
    """Cuts ``metrics.jsonl`` back to the epochs that the state knows."""
    if not paths.metrics.exists():
        return
    kept = []
    for line in paths.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["epoch"] <= epochs:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    write_bytes_atomic(paths.metrics, "".join(f"{line}\n" for line in kept).encode())


def _card(spec: RunSpec, teacher: Network, scheme: schemes.Scheme, device: torch.device) -> dict[str, Any]:
    return {
        "schema": "kdstats/student-run/1",
        "run": spec.resolved(),
        "digest": spec.digest,
        "recipe_digest": spec.recipe_digest,
        "scheme": repr(scheme),
        "teacher_sha256": teacher.sha256,
        "started": now(),
        "provenance": provenance(str(device)),
    }
