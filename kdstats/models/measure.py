"""How large a network is: parameters, multiply-adds of one image, shapes of its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdstats.models.registry import canonical
from kdstats.models.skeleton import skeleton


@dataclass(frozen=True)
class Measure:
    """What one network costs.

    Attributes:
        name: Field name.
        parameters: Trainable numbers.
        multiply_adds: Of the convolutions and linear layers for one image; biases, BatchNorm, activations, sums
            and pooling are not counted. Twice this number is what others call FLOPs.
        features: Shapes of the features of one image, ``(D, H, W)`` but for the last, ``(D,)``.
    """

    name: str
    parameters: int
    multiply_adds: int
    features: tuple[tuple[int, ...], ...]


def measure(name: str, num_classes: int, img_size: int = 32, in_channels: int = 3) -> Measure:
    """Sends one black image through the network after its layers were replaced by ones that only count.

    Arguments and errors are those of :func:`~kdstats.models.registry.build`.
    """
    network = skeleton(name, num_classes, img_size, in_channels)
    parameters = sum(p.numel() for p in network.parameters())
    counts: list[int] = []
    for module in list(network.modules()):
        for child_name, child in module.named_children():
            if isinstance(child, (nn.Conv2d, nn.Linear)):
                setattr(module, child_name, _Counting(child, counts))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, child_name, nn.Identity())
    # The image is real: what is left (activations, sums, pooling) costs less than a call on the meta device.
    with torch.inference_mode():
        _, maps = network(torch.zeros(1, in_channels, img_size, img_size), features=True)
    return Measure(canonical(name), parameters, sum(counts), tuple(tuple(m.shape[1:]) for m in maps))


class _Counting(nn.Module):
    """Stands in for a layer: something in the shape of its output, and its multiply-adds to ``counts``."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, counts: list[int]) -> None:
        super().__init__()
        # Each output is a sum over the weights of its channel; a convolution's weight is [out, in / groups, k, k].
        self.sums_over = layer.weight.shape[1:].numel()
        self.counts = counts
        self.out = layer.weight.shape[0]
        self.window: tuple[tuple[int, int, int], ...] = ()
        if isinstance(layer, nn.Conv2d):
            padding = (int(layer.padding[0]), int(layer.padding[1]))
            self.window = tuple(zip(layer.kernel_size, layer.stride, padding, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[2:], self.window, strict=True)
        out = x.new_empty(x.shape[0], self.out, *((n + 2 * p - k) // s + 1 for n, (k, s, p) in sides))
        self.counts.append(out.numel() * self.sums_over)
        return out
