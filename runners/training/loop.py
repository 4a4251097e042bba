"""The training loop of a student: read once, top to bottom.

Each step sees a batch of originals x and its views x′. Both networks see the same tensors. The loss is, by default,

    γ CE(student(x), y) + α [ KL(teacher(x) ‖ student(x)) + KL(teacher(x′) ‖ student(x′)) ]

(Wang et al. 2022, ``--lw_mix [1,0,1]``): originals are kept, views are relabelled by the teacher. What else it may be is
in :mod:`runners.training.student_loss`. The student forwards originals and views separately, so BatchNorm sees two
batches, as published.

Order, standard augmentation and draws are functions of (seed, epoch, step or sample id). So a run that was killed and
started again, from whichever state, makes the same steps as one that never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from kdstats.data import LabelledImages
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.errors import UsageError
from kdstats.records.paths import RunPaths
from kdstats.records.recorder import Recorder
from kdstats.teacher.accuracy import measure
from kdstats.teacher.network import Network
from runners.progress import say
from runners.run_spec import RunSpec
from runners.training.checkpoint import load_state, save_state
from runners.training.distance_log import DistanceLog
from runners.training.folder import end_of_epoch, finish, open_folder
from runners.training.interrupts import Interrupts
from runners.training.ranks import ALONE, Ranks
from runners.training.setup import Training, batch_of, identity, prepare
from runners.training.shared_answers import SharedAnswers
from runners.training.step import part_of, record, score, sides
from runners.training.switches import determinism

EpochDone = Callable[[int, int, dict[str, Any]], None]
StepDone = Callable[[int, int, Callable[[], float]], None]

# A state within an epoch is kept this often, so that a killed process loses no more than these seconds.
KEEP_EVERY = 600.0
# Test images on which distances to moving teachers are measured.
_DISTANCE_IMAGES = 256


def train_student(
    spec: RunSpec,
    paths: RunPaths,
    train_set: LabelledImages,
    test_set: LabelledImages,
    teacher: Network | None,
    on_epoch: EpochDone | None = None,
    validation: LabelledImages | None = None,
    *,
    on_step: StepDone | None = None,
    ranks: Ranks = ALONE,
    keep_every: float = KEEP_EVERY,
    answers: SharedAnswers | None = None,
) -> dict[str, Any]:
    """Trains one student and leaves a complete run directory; goes on where an earlier call stopped.

    Args:
        spec: What to train.
        paths: Where.
        train_set: Training images.
        test_set: Test images.
        teacher: The fixed teacher; None for a run whose teachers follow the student.
        on_epoch: Called after each epoch with (epoch from 1, epochs, its metrics).
        validation: Images that choose the best epoch; the test images do without them, as in the papers.
        on_step: Called after each step with (epoch from 1, step from 1, its loss when called).
        ranks: The processes that share the run; only the first writes.
        keep_every: Seconds between states within an epoch.
        answers: Shared with the other runs of the study.

    Returns:
        The outcome: last and best test loss (nats) and accuracy (fractions), seconds.

    Raises:
        UsageError: Settings that do not fit each other.
        CheckError: The loss became NaN or infinite; epoch and run are named.
        KeyboardInterrupt, Terminated: A signal came; the state is kept, the same call goes on from it.
    """
    if not keep_every >= 0:
        raise UsageError(f"states within an epoch are kept every 0 seconds or more, not {keep_every}")
    with determinism(spec.determinism), Interrupts() as interrupts:
        run = prepare(spec, train_set, teacher, ranks)
        run.answers = answers if ranks.world == 1 else None
        state = load_state(paths.state, identity(spec), say if ranks.main else lambda text: None)
        if state is not None:
            run.load_state_dict(state)
            if ranks.main:
                _say_place(run, state, ranks)
        recorder, distances = None, None
        if ranks.main:
            recorder = open_folder(run, spec, paths, train_set, teacher, ranks)
            if run.moving is not None:
                probe = next(test_set.in_order(_DISTANCE_IMAGES)).images
                distances = DistanceLog(
                    paths.distances, test_set.normalise(probe), known_epochs=run.place.epoch
                )
        ranks.barrier()
        result = None
        try:
            while run.place.epoch < spec.recipe.epochs:
                epoch_of(run, spec, paths, train_set, recorder, interrupts, on_step, ranks, keep_every)
                if ranks.main and recorder is not None:
                    recorder.end_epoch()
                    result = measure(run.student, test_set)
                    held = None if validation is None else measure(run.student, validation)
                    line = end_of_epoch(run, spec, paths, len(train_set), result, held)
                    if distances is not None and run.moving is not None:
                        distances.record(run.place.epoch, run.moving.latest, run.student)
                    # After the records and the metrics, so that a state never speaks of what is not on disk.
                    save_state(paths.state, run.state_dict(spec, ranks))
                    if on_epoch is not None:
                        on_epoch(run.place.epoch, spec.recipe.epochs, line)
                else:
                    run.next_epoch()
                if ranks.any(interrupts.asked, train_set.device):
                    interrupts.stop()
        except BaseException:
            if recorder is not None:
                recorder.abort()
            raise
        if recorder is not None:
            recorder.close()
        if not ranks.main:
            ranks.barrier()
            return {}
        outcome = finish(run, spec, paths, result or measure(run.student, test_set), validation is not None)
        ranks.barrier()
        return outcome


def _say_place(run: Training, state: dict[str, Any], ranks: Ranks) -> None:
    place = run.place
    say(
        f"continues  after epoch {place.epoch}"
        + (f" and step {place.step} of the next" if place.step else "")
    )
    before, now_ = state.get("threads"), torch.get_num_threads()
    if (before, state.get("processes")) != (now_, ranks.world):
        say(
            f"rounding   the run began on {before} threads and {state.get('processes')} processes, this is {now_} and "
            f"{ranks.world}: its last digits will differ from an uninterrupted run's"
        )


def epoch_of(
    run: Training,
    spec: RunSpec,
    paths: RunPaths | None,
    train_set: LabelledImages,
    recorder: Recorder | None,
    interrupts: Interrupts,
    on_step: StepDone | None,
    ranks: Ranks,
    keep_every: float,
) -> None:
    """The steps of one epoch, from where the run is."""
    place, recipe, device = run.place, spec.recipe, train_set.device
    began = kept = time.perf_counter()
    spent = place.seconds
    if recorder is not None:
        recorder.start_epoch(place.epoch + 1, place.step)
    run.network.train()
    run.loss.start_epoch(place.epoch + 1)
    if place.step == 0:
        run.loss.forget()
        for scheme in run.schemes.values():
            scheme.reset()
    if run.moving is not None:
        run.moving.before_epoch(place.epoch, place.step)
    chunks = torch.split(epoch_order(spec.seed, place.epoch, len(train_set)), recipe.batch_size)
    sums = torch.tensor(list(place.sums.values()), device=device, dtype=torch.float64)
    batches = train_set.batches(chunks[place.step :], run.base, spec.seed, place.epoch)
    told = None if run.answers is None else run.answers.of_epoch(place.epoch, place.step, train_set)
    for step, (pixels, labels, ids) in enumerate(batches, place.step):
        for group in run.optimiser.param_groups:
            group["lr"] = recipe.lr_at(place.epoch * len(chunks) + step, len(chunks))
        run.asking.next_step()
        x = batch_of(pixels, train_set, spec)
        if told is not None:
            told.tell(run.asking, x, step * recipe.batch_size)
        scheme = run.scheme(spec)
        view = scheme.apply(
            x,
            labels,
            ids,
            generator=view_generator(spec.seed, scheme.draws, place.epoch, step),
            teacher=run.asking.logits,
            student=lambda images: score(run.student, images),
        )
        if ranks.world > 1 and len(view.lam) != len(labels):
            raise UsageError(
                f"{scheme.name} makes {len(view.lam)} views of {len(labels)} images; run it in one process"
            )
        mine, share = ranks.slice(len(labels)), ranks.slice(len(view.lam))
        own = view if ranks.world == 1 else part_of(view, share)
        originals, views = sides(run, spec, x[mine], own)
        asked = run.asking(x)[0] if run.loss.targets.kind == "interpolated" else views.teacher
        found = run.loss.of(originals, views, own, labels, ids, mine, asked)
        weight = ranks.world * (mine.stop - mine.start) / len(labels)  # uneven shares of a short last batch
        run.optimiser.zero_grad(set_to_none=True)
        (found.loss if weight == 1 else weight * found.loss).backward()
        run.optimiser.step()
        if run.moving is not None:
            run.moving.after_step(run.student, step)
        terms = {"train_loss": found.loss.detach()} | {f"train_loss_{k}": v for k, v in found.parts.items()}
        means = torch.stack(list(terms.values())).double()
        means = ranks.sum(means * ((mine.stop - mine.start) / len(labels)))
        sums = means * len(labels) if step == 0 else sums + means * len(labels)
        record(recorder, ranks, step, ids, labels, view, originals, views, found)
        if on_step is not None and ranks.main:
            on_step(place.epoch + 1, step + 1, means[0].item)
        stop = ranks.any(interrupts.asked, device)
        due = ranks.any(time.perf_counter() - kept > keep_every, device)
        if (stop or due) and step + 1 < len(chunks):
            kept = time.perf_counter()
            place.step, place.seconds = step + 1, spent + kept - began
            place.sums = dict(zip(terms, sums.tolist(), strict=True))
            if recorder is not None and paths is not None:
                recorder.hold(step + 1)
                save_state(paths.state, run.state_dict(spec, ranks))
            ranks.barrier()
            if stop:
                interrupts.stop()
    if told is not None:
        told.close()
    place.sums, place.seconds = (
        dict(zip(terms, sums.tolist(), strict=True)),
        spent + time.perf_counter() - began,
    )
