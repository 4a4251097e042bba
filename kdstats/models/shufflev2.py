"""``ShuffleV2``: ShuffleNet V2 at size 1 (Ma et al. 2018) in RepDistiller's layout for small images.

State-dict names: ``conv1``, ``bn1``; ``layer{s}.0`` halves the map with ``conv1``/``conv2`` on its left and
``conv3``/``conv4``/``conv5`` on its right; ``layer{s}.{i}`` has ``conv1``, ``conv2``, ``conv3`` on half of the
channels; ``conv2``, ``bn2``, head ``linear``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, pool
from kdstats.models.shufflev1 import shuffle

_STEM, _WIDTHS, _LAST = 24, (116, 232, 464), 1024
_BLOCKS = (3, 7, 3)  # of each stage, after the one that halves the map


class DownBlock(nn.Module):
    """Two ways from the whole input to half of the channels each, both at stride 2, joined and shuffled."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(width_in, width_in, 3, 2, 1, groups=width_in, bias=False)
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv2 = nn.Conv2d(width_in, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(width_in, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle(torch.cat([left, right], 1), 2)


class SplitBlock(nn.Module):
    """The first half of the channels passes; the second goes through 1x1, depthwise 3x3, 1x1; joined and shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        passed, out = x.chunk(2, 1)
        out = F.relu(self.bn1(self.conv1(out)))
        out = F.relu(self.bn3(self.conv3(self.bn2(self.conv2(out)))))
        return shuffle(torch.cat([passed, out], 1), 2)


class ShuffleV2(Classifier):
    """1x1 stem at full size, three stages at stride 2, 1x1 to 1,024 channels, global average, linear head.

    Features: stem, three stages, pooled (after the last 1x1). Weights start as PyTorch's defaults (Kaiming
    uniform), as in the released network.
    """

    HEAD = "linear"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.layer1 = _stage(_STEM, _WIDTHS[0], _BLOCKS[0])
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], _BLOCKS[1])
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], _BLOCKS[2])
        self.conv2 = nn.Conv2d(_WIDTHS[2], _LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_LAST)
        self.linear = nn.Linear(_LAST, num_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def _pool(self, x: Tensor) -> Tensor:
        return pool(F.relu(self.bn2(self.conv2(x))))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self.layer1, self.layer2, self.layer3, self._pool


def _stage(width_in: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(width_in, width), *(SplitBlock(width) for _ in range(blocks)))


def build(name: str, num_classes: int, in_channels: int = 3) -> ShuffleV2:
    """``ShuffleV2``, the only member."""
    del name
    return ShuffleV2(num_classes, in_channels)
