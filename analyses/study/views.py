"""A study's fixed teachers, asked about the views of training images as training would have made them.

Standard augmentation, scheme, granularity of the draws and size of a batch are the runs' own; image order and draws
are those of a seed of the report's, so the views are alike in kind to those of training, not the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count as from_
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analyses.study import Study
from analyses.study.networks import load_student, load_teacher, selected
from analyses.study.settings import FIXED, TrainedRun, trained_runs
from analyses.words import count
from kdstats.errors import CheckError, KdstatsError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from kdstats.data import LabelledImages
    from kdstats.schemes import AugmentedBatch, Scheme
    from kdstats.teacher.network import Network

Floats = NDArray[np.float64]
BATCHES = 40
LEAST_BATCHES = 5


@dataclass(frozen=True, slots=True, eq=False)
class AskedBatch:
    """One batch of originals, its views, and what the teacher says of both.

    Attributes:
        x: ``[B, channels, H, W]`` originals, standard augmentation done, normalised.
        labels: ``[B]`` their classes.
        original: ``[B, C]`` the teacher's log-probabilities of them at T = 1, nats.
        view: The views.
        answers: ``[V, C]`` log-probabilities of the views.
    """

    x: Tensor
    labels: NDArray[np.int64]
    original: Floats
    view: AugmentedBatch
    answers: Floats

    @property
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``[V]`` classes of base and partner of every view; equal where nothing is mixed."""
        index, partner = (t.cpu().numpy() for t in (self.view.index, self.view.partner_index))
        return self.labels[index], self.labels[partner]

    @property
    def lam(self) -> Floats:
        """``[V]`` share of the base image."""
        return np.asarray(self.view.lam.double().cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class ViewSource:
    """One scheme, ready to make views of a study's training images.

    Attributes:
        name: The teacher; the pair where a student has a part in making the views.
        label: Canonical name of the scheme.
        scheme: It.
        images: The training images.
        teacher: Who is asked.
        student: Who picks, for schemes that need one: the last student of ``student_seed``.
        student_seed: −1 without one.
        batch_size: Of training.
        seed: Of image order, standard augmentation and draws.
    """

    name: str
    label: str
    scheme: Scheme
    images: LabelledImages
    teacher: Network
    student: Network | None
    student_seed: int
    batch_size: int
    seed: int

    def with_scheme(self, scheme: Scheme) -> ViewSource:
        """The same images and draws under another scheme."""
        return replace(self, scheme=scheme)

    def batches(self, count: int) -> Iterator[AskedBatch]:
        """The first ``count`` full batches.

        Raises:
            UsageError: Fewer than :data:`LEAST_BATCHES` are asked for, or no full batch can be made.
            CheckError: The teacher answers with NaN or infinity.
        """
        import torch

        from kdstats.data.standard import StandardAugmentation
        from kdstats.draws.keys import epoch_order, view_generator

        n, size = len(self.images), self.batch_size
        check_batches(count)
        if n < size:
            raise UsageError(f"{n} training images do not fill a batch of {size}")
        base = StandardAugmentation(self.images.base)
        whole = n - n % size
        given = 0
        for epoch in from_():
            positions = torch.split(epoch_order(self.seed, epoch, n)[:whole], size)
            self.scheme.reset()
            for step, batch in enumerate(self.images.batches(positions, base, self.seed, epoch)):
                x = self.images.normalise(batch.images)
                view = self.scheme.apply(
                    x,
                    batch.labels,
                    batch.sample_id,
                    generator=view_generator(self.seed, self.scheme.draws, epoch, step),
                    teacher=self.teacher.logits,
                    student=None if self.student is None else self.student.logits,
                )
                said = view.teacher_logits
                answers = said if said is not None else self.teacher.logits(view.images)
                yield AskedBatch(
                    x, batch.labels.numpy(), self._log(self.teacher.logits(x)), view, self._log(answers)
                )
                given += 1
                if given == count:
                    return

    def _log(self, logits: Tensor) -> Floats:
        found = logits.double().log_softmax(1).cpu().numpy()
        if not np.isfinite(found).all():
            raise CheckError(f"{self.teacher.name} answers with NaN or infinity")
        return np.asarray(found)


def check_batches(batches: int) -> None:
    """Raises ``UsageError`` for fewer batches than an interval over batches needs."""
    if batches < LEAST_BATCHES:
        raise UsageError(f"an interval over batches needs {LEAST_BATCHES} or more, not {batches}")


def sources(
    study: Study, wanted: Callable[[str, Scheme], bool], seed: int, missing: list[str]
) -> Iterator[ViewSource]:
    """Every wanted scheme once per teacher (per pair where a student picks), in the order of the runs.

    Args:
        study: A study with the teachers' weights and the data at hand.
        wanted: Says of a scheme's name and the scheme whether it is asked about.
        seed: Of image order and draws.
        missing: Reasons are appended to it, for each scheme that cannot be asked about.
    """
    from kdstats import schemes
    from kdstats.schemes import PixelSpace

    try:
        runs = sorted(trained_runs(study), key=lambda r: r.seed)
    except KdstatsError as error:
        missing.append(str(error))
        return
    order = {scheme: at for at, scheme in enumerate(study.card.schemes)}
    seen: set[tuple[str, str]] = set()
    loaded: dict[str, tuple[LabelledImages, Network]] = {}
    for run in sorted(runs, key=lambda r: order.get(r.scheme, len(order))):
        name = run.pair.split("/")[0]
        try:
            made = schemes.get(run.scheme, draws=str(run.settings["draws"]))
            if not wanted(run.scheme, made):
                continue
            needs_student = "student" in made.needs
            key = (run.label if needs_student else name, run.scheme)
            if key in seen:
                continue
            seen.add(key)
            if run.settings["teaching"] != FIXED:
                missing.append(
                    f"{run.label}, {run.scheme}: a teacher that follows its student is gone when the run ends"
                )
                continue
            if name not in loaded:
                images = selected(study, run).train()
                _check_same(study, run, images)
                loaded[name] = images, load_teacher(study, name, images)
            images, teacher = loaded[name]
            student = load_student(run, images) if needs_student else None
        except (KdstatsError, OSError) as error:
            missing.append(f"{run.label}, {run.scheme}: {error}")
            continue
        made = schemes.get(
            run.scheme, draws=str(run.settings["draws"]), space=PixelSpace(images.mean, images.std)
        )
        size = int(run.settings["recipe.batch_size"])
        picker = run.seed if needs_student else -1
        yield ViewSource(key[0], run.scheme, made, images, teacher, student, picker, size, seed)


def _check_same(study: Study, run: TrainedRun, images: LabelledImages) -> None:
    due = study.card.dataset.get("train")
    if due is not None and run.settings.get("val_split") is None and len(images) != due:
        raise CheckError(
            f"the data set has {len(images)} training images, the study was trained on {due}; it is not the same data"
        )


def not_asked(missing: list[str]) -> list[str]:
    """One sentence on the schemes that could not be asked about."""
    if not missing:
        return []
    said = f"{count(len(missing), 'scheme')} could not be asked about, the first because: {missing[0]}"
    return [said if said.endswith(".") else f"{said}."]
