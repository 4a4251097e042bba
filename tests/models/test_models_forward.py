"""What the networks compute, against constructions that share no code with them: torchvision's, or written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats import models

State = dict[str, Tensor]


def trained(name: str, size: int = 32, classes: int = 5) -> nn.Module:
    """A network in double precision whose BatchNorms and biases are far from their initial values."""
    torch.manual_seed(0)
    net = models.build(name, classes, size).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
                module.running_mean.normal_(0.0, 0.2)
                module.weight.uniform_(0.5, 1.5)
            if isinstance(getattr(module, "bias", None), Tensor):
                module.bias.normal_(0.0, 0.2)
    return net


def images(size: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, dtype=torch.float64)


def agree(found: Tensor, wanted: Tensor) -> None:
    assert float(wanted.std()) > 1e-3, "nothing arrives at the head"
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def bn(state: State, key: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, *(state[f"{key}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))


@torch.no_grad()
def test_resnet_written_out():
    for name, blocks in (("resnet8x4", 1), ("resnet14", 2)):
        net, x = trained(name), images()
        state = net.state_dict()
        out = F.relu(bn(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
        for layer, step in ((1, 1), (2, 2), (3, 2)):
            for i in range(blocks):
                at, stride = f"layer{layer}.{i}", step if i == 0 else 1
                y = F.conv2d(out, state[f"{at}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(bn(state, f"{at}.bn1", y)), state[f"{at}.conv2.weight"], padding=1)
                if f"{at}.downsample.0.weight" in state:
                    projected = F.conv2d(out, state[f"{at}.downsample.0.weight"], stride=stride)
                    out = bn(state, f"{at}.downsample.1", projected)
                out = F.relu(bn(state, f"{at}.bn2", y) + out)
        agree(net(x), out.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"])


@torch.no_grad()
def test_wrn_written_out():
    for name in ("wrn_16_1", "wrn_16_2"):
        net, x = trained(name), images()
        state = net.state_dict()
        out = F.conv2d(x, state["conv1.weight"], padding=1)
        for block, step in ((1, 1), (2, 2), (3, 2)):
            for i in range(2):
                at, stride = f"block{block}.layer.{i}", step if i == 0 else 1
                active = F.relu(bn(state, f"{at}.bn1", out))
                y = F.conv2d(active, state[f"{at}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(bn(state, f"{at}.bn2", y)), state[f"{at}.conv2.weight"], padding=1)
                shortcut = state.get(f"{at}.convShortcut.weight")
                out = y + (out if shortcut is None else F.conv2d(active, shortcut, stride=stride))
        out = F.relu(bn(state, "bn1", out)).mean((2, 3))
        agree(net(x), out @ state["fc.weight"].T + state["fc.bias"])


@torch.no_grad()
def test_shufflev1_written_out():
    net, x = trained("ShuffleV1"), images()
    state = net.state_dict()
    out = F.relu(bn(state, "bn1", F.conv2d(x, state["conv1.weight"])))
    for layer, blocks in ((1, 4), (2, 8), (3, 4)):
        for i in range(blocks):
            at, groups = f"layer{layer}.{i}", 1 if (layer, i) == (1, 0) else 3
            y = F.relu(bn(state, f"{at}.bn1", F.conv2d(out, state[f"{at}.conv1.weight"], groups=groups)))
            # Channel c of the shuffled map is channel (c mod groups) * (width / groups) + c div groups.
            width = y.shape[1]
            y = y[:, [(c % groups) * (width // groups) + c // groups for c in range(width)]]
            stride = 2 if i == 0 else 1
            y = F.conv2d(y, state[f"{at}.conv2.weight"], stride=stride, padding=1, groups=width)
            y = F.conv2d(F.relu(bn(state, f"{at}.bn2", y)), state[f"{at}.conv3.weight"], groups=3)
            y = bn(state, f"{at}.bn3", y)
            out = F.relu(y + out if i else torch.cat([y, F.avg_pool2d(out, 3, 2, 1)], 1))
    agree(net(x), out.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"])


@torch.no_grad()
def test_lenet_written_out():
    net, x = trained("lenet8", 8), images(8)
    state, out = net.state_dict(), x
    for i in (1, 2):
        out = F.relu(bn(state, f"bn{i}", F.conv2d(out, state[f"conv{i}.weight"], padding=1)))
        out = out.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    agree(net(x), out.flatten(1) @ state["fc.weight"].T + state["fc.bias"])


def renamed(state: State, **changes: str) -> State:
    """``state`` with parts of its keys replaced."""

    def new(key: str) -> str:
        for old, replacement in changes.items():
            key = ".".join(replacement if part == old else part for part in key.split("."))
        return key

    return {new(key): value for key, value in state.items()}


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_resnetv2_is_torchvisions_with_another_stem(depth):
    from torchvision.models import resnet

    net, x = trained(f"ResNet{depth}"), images(16)
    theirs = getattr(resnet, f"resnet{depth}")(num_classes=5)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.double().eval().load_state_dict(renamed(net.state_dict(), shortcut="downsample", linear="fc"))
    agree(net(x), theirs(x))


@pytest.mark.parametrize("depth", [18, 34, 50])
@torch.no_grad()
def test_imagenet_resnet_is_torchvisions(depth):
    from torchvision.models import resnet

    net, x = trained(f"imagenet_resnet{depth}"), images(40)
    theirs = getattr(resnet, f"resnet{depth}")(num_classes=5).double().eval()
    assert list(theirs.state_dict()) == list(net.state_dict())
    theirs.load_state_dict(net.state_dict())
    agree(net(x), theirs(x))
    net.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(
    ("name", "size", "pools"),
    [*((f"vgg{d}", 32, 3) for d in (8, 11, 13, 16, 19)), ("vgg8", 64, 4), ("vgg11", 64, 4)],
)
@torch.no_grad()
def test_vgg_is_torchvisions(name, size, pools):
    from torchvision.models import vgg

    net, x = trained(name, size), images(size, 1)
    layers = {
        "vgg8": [64, "M", 128, "M", 256, "M", 512, "M", 512, "M"],
        **{f"vgg{d}": vgg.cfgs[letter] for d, letter in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))},
    }[name]
    features = vgg.make_layers(layers, batch_norm=True).double().eval()
    # Both hold their convolutions and BatchNorms in the order of the computation.
    state = [value for key, value in net.state_dict().items() if key.startswith("block")]
    features.load_state_dict(dict(zip(features.state_dict(), state, strict=True)))
    out, left = x, pools
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            if left == 0:
                continue
            left -= 1
        out = layer(out)
    assert out.shape[2] == 4
    agree(net(x), net.classifier(out.mean((2, 3))))


@torch.no_grad()
def test_mobilenet_of_torchvisions_blocks():
    from torchvision.models.mobilenetv2 import InvertedResidual

    net, x = trained("MobileNetV2"), images()
    state = net.state_dict()
    out = F.relu(bn(state, "conv1.1", F.conv2d(x, state["conv1.0.weight"], stride=2, padding=1)))
    # torchvision leaves the expansion of the first block out, so that one is written out.
    at = "blocks.0.0.conv"
    y = F.relu(bn(state, f"{at}.1", F.conv2d(out, state[f"{at}.0.weight"])))
    y = F.relu(bn(state, f"{at}.4", F.conv2d(y, state[f"{at}.3.weight"], padding=1, groups=16)))
    out = bn(state, f"{at}.7", F.conv2d(y, state[f"{at}.6.weight"]))
    width = 8
    for s, full, blocks, step in (
        (1, 24, 2, 1),
        (2, 32, 3, 2),
        (3, 64, 4, 2),
        (4, 96, 3, 1),
        (5, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(blocks):
            theirs = InvertedResidual(width, full // 2, step if i == 0 else 1, 6).double().eval()
            for part in (theirs.conv[0], theirs.conv[1]):
                part[2] = nn.ReLU()  # theirs is ReLU6
            own = [v for k, v in state.items() if k.startswith(f"blocks.{s}.{i}.")]
            theirs.load_state_dict(dict(zip(theirs.state_dict(), own, strict=True)))
            out, width = theirs(out), full // 2
    out = F.relu(bn(state, "conv2.1", F.conv2d(out, state["conv2.0.weight"]))).mean((2, 3))
    agree(net(x), out @ state["classifier.0.weight"].T + state["classifier.0.bias"])


@pytest.mark.parametrize("size", [32, 64])
@torch.no_grad()
def test_shufflev2_is_torchvisions_with_another_stem(size):
    from torchvision.models.shufflenetv2 import ShuffleNetV2

    net, x = trained("ShuffleV2", size), images(size, 1)
    theirs = ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=5)
    theirs.conv1[0] = nn.Conv2d(3, 24, 1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.double().eval()
    # The same tensors in the same order, the left branch of a halving block before its right.
    theirs.load_state_dict(dict(zip(theirs.state_dict(), net.state_dict().values(), strict=True)))
    agree(net(x), theirs(x))


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2", "resnet8", "MobileNetV2"])
@torch.no_grad()
def test_memory_format_changes_nothing(name):
    net, x = trained(name), images()
    wanted = net(x)
    last = torch.channels_last
    agree(net.to(memory_format=last)(x.contiguous(memory_format=last)), wanted)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_shuffle(groups):
    from kdstats.models.shufflev1 import shuffle

    x = torch.randn(2, 12, 4, 5)
    for given in (x, x.contiguous(memory_format=torch.channels_last), x[:, :, :, ::2]):
        assert torch.equal(shuffle(given, groups), F.channel_shuffle(given.contiguous(), groups))
    assert shuffle(torch.arange(4.0).view(1, 4, 1, 1), 2).flatten().tolist() == [0, 2, 1, 3]
