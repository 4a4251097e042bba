"""VGG with BatchNorm for small images: ``vgg8`` to ``vgg19`` (Simonyan & Zisserman 2015; RepDistiller's layout).

State-dict names are RepDistiller's: ``block{b}.{3j}`` for convolution ``j`` of block ``b``, ``block{b}.{3j+1}`` for
its BatchNorm, head ``classifier``. The convolutions have a bias; the last ReLU of each block is outside of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.models.classifier import Classifier, init_convolutions, init_head, pool

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class VGG(Classifier):
    """Five blocks of 3x3 convolutions, max-pooling between them, global average, linear head.

    Features: each block's map before it is pooled, then the pooled vector.
    """

    HEAD = "classifier"

    def __init__(self, convolutions: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        inputs = (in_channels, *_WIDTHS)
        self.block0 = _block(inputs[0], _WIDTHS[0], convolutions[0])
        self.block1 = _block(inputs[1], _WIDTHS[1], convolutions[1])
        self.block2 = _block(inputs[2], _WIDTHS[2], convolutions[2])
        self.block3 = _block(inputs[3], _WIDTHS[3], convolutions[3])
        self.block4 = _block(inputs[4], _WIDTHS[4], convolutions[4])
        self.classifier = nn.Linear(_WIDTHS[4], num_classes)
        init_convolutions(self)
        init_head(self.classifier)

    def _stage0(self, x: Tensor) -> Tensor:
        return F.relu(self.block0(x))

    def _stage1(self, x: Tensor) -> Tensor:
        return F.relu(self.block1(F.max_pool2d(x, 2)))

    def _stage2(self, x: Tensor) -> Tensor:
        return F.relu(self.block2(F.max_pool2d(x, 2)))

    def _stage3(self, x: Tensor) -> Tensor:
        return F.relu(self.block3(F.max_pool2d(x, 2)))

    def _stage4(self, x: Tensor) -> Tensor:
        # Pooled once more for images of 64x64 alone, which arrive here as 8x8: the released networks do so, and
        # the weights of either size expect it.
        return F.relu(self.block4(F.max_pool2d(x, 2) if x.shape[2] == 8 else x))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self._stage0, self._stage1, self._stage2, self._stage3, self._stage4, pool


def _block(width_in: int, width: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for j in range(convolutions):
        if j > 0:
            layers.append(nn.ReLU())
        layers += [nn.Conv2d(width_in if j == 0 else width, width, 3, 1, 1), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers)


def build(name: str, num_classes: int, in_channels: int = 3) -> VGG:
    """``vgg8``, ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``."""
    return VGG(_CONVOLUTIONS[name], num_classes, in_channels)
