"""CIFAR ResNets of depth 6n + 2 (He et al. 2016, section 4.2) and the four times wider ``x4`` variants.

State-dict names and shapes are those of the RepDistiller checkpoints (``conv1``, ``layer1.0.conv1``,
``layer2.0.downsample.0`` …), so the public teachers load strictly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, init_convolutions, pool
from kdstats.models.residual import BasicBlock, stage


class CifarResNet(Classifier):
    """Stem, three stages of ``n`` blocks at strides 1, 2, 2, average over the whole map, linear head.

    Features: stem, three stages, pooled.
    """

    def __init__(
        self, depth: int, widths: tuple[int, int, int, int], num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = stage(BasicBlock, stem, stages[0], blocks, 1, "downsample")
        self.layer2 = stage(BasicBlock, stages[0], stages[1], blocks, 2, "downsample")
        self.layer3 = stage(BasicBlock, stages[1], stages[2], blocks, 2, "downsample")
        self.fc = nn.Linear(stages[2], num_classes)
        init_convolutions(self)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self.layer1, self.layer2, self.layer3, pool


def build(name: str, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """``resnet{8,14,20,32,44,56,110}`` or ``resnet{8,32}x4``."""
    wide = name.endswith("x4")
    depth = int(name.removeprefix("resnet").removesuffix("x4"))
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)
    return CifarResNet(depth, widths, num_classes, in_channels)
