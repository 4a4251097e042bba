"""A two-convolution network in the manner of LeNet-5 (LeCun et al. 1998), the student of the digits study.

It is far smaller than any network of the CIFAR zoo (1,922 parameters for 8x8 grey digits), so that a study
that really trains students fits into minutes on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier


class LeNet8(Classifier):
    """conv 3x3 to 8 channels, conv 3x3 to 16, each with BatchNorm, ReLU and 2x2 max-pooling; linear head.

    Features: both maps before they are pooled, then the vector that the head reads.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 4, num_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def _second(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.max_pool2d(x, 2))))

    def _pool(self, x: Tensor) -> Tensor:
        # Pooling to 2x2 lets the head keep a little of where things are, at any input size.
        return torch.flatten(F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 2), 1)

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self._second, self._pool


def build(name: str, num_classes: int, in_channels: int = 1) -> LeNet8:
    """``lenet8``, the only member."""
    del name
    return LeNet8(num_classes, in_channels)
