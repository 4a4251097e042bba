"""What all networks of the zoo share: a chain of stages, a linear head, and the maps between them on request."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images → stages → pooled vector → linear head.

    A family names its last layer in :attr:`HEAD` and its parts in :meth:`stages`; the call is the same for all.
    """

    HEAD: ClassVar[str] = "fc"
    """Name of the last layer in the state dict, without ``.weight``."""

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The network without its head: stem, one part per stage, and last the pooling to vectors ``[B, D]``."""
        raise NotImplementedError

    def forward(self, x: Tensor, features: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits, and on request what every stage hands to the next.

        The features are those of RepDistiller, in its order: ``f0`` after the stem, one map per stage, and last
        the pooled vector that the head reads. Maps are taken after the activation where a stage ends in one.
        Stages of wrn and MobileNetV2 do not: there the maps are sums of residuals and linear projections, also
        as in RepDistiller. They are the tensors that the network goes on with, not copies.

        Args:
            x: Normalised images ``[B, in_channels, H, W]``.
            features: Whether the maps are wanted too. Without them each is freed as soon as it is used.

        Returns:
            Logits ``[B, C]``; with ``features=True`` a pair of them and the list ``[f0, …, f_last]``, maps
            ``[B, D_i, H_i, W_i]`` but for the last, ``[B, D]``.
        """
        kept: list[Tensor] = []
        for stage in self.stages():
            x = stage(x)
            if features:
                kept.append(x)
        logits: Tensor = attrgetter(self.HEAD)(self)(x)
        return (logits, kept) if features else logits


def pool(x: Tensor) -> Tensor:
    """The average over the whole map: ``[B, D, H, W]`` → ``[B, D]``."""
    return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


def init_convolutions(network: nn.Module) -> None:
    """Normal weights of variance ``2 / (k · k · out)`` (He et al. 2015, by fan-out) and no bias in every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_head(head: nn.Linear) -> None:
    """Normal weights of deviation 0.01 and no bias, as in the VGG and MobileNetV2 of the zoo."""
    nn.init.normal_(head.weight, 0.0, 0.01)
    nn.init.zeros_(head.bias)
