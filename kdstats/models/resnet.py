"""CIFAR ResNets of depth 6n + 2 (He et al. 2016, section 4.2) and the four times wider ``x4`` variants.

State-dict names and shapes are those of the RepDistiller checkpoints (``conv1``, ``layer1.0.conv1``,
``layer2.0.downsample.0`` …), so the public teachers load strictly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection; ReLU after the sum."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + residual)


class CifarResNet(nn.Module):
    """Stem, three stages of ``n`` blocks at strides 1, 2, 2, average over the whole map, linear head."""

    def __init__(
        self, depth: int, widths: tuple[int, int, int, int], num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, stages[0], blocks, 1)
        self.layer2 = _stage(stages[0], stages[1], blocks, 2)
        self.layer3 = _stage(stages[1], stages[2], blocks, 2)
        self.fc = nn.Linear(stages[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images ``[B, in_channels, H, W]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
        return logits


def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(width_in, width, stride)
    return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))


def build(name: str, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """``resnet{8,14,20,32,44,56,110}`` or ``resnet{8,32}x4``."""
    wide = name.endswith("x4")
    depth = int(name.removeprefix("resnet").removesuffix("x4"))
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)
    return CifarResNet(depth, widths, num_classes, in_channels)
