"""Everything that a student's training is made of, put together once and written down in one state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdstats import models, schemes
from kdstats.data import LabelledImages
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import Scheme
from kdstats.teacher.network import Network
from runners.moving_teachers import MovingTeachers
from runners.run_spec import ORIGINALS, PASSES, RunSpec
from runners.training.asking import Asking
from runners.training.best import Best
from runners.training.ranks import Ranks
from runners.training.shared_answers import SharedAnswers
from runners.training.student_loss import StudentLoss
from runners.training.switches import compiled, folded


@dataclass
class Place:
    """How far a run is: the next step to make, and what the epoch has added up.

    Attributes:
        epoch: From 0.
        step: Next step of it, from 0.
        sums: Name → sum over the epoch's images so far: the training loss, and its parts before they are weighed.
        seconds: Spent on the whole run so far.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Training:
    """The parts of one run.

    Attributes:
        student: As its weights are saved.
        network: As it is called in training: compiled, or wrapped for several processes.
        optimiser: Of the student and of the objective's modules.
        schemes: By name; several where shifts have schemes of their own.
        base: Standard augmentation.
        loss: Of a step.
        asking: The teacher.
        moving: Teachers that follow the student, or None.
        answers: What the teacher said to the originals in other runs, or None.
        best: The best epoch so far.
        place: How far the run is.
    """

    student: nn.Module
    network: nn.Module
    optimiser: torch.optim.Optimizer
    schemes: dict[str, Scheme]
    base: StandardAugmentation
    loss: StudentLoss
    asking: Asking
    moving: MovingTeachers | None
    answers: SharedAnswers | None = None
    best: Best = field(default_factory=Best)
    place: Place = field(default_factory=Place)

    def scheme(self, spec: RunSpec) -> Scheme:
        """The scheme of the coming step."""
        return self.schemes[spec.scheme if self.moving is None else self.moving.shift.scheme]

    def next_epoch(self) -> None:
        """Moves on; histories end with the epoch, so the state needs to carry none of them."""
        self.place = Place(self.place.epoch + 1, seconds=self.place.seconds)
        self.loss.forget()
        for scheme in self.schemes.values():
            scheme.reset()

    def state_dict(self, spec: RunSpec, ranks: Ranks) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "identity": identity(spec),
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schemes": {name: scheme.state_dict() for name, scheme in self.schemes.items()},
            "loss": self.loss.memory(),
            "moving": None if self.moving is None else self.moving.state_dict(),
            "best": self.best.state_dict(),
            "place": vars(self.place).copy(),
            "generator": torch.get_rng_state(),
            "threads": torch.get_num_threads(),
            "processes": ranks.world,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from :meth:`state_dict`."""
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, scheme in self.schemes.items():
            scheme.load_state_dict(state["schemes"][name])
        self.loss.remember(state["loss"])
        if self.moving is not None:
            self.moving.load_state_dict(state["moving"])
        self.best, self.place = Best.of(state["best"]), Place(**state["place"])
        torch.set_rng_state(state["generator"])


def prepare(spec: RunSpec, train_set: LabelledImages, teacher: Network | None, ranks: Ranks) -> Training:
    """The parts of a run that begins; a state may be loaded into them.

    Raises:
        UsageError: Settings that do not fit each other or the data.
    """
    device = train_set.device
    torch.manual_seed(spec.seed)
    student = models.build(spec.student, train_set.classes, train_set.img_size, train_set.channels).to(device)
    if spec.channels_last:
        student = student.to(memory_format=torch.channels_last)
    steps = -(-len(train_set) // spec.recipe.batch_size)
    moving = None if spec.teaching is None else spec.teaching.make(student, spec.scheme, steps)
    if moving is None and teacher is None:
        raise UsageError("the run has a fixed teacher (no teaching), and none was given")
    made, loss = parts_of(spec, train_set, ranks)
    loss.to(device)
    example = torch.zeros(2, train_set.channels, train_set.img_size, train_set.img_size, device=device)
    answering = moving.models[0] if moving is not None else (teacher.model if teacher is not None else None)
    loss.build(
        student,
        answering if "teacher" in loss.features else None,
        example,
        train_set.labels,
        train_set.sample_id,
        generator(spec.seed, "objective"),
    )
    loss.to(device)
    optimiser = spec.recipe.optimiser(student)
    own = [p for p in loss.own_parameters() if p.requires_grad]
    if own:
        optimiser.add_param_group({"params": own})
    if teacher is not None and spec.fold_teacher and moving is None:
        teacher = folded(teacher)
    source: Network | MovingTeachers | None = moving if moving is not None else teacher
    assert source is not None
    network = student if spec.compile == "off" else compiled(student, spec.compile)
    return Training(
        student,
        ranks.wrap(network),
        optimiser,
        made,
        StandardAugmentation(train_set.base),
        loss,
        Asking(source, "teacher" in loss.features),
        moving,
    )


def parts_of(spec: RunSpec, train_set: LabelledImages, ranks: Ranks) -> tuple[dict[str, Scheme], StudentLoss]:
    """Schemes by name and the loss of a run, checked against each other and the data before anything is trained.

    Raises:
        UsageError: Settings that do not fit each other or the data.
    """
    check(spec, len(train_set), ranks)
    space = schemes.PixelSpace(train_set.mean, train_set.std)
    names = [spec.scheme, *(() if spec.teaching is None else spec.teaching.then)]
    made = {schemes.record(n).name: schemes.get(n, draws=spec.draws, space=space) for n in names}
    loss = StudentLoss(spec, train_set.classes)
    rest = len(train_set) % spec.recipe.batch_size
    for what, least in (
        *((scheme.name, scheme.least) for scheme in made.values()),
        (f"the objective {spec.objective}", loss.total.least),
    ):
        if 0 < rest < least:
            raise UsageError(
                f"the last batch would hold {rest} image; {what} needs {least}. Change batch_size"
            )
    if "recursive" in loss.total.needs and not all(scheme.history for scheme in made.values()):
        raise UsageError(
            f"the objective {spec.objective} compares views with earlier ones: it needs recursive_mix"
        )
    _check_distributed(spec, loss, ranks, any(scheme.history for scheme in made.values()))
    if spec.fold_teacher and spec.teaching is None and "teacher" in loss.features:
        raise UsageError(f"the objective {spec.objective} needs the teacher's maps; folding loses them")
    return made, loss


def identity(spec: RunSpec) -> str:
    """What a state must say of itself for a run to go on from it: the layout of states, and the run."""
    return f"kdstats/student-state/3 {spec.digest}"


def check(spec: RunSpec, images: int, ranks: Ranks) -> None:
    """Refuses settings that make no sense, before anything is built."""
    for name, value, known in (("originals", spec.originals, ORIGINALS), ("passes", spec.passes, PASSES)):
        if value not in known:
            raise UsageError(f"{name} is one of {', '.join(known)}, not {value!r}")
    if spec.originals == "replaced" and spec.passes == "joint":
        raise UsageError("without originals there is nothing to pass jointly: leave passes at 'two'")
    if not 0 <= spec.seed < 1 << 63:
        raise UsageError(f"a seed is a whole number from 0, below 2^63, not {spec.seed}")
    if not 1 <= spec.log_every <= spec.recipe.epochs:
        raise UsageError(
            f"recording every {spec.log_every} epochs (log.every) leaves no records of a run of {spec.recipe.epochs}: "
            f"choose 1 … {spec.recipe.epochs}"
        )
    rest = images % spec.recipe.batch_size
    if ranks.world > 1 and 0 < rest < ranks.world:
        raise UsageError(
            f"the last batch would hold {rest} of {images} images for {ranks.world} processes; change batch_size"
        )


def _check_distributed(spec: RunSpec, loss: StudentLoss, ranks: Ranks, history: bool) -> None:
    if ranks.world == 1:
        return
    alone = [o.name for o in loss.objectives if not o.separable or "modules" in o.needs]
    if alone:
        raise UsageError(
            f"the objective {alone[0]} compares the images of a batch or has modules of its own; it runs in one process"
        )
    if spec.teaching is not None:
        raise UsageError("teachers that follow the student run in one process")
    if history and loss.targets.kind != "teacher":
        raise UsageError("a scheme with a history runs in one process unless the teacher relabels the views")


def batch_of(pixels: Tensor, train_set: LabelledImages, spec: RunSpec) -> Tensor:
    """Normalised images in the run's memory layout."""
    x = train_set.normalise(pixels)
    return x.to(memory_format=torch.channels_last) if spec.channels_last else x
