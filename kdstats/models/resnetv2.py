"""``ResNet18`` and ``ResNet50`` for small images: the ImageNet networks with a 3x3 stem and no max-pooling.

They come from RepDistiller's ``resnetv2.py``; "v2" is the file's version, not the pre-activation ResNet v2.
State-dict names are that file's: projections ``shortcut.0``/``shortcut.1``, head ``linear``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, init_convolutions, pool
from kdstats.models.residual import BasicBlock, Bottleneck, four_stages

_LAYOUTS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "ResNet18": (BasicBlock, (2, 2, 2, 2)),
    "ResNet50": (Bottleneck, (3, 4, 6, 3)),
}


class WideStemResNet(Classifier):
    """3x3 stem of 64 channels at full size, four stages at strides 1, 2, 2, 2, global average, linear head.

    Features: stem, four stages, pooled.
    """

    HEAD = "linear"

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        (self.layer1, self.layer2, self.layer3, self.layer4), out = four_stages(block, blocks, "shortcut")
        self.linear = nn.Linear(out, num_classes)
        init_convolutions(self)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self.layer1, self.layer2, self.layer3, self.layer4, pool


def build(name: str, num_classes: int, in_channels: int = 3) -> WideStemResNet:
    """``ResNet18`` or ``ResNet50``."""
    block, blocks = _LAYOUTS[name]
    return WideStemResNet(block, blocks, num_classes, in_channels)
