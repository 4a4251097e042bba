"""Names, state dicts and sizes of every network, against the facts of the public checkpoints."""

from __future__ import annotations

import pytest
import torch

from kdstats import models
from kdstats.errors import UsageError
from kdstats.models.registry import FAMILIES, family_of
from kdstats.models.skeleton import skeleton

# name: parameters, keys, trainable tensors, buffers, last layer, its inputs; counted from the released definitions
# at 100 classes and 32x32 colour images.
PUBLISHED = {
    "resnet8": (83_892, 56, 29, 27, "fc", 64),
    "resnet14": (181_108, 92, 47, 45, "fc", 64),
    "resnet20": (278_324, 128, 65, 63, "fc", 64),
    "resnet32": (472_756, 200, 101, 99, "fc", 64),
    "resnet44": (667_188, 272, 137, 135, "fc", 64),
    "resnet56": (861_620, 344, 173, 171, "fc", 64),
    "resnet110": (1_736_564, 668, 335, 333, "fc", 64),
    "resnet8x4": (1_233_540, 62, 32, 30, "fc", 256),
    "resnet32x4": (7_433_860, 206, 104, 102, "fc", 256),
    "wrn_16_1": (180_916, 82, 43, 39, "fc", 64),
    "wrn_16_2": (703_284, 83, 44, 39, "fc", 128),
    "wrn_40_1": (569_780, 226, 115, 111, "fc", 64),
    "wrn_40_2": (2_255_156, 227, 116, 111, "fc", 128),
    "vgg8": (3_965_028, 37, 22, 15, "classifier", 512),
    "vgg11": (9_277_284, 58, 34, 24, "classifier", 512),
    "vgg13": (9_462_180, 72, 42, 30, "classifier", 512),
    "vgg16": (14_774_436, 93, 54, 39, "classifier", 512),
    "vgg19": (20_086_692, 114, 66, 48, "classifier", 512),
    "ResNet50": (23_705_252, 320, 161, 159, "linear", 2048),
    "MobileNetV2": (812_836, 320, 161, 159, "classifier.0", 1280),
    "ShuffleV1": (949_258, 296, 149, 147, "linear", 960),
    "ShuffleV2": (1_355_528, 338, 170, 168, "linear", 1024),
}
# What no table of the checkpoints has: parameters at 100 classes.
OTHERS = {
    "wrn_28_10": 36_536_884,  # Zagoruyko & Komodakis 2016: 36.5 M
    "ResNet18": 11_220_132,  # ImageNet's 11,689,512 less 7x7 -> 3x3 in the stem (7,680) and 900 classes (461,700)
    "imagenet_resnet18": 11_689_512 - 900 * 513,  # torchvision's counts less 900 classes
    "imagenet_resnet34": 21_797_672 - 900 * 513,
    "imagenet_resnet50": 25_557_032 - 900 * 2049,
    "lenet8": 1_922 + 16 * 9 + 90 * 65,  # the count for digits, two more input channels, 90 more classes
}

# Per network: key → shape, or None where the key must not be. Typed from the released definitions.
KEYS = {
    "resnet20": {
        "conv1.weight": (16, 3, 3, 3),
        "layer1.2.conv2.weight": (16, 16, 3, 3),
        "layer1.0.downsample.0.weight": None,
        "layer2.0.downsample.0.weight": (32, 16, 1, 1),
        "layer3.0.downsample.1.running_var": (64,),
        "layer3.1.downsample.0.weight": None,
    },
    "resnet8x4": {
        "conv1.weight": (32, 3, 3, 3),
        "layer1.0.downsample.0.weight": (64, 32, 1, 1),
        "layer3.0.conv1.weight": (256, 128, 3, 3),
    },
    "wrn_16_1": {
        "block1.layer.0.convShortcut.weight": None,
        "block2.layer.0.convShortcut.weight": (32, 16, 1, 1),
        "bn1.weight": (64,),
    },
    "wrn_16_2": {
        "conv1.weight": (16, 3, 3, 3),
        "block1.layer.0.convShortcut.weight": (32, 16, 1, 1),
        "block1.layer.0.bn1.weight": (16,),
        "block3.layer.1.conv2.weight": (128, 128, 3, 3),
    },
    "vgg8": {
        "block0.0.weight": (64, 3, 3, 3),
        "block0.0.bias": (64,),
        "block4.1.running_mean": (512,),
        "block4.3.weight": None,
        "classifier.bias": (100,),
    },
    "vgg13": {"block2.3.weight": (256, 256, 3, 3), "block2.4.bias": (256,), "block2.6.weight": None},
    "vgg16": {"block1.3.weight": (128, 128, 3, 3), "block2.6.weight": (256, 256, 3, 3)},
    "vgg19": {"block3.0.weight": (512, 256, 3, 3), "block4.9.bias": (512,), "block0.6.weight": None},
    "ResNet18": {"layer1.0.shortcut.0.weight": None, "layer2.0.shortcut.0.weight": (128, 64, 1, 1)},
    "ResNet50": {
        "conv1.weight": (64, 3, 3, 3),
        "layer1.0.shortcut.0.weight": (256, 64, 1, 1),
        "layer1.1.shortcut.0.weight": None,
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.0.shortcut.1.num_batches_tracked": (),
        "linear.weight": (100, 2048),
    },
    "MobileNetV2": {
        "conv1.0.weight": (16, 3, 3, 3),
        "conv1.1.weight": (16,),
        "blocks.0.0.conv.0.weight": (16, 16, 1, 1),  # kept at expansion 1
        "blocks.0.0.conv.6.weight": (8, 16, 1, 1),
        "blocks.1.0.conv.3.weight": (48, 1, 3, 3),
        "blocks.5.2.conv.7.running_mean": (80,),
        "blocks.6.0.conv.6.weight": (160, 480, 1, 1),
        "blocks.6.1.conv.0.weight": None,
        "conv2.0.weight": (1280, 160, 1, 1),
    },
    "ShuffleV1": {
        "conv1.weight": (24, 3, 1, 1),
        "layer1.0.conv1.weight": (54, 24, 1, 1),  # (240 - 24) / 4, one group
        "layer1.0.conv2.weight": (54, 1, 3, 3),
        "layer1.0.conv3.weight": (216, 18, 1, 1),
        "layer2.0.conv1.weight": (60, 80, 1, 1),  # (480 - 240) / 4, three groups
        "layer2.7.conv3.weight": (480, 40, 1, 1),
        "layer3.3.bn3.weight": (960,),
    },
    "ShuffleV2": {
        "conv1.weight": (24, 3, 1, 1),
        "layer1.0.conv1.weight": (24, 1, 3, 3),
        "layer1.0.conv2.weight": (58, 24, 1, 1),
        "layer1.0.conv5.weight": (58, 58, 1, 1),
        "layer2.7.conv2.weight": (116, 1, 3, 3),
        "layer2.8.conv1.weight": None,
        "conv2.weight": (1024, 464, 1, 1),
        "bn2.weight": (1024,),
    },
    "imagenet_resnet34": {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.downsample.0.weight": None,
        "layer4.0.downsample.1.bias": (512,),
        "fc.weight": (100, 512),
    },
    "lenet8": {"conv2.weight": (16, 8, 3, 3), "fc.weight": (100, 64)},
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_counts_are_those_of_the_public_checkpoints(name):
    net = skeleton(name, 100)
    parameters, buffers, state = list(net.parameters()), list(net.buffers()), net.state_dict()
    *_, weight, bias = state
    head = weight.removesuffix(".weight")
    found = (sum(p.numel() for p in parameters), len(state), len(parameters), len(buffers), head)
    assert (*found, state[weight].shape[1]) == PUBLISHED[name]
    assert (bias, state[weight].shape[0], tuple(state[bias].shape)) == (f"{head}.bias", 100, (100,))
    assert head == net.HEAD


def test_every_network_is_counted():
    assert {*PUBLISHED, *OTHERS} == set(models.names())
    for name, parameters in OTHERS.items():
        assert sum(p.numel() for p in skeleton(name, 100).parameters()) == parameters, name


@pytest.mark.parametrize("name", list(KEYS))
def test_keys_typed_by_hand(name):
    state = {key: tuple(value.shape) for key, value in skeleton(name, 100).state_dict().items()}
    assert {key: state.get(key) for key in KEYS[name]} == KEYS[name]


def test_every_family_has_keys_typed_by_hand():
    assert all(any(member in KEYS for member in family.members) for family in FAMILIES)


@pytest.mark.parametrize("name", models.names())
def test_size_changes_no_weight(name):
    def shapes(*arguments: int) -> dict[str, tuple[int, ...]]:
        return {k: tuple(v.shape) for k, v in skeleton(name, *arguments).state_dict().items()}

    if family_of(name).most is None:
        assert shapes(200, 64) == shapes(200, 32)
    grey, colour = shapes(10, 32, 1), shapes(10, 32, 3)
    differ = {key for key in colour if grey[key] != colour[key]}
    assert differ == {next(iter(colour))}  # the stem alone
    assert grey[next(iter(colour))][1] == 1


# The others are the same code as their smaller sisters, and slow.
SMALL = [
    n for n in models.names() if n not in ("resnet110", "wrn_28_10", "vgg16", "vgg19", "imagenet_resnet34")
]


@pytest.mark.parametrize("name", SMALL)
def test_forward_of_one_small_image(name):
    torch.manual_seed(0)
    side = family_of(name).least
    net = models.build(name, 7, side, 1).eval()
    with torch.no_grad():
        one, two = net(torch.randn(1, 1, side, side)), net(torch.randn(1, 1, side, side))
    assert one.shape == two.shape == (1, 7)
    assert bool(torch.isfinite(one).all())
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", models.names())
def test_forward_shapes_at_the_data_sets_sizes(name):
    for side, classes in ((32, 100), (64, 200)):
        if family_of(name).why_not(name, side) is None:
            net = skeleton(name, classes, side).train()
            assert net(torch.empty(2, 3, side, side, device="meta")).shape == (2, classes)


def test_only_shufflev1_stays_at_32():
    refused = [name for name in models.names() if family_of(name).why_not(name, 64) is not None]
    assert refused == ["ShuffleV1"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("WRN-40-2", "wrn_40_2"),
        ("Wrn_28-10", "wrn_28_10"),
        ("mobilenetv2", "MobileNetV2"),
        ("SHUFFLEV1", "ShuffleV1"),
        (" shufflev2 ", "ShuffleV2"),
        ("resnet50", "ResNet50"),
        ("ImageNet-ResNet50", "imagenet_resnet50"),
        ("ResNet20", "resnet20"),
    ],
)
def test_case_and_hyphens_do_not_matter(given, name):
    assert models.canonical(given) == name
    assert list(skeleton(given, 2).state_dict()) == list(skeleton(name, 2).state_dict())


def test_no_two_names_fold_into_one():
    assert len({name.lower().replace("-", "_") for name in models.names()}) == len(models.names())
    assert all(models.canonical(name) == name for name in models.names())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet21", 10), r"^no model named 'resnet21'\. Did you mean .*'resnet20'.*kdstats models"),
        (("mobilenet", 10), "'MobileNetV2'"),
        (("shufflenetv2", 10), "'ShuffleV2'"),
        (("resnet8", 1), "at least 2 classes, not 1"),
        (("resnet8", 10, 32, 0), "at least 1 channel, not 0"),
        (("resnet8", 10, 7), "^resnet8 needs images of at least 8x8 pixels, not 7x7$"),
        (("wrn-16-2", 10, 0), "^wrn_16_2 needs images of at least 8x8 pixels, not 0x0$"),
        (
            ("shufflev1", 10, 64),
            "^ShuffleV1 takes images of 32x32 pixels alone, not 64x64: so it was published$",
        ),
        (("ShuffleV1", 10, 8), "32x32 pixels alone, not 8x8"),
        (
            ("MobileNetV2", 10, 8),
            "^MobileNetV2 takes images whose sides are multiples of 32 pixels, not 8x8$",
        ),
        (("MobileNetV2", 10, 48), "multiples of 32 pixels, not 48x48"),
        (("MobileNetV2", 10, 0), "multiples of 32 pixels, not 0x0"),
        (("MobileNetV2", 10, -32), "multiples of 32 pixels, not -32x-32"),
        (("imagenet_resnet18", 10, 16), "at least 32x32 pixels, not 16x16"),
    ],
)
def test_what_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        models.build(*arguments)


def test_initial_weights():
    torch.manual_seed(0)

    def of(name: str, key: str) -> torch.Tensor:
        return nets[name].state_dict()[key]

    nets = {name: models.build(name, 100) for name in ("vgg8", "MobileNetV2", "ResNet18", "ShuffleV2")}
    # Normal of variance 2 / (k * k * out) in every convolution, grouped or not; no biases.
    for name, key, fan_out in (
        ("vgg8", "block4.0.weight", 9 * 512),
        ("MobileNetV2", "blocks.5.1.conv.3.weight", 9 * 480),
        ("ResNet18", "layer4.0.shortcut.0.weight", 512),
    ):
        assert float(of(name, key).std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.03), name
    assert float(of("vgg8", "block4.0.bias").abs().max()) == 0
    for name, head in (("vgg8", "classifier"), ("MobileNetV2", "classifier.0")):
        assert float(of(name, f"{head}.weight").std()) == pytest.approx(0.01, rel=0.03)
        assert float(of(name, f"{head}.bias").abs().max()) == 0
    # PyTorch's default is uniform within one over the root of the inputs of each output.
    assert float(of("ShuffleV2", "conv2.weight").abs().max()) == pytest.approx(1 / 464**0.5, rel=0.001)


def test_a_skeleton_has_no_weights_and_leaves_no_trace():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    net = skeleton("wrn_16_2", 10)
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)
    built = models.build("wrn_16_2", 10)
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert float(built.state_dict()["bn1.weight"].min()) == 1
    assert float(built.state_dict()["conv1.weight"].std()) > 0
