"""``features=True``: what comes out, where it comes from, and what it costs those who do not ask."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats import models
from kdstats.models.measure import measure
from kdstats.models.registry import FAMILIES, family_of

# One of each family: shapes at 32x32, and the module that gives each map (None: not a module's output as it is).
SHAPES: dict[str, list[tuple[tuple[int, ...], str | None]]] = {
    "resnet8": [
        ((16, 32, 32), None),
        ((16, 32, 32), "layer1"),
        ((32, 16, 16), "layer2"),
        ((64, 8, 8), "layer3"),
        ((64,), None),
    ],
    "wrn_16_2": [
        ((16, 32, 32), "conv1"),
        ((32, 32, 32), "block1"),
        ((64, 16, 16), "block2"),
        ((128, 8, 8), "block3"),
        ((128,), None),
    ],
    "vgg8": [
        ((64, 32, 32), None),
        ((128, 16, 16), None),
        ((256, 8, 8), None),
        ((512, 4, 4), None),
        ((512, 4, 4), None),
        ((512,), None),
    ],
    "ResNet18": [
        ((64, 32, 32), None),
        ((64, 32, 32), "layer1"),
        ((128, 16, 16), "layer2"),
        ((256, 8, 8), "layer3"),
        ((512, 4, 4), "layer4"),
        ((512,), None),
    ],
    "MobileNetV2": [
        ((16, 16, 16), "conv1"),
        ((12, 16, 16), "blocks.1"),
        ((16, 8, 8), "blocks.2"),
        ((48, 4, 4), "blocks.4"),
        ((160, 2, 2), "blocks.6"),
        ((1280,), None),
    ],
    "ShuffleV1": [
        ((24, 32, 32), None),
        ((240, 16, 16), "layer1"),
        ((480, 8, 8), "layer2"),
        ((960, 4, 4), "layer3"),
        ((960,), None),
    ],
    "ShuffleV2": [
        ((24, 32, 32), None),
        ((116, 16, 16), "layer1"),
        ((232, 8, 8), "layer2"),
        ((464, 4, 4), "layer3"),
        ((1024,), None),
    ],
    "imagenet_resnet18": [
        ((64, 16, 16), None),
        ((64, 8, 8), "layer1"),
        ((128, 4, 4), "layer2"),
        ((256, 2, 2), "layer3"),
        ((512, 1, 1), "layer4"),
        ((512,), None),
    ],
    "lenet8": [((8, 32, 32), None), ((16, 16, 16), None), ((64,), None)],
}
LINEAR = ("wrn_16_2", "MobileNetV2")  # maps that are sums of residuals, or projections without activation


def small(name: str, channels: int = 3) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return models.build(name, 5, 32, channels).eval(), torch.randn(2, channels, 32, 32)


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_and_where_they_come_from(name):
    net, x = small(name)
    seen: dict[str, Tensor] = {}
    for _, at in SHAPES[name]:
        if at is not None:
            net.get_submodule(at).register_forward_hook(lambda _m, _i, out, at=at: seen.__setitem__(at, out))
    with torch.no_grad():
        plain = net(x)
        logits, features = net(x, features=True)
    assert torch.equal(plain, logits)
    assert [tuple(f.shape) for f in features] == [(2, *shape) for shape, _ in SHAPES[name]]
    for feature, (_, at) in zip(features, SHAPES[name], strict=True):
        assert at is None or feature is seen[at]
    assert torch.equal(net.get_submodule(net.HEAD)(features[-1]), logits)
    assert isinstance(features, list)


def test_every_family_is_here():
    assert all(any(member in SHAPES for member in family.members) for family in FAMILIES)


@pytest.mark.parametrize("name", list(SHAPES))
def test_maps_are_activated_where_the_stage_ends_so(name):
    net, x = small(name)
    with torch.no_grad():
        _, (stem, *maps, pooled) = net(x, features=True)
    assert all(bool((m < 0).any()) == (name in LINEAR) for m in maps)
    assert bool((stem < 0).any()) == (name == "wrn_16_2")
    assert float(pooled.min()) >= 0


@torch.no_grad()
def test_vgg_maps_are_taken_before_the_pooling():
    net, x = small("vgg8")
    _, features = net(x, features=True)
    out = x
    for i, pooled in enumerate((True, True, True, False, False)):
        out = F.relu(getattr(net, f"block{i}")(out))
        assert torch.equal(features[i], out)
        out = F.max_pool2d(out, 2) if pooled else out


@pytest.mark.parametrize("name", models.names())
def test_both_data_set_sizes(name):
    shapes = {}
    for side in (32, 64):
        if family_of(name).why_not(name, side) is None:
            shapes[side] = measure(name, 10, side).features
            *maps, pooled = shapes[side]
            assert all(len(m) == 3 and m[1] == m[2] for m in maps)
            assert len(pooled) == 1
            widths = [m[1] for m in maps]
            assert widths == sorted(widths, reverse=True)
    if len(shapes) == 2:
        assert [m[0] for m in shapes[32]] == [m[0] for m in shapes[64]]
        halved = [(d, s // 2, s // 2) for d, s, _ in shapes[64][:-1]]
        if name.startswith("vgg"):  # pooled once more, so that the last maps are the same
            halved[-1] = shapes[64][-2]
        assert halved == list(shapes[32][:-1])


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV2", "lenet8"])
def test_gradients_pass_through_features(name):
    net, x = small(name, channels=1)
    net.train()
    _, features = net(x, features=True)
    sum((f**2).mean() for f in features).backward()
    missing = {key for key, p in net.named_parameters() if p.grad is None}
    # Only what comes after the last feature got none.
    assert missing == {f"{net.HEAD}.weight", f"{net.HEAD}.bias"}


@torch.no_grad()
def test_without_features_no_map_is_kept():
    net, x = small("resnet8")
    maps: list[weakref.ref[Tensor]] = []
    alive: list[list[bool]] = []
    for at in ("layer1", "layer2"):
        net.get_submodule(at).register_forward_hook(lambda _m, _i, out: maps.append(weakref.ref(out)))
    net.fc.register_forward_pre_hook(lambda _m, _i: alive.append([ref() is not None for ref in maps]))
    net(x)
    maps.clear()
    net(x, features=True)
    assert alive == [[False, False], [True, True]]
