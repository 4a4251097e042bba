"""``ShuffleV1``: ShuffleNet with three groups (Zhang et al. 2018) in RepDistiller's layout for 32x32 images.

State-dict names: ``conv1``, ``bn1``, ``layer{1,2,3}.{i}.conv{1,2,3}``/``bn{1,2,3}``, head ``linear``. The average that
stands beside the first block of a stage has no weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, pool

_STEM, _GROUPS = 24, 3
_WIDTHS, _BLOCKS = (240, 480, 960), (4, 8, 4)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleaves the channels of ``groups`` equal parts of ``[B, D, H, W]``: a0 a1 b0 b1 → a0 b0 a1 b1.

    Done with the channels last in memory, the layout that this project runs in: a copy in the other order would
    take every map out of it (up to a quarter of a training step).
    """
    batch, width, height, across = x.shape
    last = x.permute(0, 2, 3, 1).reshape(batch, height, across, groups, width // groups)
    return last.transpose(3, 4).reshape(batch, height, across, width).permute(0, 3, 1, 2)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1.

    The first of a stage (``stride`` 2) sets its output beside the averaged input, so it yields ``width - width_in``
    channels of its own; the others add theirs to the input.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        own = width - width_in if stride == 2 else width
        inner = own // 4
        # The stem's 24 channels are too few to be grouped (section 3.2 of the paper).
        self.groups = 1 if width_in == _STEM else _GROUPS
        self.stride = stride
        self.conv1 = nn.Conv2d(width_in, inner, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, own, 1, groups=_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)

    def forward(self, x: Tensor) -> Tensor:
        out = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        # The paper has no activation after the depthwise convolution; the released network does.
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.stride == 1:
            return F.relu(out + x)
        return F.relu(torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1))


class ShuffleV1(Classifier):
    """1x1 stem at full size, three stages at stride 2, average over the 4x4 map, linear head.

    Features: stem, three stages, pooled. Weights start as PyTorch's defaults (Kaiming uniform), as in the
    released network.
    """

    HEAD = "linear"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.layer1 = _stage(_STEM, _WIDTHS[0], _BLOCKS[0])
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], _BLOCKS[1])
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], _BLOCKS[2])
        self.linear = nn.Linear(_WIDTHS[2], num_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self.layer1, self.layer2, self.layer3, pool


def _stage(width_in: int, width: int, blocks: int) -> nn.Sequential:
    first = ShuffleUnit(width_in, width, 2)
    return nn.Sequential(first, *(ShuffleUnit(width, width, 1) for _ in range(blocks - 1)))


def build(name: str, num_classes: int, in_channels: int = 3) -> ShuffleV1:
    """``ShuffleV1``, the only member."""
    del name
    return ShuffleV1(num_classes, in_channels)
