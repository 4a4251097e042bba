"""Post-activation residual blocks (He et al. 2016a), shared by three families that differ in the projection's name."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """What the two blocks share: the projection of the input, present only where stride or width change."""

    EXPANSION: ClassVar[int] = 1
    """Channels of the output per unit of ``width``."""

    projection: str | None = None
    """The projection's name in the state dict; None where the input is added as it is."""

    def _project(self, name: str, width_in: int, width_out: int, stride: int) -> None:
        if stride != 1 or width_in != width_out:
            self.projection = name
            self.add_module(
                name,
                nn.Sequential(
                    nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out)
                ),
            )

    def shortcut_of(self, x: Tensor) -> Tensor:
        """The input in the shape of the output."""
        if self.projection is None:
            return x
        projected: Tensor = getattr(self, self.projection)(x)
        return projected


class BasicBlock(Residual):
    """Two 3x3 convolutions with a residual connection; ReLU after the sum."""

    def __init__(self, width_in: int, width: int, stride: int, projection: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self._project(projection, width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut_of(x))


class Bottleneck(Residual):
    """1x1, 3x3 and 1x1 convolutions to four times ``width``; the stride is the 3x3's; ReLU after the sum."""

    EXPANSION = 4

    def __init__(self, width_in: int, width: int, stride: int, projection: str) -> None:
        super().__init__()
        width_out = width * self.EXPANSION
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self._project(projection, width_in, width_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut_of(x))


def stage(
    block: type[BasicBlock] | type[Bottleneck],
    width_in: int,
    width: int,
    blocks: int,
    stride: int,
    projection: str,
) -> nn.Sequential:
    """``blocks`` blocks in a row, the first with the stage's stride.

    Args:
        block: Kind of block.
        width_in: Channels of the input.
        width: Width of the blocks; the output has ``width * block.EXPANSION`` channels.
        blocks: How many.
        stride: Of the first block; the others have 1.
        projection: The projection's name in the state dict.
    """
    width_out = width * block.EXPANSION
    first = block(width_in, width, stride, projection)
    return nn.Sequential(first, *(block(width_out, width, 1, projection) for _ in range(blocks - 1)))


def four_stages(
    block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, ...], projection: str
) -> tuple[list[nn.Sequential], int]:
    """The stages of the ImageNet ResNets after a stem of 64 channels, at strides 1, 2, 2, 2, and their last channels.

    Args:
        block: Kind of residual block.
        blocks: How many of them, per stage.
        projection: See :func:`stage`.
    """
    stages, inner = [], 64
    for at, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        stages.append(stage(block, inner, width, count, 1 if at == 0 else 2, projection))
        inner = width * block.EXPANSION
    return stages, inner
