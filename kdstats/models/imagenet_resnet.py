"""The ImageNet ResNets (He et al. 2016a): 7x7 stem at stride 2, max-pooling, four stages.

Names, shapes and outputs are torchvision's, so that its files (``resnet34-333f7ec4.pth``) load strictly. They are
built from the zoo's own blocks all the same: importing ``torchvision.models`` takes longer than all of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, init_convolutions, pool
from kdstats.models.residual import BasicBlock, Bottleneck, four_stages

_LAYOUTS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "imagenet_resnet18": (BasicBlock, (2, 2, 2, 2)),
    "imagenet_resnet34": (BasicBlock, (3, 4, 6, 3)),
    "imagenet_resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ImageNetResNet(Classifier):
    """Everything at a 32nd of the input's size by the last stage; global average, linear head.

    Features: stem before the max-pooling (as in mdistiller), four stages, pooled.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        (self.layer1, self.layer2, self.layer3, self.layer4), out = four_stages(block, blocks, "downsample")
        self.fc = nn.Linear(out, num_classes)
        init_convolutions(self)

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def _first(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer1(F.max_pool2d(x, 3, 2, 1))
        return out

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stem, self._first, self.layer2, self.layer3, self.layer4, pool


def build(name: str, num_classes: int, in_channels: int = 3) -> ImageNetResNet:
    """``imagenet_resnet18``, ``imagenet_resnet34`` or ``imagenet_resnet50``."""
    block, blocks = _LAYOUTS[name]
    return ImageNetResNet(block, blocks, num_classes, in_channels)
