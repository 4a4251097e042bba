"""Names and shapes are enough to tell which network some weights belong to; everything else is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdstats import models
from kdstats.errors import MissingError, UsageError
from kdstats.models import Guess, infer, registry
from kdstats.models.skeleton import skeleton

State = dict[str, Tensor]


def state_of(name: str, classes: int = 100, channels: int = 3) -> State:
    return skeleton(name, classes, 32, channels).state_dict()


def without_counters(state: State) -> State:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", models.names())
def test_every_network_is_recognised(name):
    for classes, channels in ((100, 3), (2, 1), (1000, 4)):
        state, wanted = state_of(name, classes, channels), Guess(name, classes, channels)
        assert infer(state) == wanted
        assert infer(without_counters(state)) == wanted
        assert infer({f"module.{k}": v for k, v in state.items()}) == wanted
        assert infer({f"module._orig_mod.{k}": v for k, v in without_counters(state).items()}) == wanted
        assert infer(dict(sorted(state.items(), reverse=True))) == wanted


def test_torchvisions_own_files_are_recognised():
    from torchvision.models import resnet

    for depth in (18, 34, 50):
        with torch.device("meta"):
            theirs = getattr(resnet, f"resnet{depth}")()
        assert infer(theirs.state_dict()) == Guess(f"imagenet_resnet{depth}", 1000, 3)


def test_a_guess_reads_well():
    assert str(Guess("resnet20", 100, 3)) == "resnet20 for 100 classes and colour images"
    assert str(Guess("lenet8", 10, 1)) == "lenet8 for 10 classes and grey images"
    assert str(Guess("vgg8", 10, 4)) == "vgg8 for 10 classes and 4-channel images"


@pytest.mark.parametrize(
    "name", ["resnet20", "wrn_16_2", "vgg8", "ResNet18", "MobileNetV2", "ShuffleV1", "ShuffleV2", "lenet8"]
)
def test_any_one_change_is_refused_and_named(name):
    state, rng = state_of(name), np.random.default_rng(0)
    keys = list(without_counters(state))
    stem, head = keys[0], keys[-2]
    for key in (keys[0], keys[1], keys[-1], keys[-2], *rng.choice(keys, 8)):
        shape = tuple(state[key].shape)
        changes: dict[str, State] = {
            "missing": {k: v for k, v in state.items() if k != key},
            "unexpected": {**state, f"{key}.extra": state[key]},
            "renamed": {f"x{k}" if k == key else k: v for k, v in state.items()},
        }
        for axis in range(len(shape)):
            grown = list(shape)
            grown[axis] += 1
            if (key, axis) != (stem, 1):  # another number of channels is no mistake
                changes[f"axis {axis}"] = {**state, key: torch.empty(grown, device="meta")}
        if len(shape) > 1:
            changes["flat"] = {**state, key: torch.empty(state[key].numel(), device="meta")}
        for change, wrong in changes.items():
            with pytest.raises(MissingError) as caught:
                infer(wrong)
            text = str(caught.value)
            assert f"nearest is {name}," in text, (change, key)
            # The number of classes is the weight's word, so there the bias is the one that does not fit.
            at = keys[-1] if (key, change) == (head, "axis 0") else key
            assert at in text, (change, key, text)


def test_what_does_not_fit_is_counted():
    state = state_of("resnet20")
    wrong = {k: v for k, v in without_counters(state).items() if k != "bn1.bias"}
    wrong |= {"extra.weight": state["bn1.bias"], "layer1.0.bn1.weight": torch.empty(17, device="meta")}
    with pytest.raises(MissingError) as caught:
        infer(wrong)
    assert str(caught.value) == (
        "the weights fit no network that kdstats knows. The nearest is resnet20, where 105 of 107 tensors fit: "
        "layer1.0.bn1.weight is [17], expected [16]; missing bn1.bias; unexpected extra.weight"
    )


def test_relatives_are_refused_by_name():
    from kdstats.models.resnet import CifarResNet
    from kdstats.models.wrn import WideResNet

    with torch.device("meta"):
        relatives = {
            "resnet(20|32)": CifarResNet(26, (16, 16, 32, 64), 100, 3),
            "resnet20": CifarResNet(20, (16, 16, 32, 65), 100, 3),
            "wrn_16_": WideResNet(16, 4, 100, 3),
        }
    for nearest, relative in relatives.items():
        with pytest.raises(MissingError, match=f"nearest is {nearest}"):
            infer(relative.state_dict())


def test_foreign_networks_are_refused():
    import torchvision.models as theirs

    known = re.compile(r"fit no network|belong to no network")
    with torch.device("meta"):
        foreign = [
            theirs.vgg11_bn(),
            theirs.mobilenet_v2(),
            theirs.shufflenet_v2_x1_0(),
            theirs.resnet101(),
            theirs.wide_resnet50_2(),
            theirs.vit_b_16(),
            nn.Linear(3, 2),
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2)),
        ]
    for net in foreign:
        with pytest.raises(MissingError, match=known) as caught:
            infer(net.state_dict())
        assert len(str(caught.value)) < 600
    with pytest.raises(MissingError, match="none of these 2 tensors"):
        infer({"weight": torch.zeros(2), "bias": torch.zeros(2)})


def test_random_dictionaries_are_refused():
    rng = np.random.default_rng(1)
    pool = sorted({key for name in ("resnet8", "wrn_16_1", "vgg8", "lenet8") for key in state_of(name)})
    for _ in range(30):
        keys = rng.choice(pool, rng.integers(1, 60), replace=False)
        shapes = [tuple(int(n) for n in rng.integers(0, 9, rng.integers(0, 5))) for _ in keys]
        with pytest.raises(MissingError):
            infer({k: torch.empty(s, device="meta") for k, s in zip(keys, shapes, strict=True)})


def test_what_is_no_state_dict():
    with pytest.raises(MissingError, match="'epoch' is no tensor"):
        infer({"conv1.weight": torch.zeros(1), "epoch": 3})
    with pytest.raises(MissingError, match="it is empty"):
        infer({})
    one = {k: v[:1] if k.startswith("fc") else v for k, v in state_of("resnet8", 2).items()}
    with pytest.raises(MissingError, match="resnet8, but its head has 1 output; a classifier has 2 or more"):
        infer(one)


def test_a_prefix_stays_unless_all_have_it():
    state = state_of("lenet8")
    with pytest.raises(MissingError, match=r"missing conv1\.weight; unexpected module\.conv1\.weight"):
        infer({f"module.{k}" if k == "conv1.weight" else k: v for k, v in state.items()})


def test_two_that_fit_are_both_named(monkeypatch):
    monkeypatch.setattr(registry, "names", lambda: ["resnet8", "lenet8", "resnet8"])
    with pytest.raises(UsageError, match=r"fit resnet8 for 10 classes.* and resnet8 for 10 .*name the one"):
        infer(state_of("resnet8", 10))
