"""Pre-activation Wide ResNets ``wrn_DEPTH_WIDTH`` (Zagoruyko & Komodakis 2016), depth 6n + 4, no dropout.

State-dict names and shapes are those of the RepDistiller checkpoints (``block1.layer.0.conv1``,
``convShortcut`` …).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, pool


class PreActBlock(nn.Module):
    """BN-ReLU before each 3x3 convolution; a 1x1 shortcut only where the width changes."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        # The name is part of the public checkpoints' keys.
        self.convShortcut = nn.Conv2d(width_in, width, 1, stride, bias=False) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        # When the width changes the activated tensor feeds the shortcut too; otherwise the raw input is added.
        residual = x if self.convShortcut is None else self.convShortcut(active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + residual


class Stage(nn.Module):
    """``blocks`` pre-activation blocks, the first with the stage's stride."""

    def __init__(self, width_in: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActBlock(width_in, width, stride)
        self.layer = nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(Classifier):
    """Stem 16, stages of widths 16k, 32k, 64k at strides 1, 2, 2, average over the whole map, linear head.

    Features: stem, three stages, pooled. Blocks begin with BN-ReLU, so the maps are plain sums, not yet activated.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.block1 = Stage(widths[0], widths[1], blocks, 1)
        self.block2 = Stage(widths[1], widths[2], blocks, 2)
        self.block3 = Stage(widths[2], widths[3], blocks, 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def _pool(self, x: Tensor) -> Tensor:
        return pool(F.relu(self.bn1(x)))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self.conv1, self.block1, self.block2, self.block3, self._pool


def build(name: str, num_classes: int, in_channels: int = 3) -> WideResNet:
    """``wrn_DEPTH_WIDTH``, for example ``wrn_40_2``."""
    depth, widen = (int(part) for part in name.removeprefix("wrn_").split("_"))
    return WideResNet(depth, widen, num_classes, in_channels)
