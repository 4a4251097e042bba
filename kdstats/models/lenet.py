"""A two-convolution network in the manner of LeNet-5 (LeCun et al. 1998), the student of the digits study.

It is far smaller than any network of the CIFAR zoo (1,922 parameters for 8x8 grey digits), so that a study
that really trains students fits into minutes on a laptop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet8(nn.Module):
    """conv 3x3 to 8 channels, conv 3x3 to 16, each with BatchNorm, ReLU and 2x2 max-pooling; linear head."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, in_channels, H, W]``."""
        out = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        out = F.max_pool2d(F.relu(self.bn2(self.conv2(out))), 2)
        # Pooling to 2x2 lets the head keep a little of where things are, at any input size.
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(out, 2), 1))
        return logits


def build(name: str, num_classes: int, in_channels: int = 1) -> LeNet8:
    """``lenet8``, the only member."""
    del name
    return LeNet8(num_classes, in_channels)
