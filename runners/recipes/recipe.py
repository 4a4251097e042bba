"""What a recipe is: the optimiser's settings and the learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdstats.errors import UsageError, unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEDULES = ("step", "cosine", "cosine-epoch")


# The fields enter the digest of every run: a new one would give all existing runs another name.
@dataclass(frozen=True)
class Recipe:
    """How a network is optimised: SGD with momentum over ``epochs`` passes.

    Attributes:
        name: The recipe's name, recorded with every run.
        epochs: Passes over the training images.
        batch_size: Images per step, over all processes.
        lr: Peak learning rate.
        weight_decay: L2 penalty on all parameters.
        momentum: SGD momentum.
        nesterov: Nesterov momentum.
        schedule: ``step`` (× 0.1 after each milestone), ``cosine`` (per step: linear warm-up, then to zero) or
            ``cosine-epoch`` (one rate per epoch, never quite zero).
        milestones: Last epoch, counted from 1, at each rate of the ``step`` schedule.
        warmup: Share of all steps (``cosine``) or epochs (``cosine-epoch``) spent warming up.
        precision: ``float32``, ``bf16`` (autocast; losses stay float32), or ``auto``: bf16 where the CPU has
            instructions for it, float32 elsewhere. Runs record what it came to.
        source: Where the defaults come from.
    """

    name: str
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    warmup: float = 0.2
    precision: str = "float32"
    source: str = ""

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.epochs < 1:
            raise UsageError(f"a run has at least 1 epoch, not {self.epochs}")
        if list(self.milestones) != sorted(self.milestones):
            raise UsageError(f"the milestones of {self.name} are not in order: {self.milestones}")
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is a share of the run, not {self.warmup}")

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of step ``step`` (from 0) of the whole run.

        ``step``: lr · 0.1^k in epoch e (from 1), k the number of milestones below e. ``cosine``, over S steps of
        which R warm up: lr · (s + 1)/R, then lr · ½(1 + cos(π (s + 1 − R)/(S − R))). ``cosine-epoch``, over E
        epochs of which W warm up: lr · e/(W + 1), then lr · ½(1 + cos(π (e − 1)/E)), as RecursiveMix has it.
        """
        epoch = step // steps_per_epoch + 1
        if self.schedule == "step":
            return self.lr * 0.1 ** sum(epoch > m for m in self.milestones)
        if self.schedule == "cosine-epoch":
            rising = round(self.warmup * self.epochs)
            if epoch <= rising:
                return self.lr * epoch / (rising + 1)
            return self.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))
        total = self.epochs * steps_per_epoch
        rise = max(1, round(self.warmup * total))
        if step < rise:
            return self.lr * (step + 1) / rise
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1, total - rise)))

    def optimiser(self, network: nn.Module) -> torch.optim.SGD:
        """SGD over all parameters of ``network``; set the rate of each step from :meth:`lr_at`."""
        import torch

        return torch.optim.SGD(
            network.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )

    def on_this_machine(self) -> Recipe:
        """The recipe with ``precision="auto"`` resolved for this CPU."""
        if self.precision != "auto":
            return self
        import torch

        fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return replace(self, precision="bf16" if fast else "float32")

    def with_epochs(self, epochs: int | None) -> Recipe:
        """The recipe over another number of epochs, milestones scaled alike (the papers' ``epoch_factor``).

        Its name becomes ``NAME@EPOCHS``; :func:`runners.recipes.scaling` puts into words what changed.
        """
        if epochs is None or epochs == self.epochs:
            return self
        if epochs < 1:
            raise UsageError(f"a run has at least 1 epoch, not {epochs}")
        factor = epochs / self.epochs
        scaled = tuple(round(m * factor) for m in self.milestones)
        return replace(self, name=f"{self.name}@{epochs}", epochs=epochs, milestones=scaled)
