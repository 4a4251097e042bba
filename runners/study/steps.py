"""A few steps of a run, of its teacher, and of a teacher's training, measured on this machine."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.records.paths import RunPaths
from kdstats.teacher.accuracy import measure
from kdstats.teacher.device import pick_device
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from runners.recipes import Recipe
from runners.run_spec import RunSpec
from runners.training.shared_answers import group_of

_STEPS = 6


@dataclass(frozen=True)
class Measured:
    """A run measured over a few steps.

    Attributes:
        step: Seconds per training step, recording included.
        test_image: Seconds per test image.
        memory: Peak bytes of the process (of the GPU's memory when it computes there).
        weights: Bytes of the student's weights.
        answer: Seconds of a step that are spared where the teacher's answers to the originals are read.
    """

    step: float
    test_image: float
    memory: int
    weights: int
    answer: float


def measure_run(spec: RunSpec, device: str) -> Measured:
    """A few steps of ``spec``, as the loop does them, with recording."""
    from runners.training.loop import train_student

    where = pick_device(device)
    whole, test = spec.selection.train(), spec.selection.test()
    size = spec.recipe.batch_size
    train_set = whole.head(min(len(whole), _STEPS * size)).to(where)
    test_set = test.head(min(len(test), 4 * size)).to(where)
    teacher = None
    if spec.teaching is None:
        teacher = load_network(spec.teacher_weights, spec.teacher_arch, train_set, where)
    lines: list[float] = []
    with tempfile.TemporaryDirectory(prefix="kdstats-plan-") as scratch:
        paths = RunPaths(Path(scratch))
        short = replace(spec, recipe=spec.recipe.with_epochs(3), log_every=min(spec.log_every, 3))
        train_student(
            short, paths, train_set, test_set, teacher, lambda e, n, line: lines.append(line["seconds"])
        )
        weights = paths.last.stat().st_size
    student = models.build(spec.student, whole.classes, whole.img_size, whole.channels).to(where)
    began = time.perf_counter()
    measure(student, test_set)
    per_image = (time.perf_counter() - began) / len(test_set)
    steps = -(-len(train_set) // size)
    # The first epoch also warms up. Of the others the shorter: what disturbs only ever adds.
    step = max(min(lines[1:]) - per_image * len(test_set), 1e-4) / steps
    memory = _peak() if where.type == "cpu" else int(torch.cuda.max_memory_allocated(where))
    return Measured(step, per_image, memory, weights, _answering(spec, teacher, train_set))


def _answering(spec: RunSpec, teacher: Network | None, train_set: LabelledImages) -> float:
    """Seconds that ``teacher`` takes for a batch of originals; 0 where its answers are not shared."""
    if teacher is None or group_of(spec) is None:
        return 0.0
    pixels, _, _ = next(train_set.in_order(spec.recipe.batch_size))
    x, taken = train_set.normalise(pixels), []
    for _ in range(3):
        began = time.perf_counter()
        teacher.logits(x).sum().item()  # waits for the device
        taken.append(time.perf_counter() - began)
    return min(taken)


def measure_teacher(spec: RunSpec, arch: str, recipe: Recipe, device: str) -> float:
    """Seconds per step of training ``arch`` with plain cross-entropy."""
    where = pick_device(device)
    whole = spec.selection.train()
    whole = whole.head(min(len(whole), recipe.batch_size)).to(where)
    model = models.build(arch, whole.classes, whole.img_size, whole.channels).to(where)
    model = model.to(memory_format=torch.channels_last)
    optimiser = recipe.optimiser(model)
    pixels, labels, _ = next(whole.in_order(recipe.batch_size))
    images = whole.normalise(pixels).to(memory_format=torch.channels_last)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.autocast(where.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _peak() -> int:
    """Peak bytes of this process; Linux counts kibibytes, macOS bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
