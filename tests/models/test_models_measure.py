"""Multiply-adds and shapes, against PyTorch's own counter and the numbers of the papers."""

from __future__ import annotations

import pytest
import torch

from kdstats import models
from kdstats.errors import UsageError
from kdstats.models.measure import measure
from kdstats.models.skeleton import skeleton


@pytest.mark.parametrize("name", [n for n in models.names() if n not in ("resnet110", "resnet56")])
def test_multiply_adds_are_half_of_pytorchs_flops(name):
    from torch.utils.flop_counter import FlopCounterMode

    size, channels = (32, 3) if name in ("ShuffleV1", "MobileNetV2") else (36, 1)
    net = skeleton(name, 10, size, channels).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        _, features = net(torch.empty(1, channels, size, size, device="meta"), features=True)
    found = measure(name, 10, size, channels)
    assert 2 * found.multiply_adds == counter.get_total_flops()
    assert found.features == tuple(tuple(f.shape[1:]) for f in features)
    assert found.parameters == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "giga"),
    # In the metadata of torchvision's weights, at 224x224 and 1,000 classes.
    [("imagenet_resnet18", 1.814), ("imagenet_resnet34", 3.664), ("imagenet_resnet50", 4.089)],
)
def test_torchvisions_published_counts(name, giga):
    assert round(measure(name, 1000, 224).multiply_adds / 1e9, 3) == giga


def test_a_small_one_by_hand():
    # 3x3 from 1 to 8 on 8x8, 3x3 from 8 to 16 on 4x4, 64 to 10.
    found = measure("LeNet8", 10, 8, 1)
    assert found.multiply_adds == 9 * 8 * 64 + 9 * 8 * 16 * 16 + 64 * 10
    assert found.parameters == 1_922
    assert found.features == ((8, 8, 8), (16, 4, 4), (64,))
    assert found.name == "lenet8"


def test_errors_are_those_of_build():
    with pytest.raises(UsageError, match="32x32 pixels alone"):
        measure("ShuffleV1", 10, 64)
    with pytest.raises(UsageError, match="no model named"):
        measure("resnet21", 10)
