"""Named training recipes, each default with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdstats.errors import UsageError, unknown

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Recipe:
    """How a network is optimised: SGD with momentum over ``epochs`` passes.

    Attributes:
        name: The recipe's name, recorded with every run.
        epochs: Passes over the training images.
        batch_size: Images per step.
        lr: Peak learning rate.
        weight_decay: L2 penalty on all parameters.
        momentum: SGD momentum.
        nesterov: Nesterov momentum.
        schedule: ``step`` (× 0.1 after each milestone) or ``cosine`` (linear warm-up, then to zero).
        milestones: Last epoch, counted from 1, at each rate of the ``step`` schedule.
        warmup: Share of all steps spent warming up, for ``cosine``.
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

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of step ``step`` (from 0) of the whole run."""
        if self.schedule == "step":
            epoch = step // steps_per_epoch + 1
            return self.lr * 0.1 ** sum(epoch > m for m in self.milestones)
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
        """The recipe over another number of epochs, milestones scaled alike (the papers' ``epoch_factor``)."""
        if epochs is None or epochs == self.epochs:
            return self
        if epochs < 1:
            raise UsageError(f"a run has at least 1 epoch, not {epochs}")
        factor = epochs / self.epochs
        scaled = tuple(round(m * factor) for m in self.milestones)
        return replace(self, name=f"{self.name}@{epochs}", epochs=epochs, milestones=scaled)


_RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "crd240",
            epochs=240,
            batch_size=64,
            lr=0.05,
            weight_decay=5e-4,
            schedule="step",
            milestones=(150, 180, 210),
            source="RepDistiller / Good-DA-in-KD defaults (lr 0.01 for MobileNetV2 and ShuffleNets there)",
        ),
        Recipe(
            "cifar-short",
            epochs=8,
            batch_size=128,
            lr=0.2,
            weight_decay=5e-4,
            nesterov=True,
            precision="auto",
            source="one-cycle style short schedule for CPUs, chosen here: not a published recipe",
        ),
        Recipe(
            "digits",
            epochs=30,
            batch_size=64,
            lr=0.1,
            weight_decay=5e-4,
            nesterov=True,
            source="short schedule for the embedded digits, chosen here: not a published recipe",
        ),
    )
}


def get(name: str) -> Recipe:
    """A recipe by name; raises ``UsageError`` with the nearest names when there is none."""
    if name not in _RECIPES:
        raise unknown("recipe", name, _RECIPES)
    return _RECIPES[name]


def names() -> list[str]:
    """All recipe names."""
    return list(_RECIPES)
