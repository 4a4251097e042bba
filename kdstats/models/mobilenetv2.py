"""``MobileNetV2`` of the distillation papers (Sandler et al. 2018 at half width; RepDistiller's ``mobile_half``).

It is not torchvision's: widths are cut with ``int``, not rounded to multiples of eight, the activation is ReLU, not
ReLU6, the first block keeps its expansion at ratio 1, and the second group does not shrink the map.
State-dict names: ``conv1.{0,1}``, ``blocks.{s}.{i}.conv.{0,1,3,4,6,7}``, ``conv2.{0,1}``, ``classifier.0``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from kdstats.models.classifier import Classifier, init_convolutions, init_head, pool

_LAST = 1280  # channels before the head; not scaled by widths below one
_GROUPS = (  # expansion, channels at full width, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 to ``expansion`` times the width, depthwise 3x3, 1x1 back without activation."""

    def __init__(self, width_in: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.adds = stride == 1 and width_in == width
        self.conv = nn.Sequential(
            nn.Conv2d(width_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.adds else out


class MobileNetV2(Classifier):
    """Stem at stride 2, seven groups of inverted residuals, 1x1 to 1,280 channels, global average, linear head.

    Features: stem, then the maps after groups 1, 2, 4 and 6 (the last of each size, and the widest at the third),
    linear all of them, then the pooled vector.
    """

    HEAD = "classifier.0"

    def __init__(self, width: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stem = int(32 * width)
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        before = stem
        for expansion, full, blocks, stride in _GROUPS:
            after = int(full * width)
            first = InvertedResidual(before, after, stride, expansion)
            others = (InvertedResidual(after, after, 1, expansion) for _ in range(blocks - 1))
            self.blocks.append(nn.Sequential(first, *others))
            before = after
        self.conv2 = nn.Sequential(nn.Conv2d(before, _LAST, 1, bias=False), nn.BatchNorm2d(_LAST), nn.ReLU())
        head = nn.Linear(_LAST, num_classes)
        self.classifier = nn.Sequential(head)
        init_convolutions(self)
        init_head(head)

    def _groups(self, *which: int) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            for i in which:
                x = self.blocks[i](x)
            return x

        return run

    def _pool(self, x: Tensor) -> Tensor:
        return pool(self.conv2(x))

    def stages(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        groups = self._groups
        return self.conv1, groups(0, 1), groups(2), groups(3, 4), groups(5, 6), self._pool


def build(name: str, num_classes: int, in_channels: int = 3) -> MobileNetV2:
    """``MobileNetV2``, the only member."""
    del name
    return MobileNetV2(0.5, num_classes, in_channels)
