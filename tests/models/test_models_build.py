from __future__ import annotations

import pytest
import torch

from kdstats import models
from kdstats.errors import UsageError

# name: parameters, keys, trainable tensors, buffers; counted from the released definitions at 100 classes, 32x32.
PUBLISHED = {
    "resnet8": (83_892, 56, 29, 27),
    "resnet14": (181_108, 92, 47, 45),
    "resnet20": (278_324, 128, 65, 63),
    "resnet32": (472_756, 200, 101, 99),
    "resnet44": (667_188, 272, 137, 135),
    "resnet56": (861_620, 344, 173, 171),
    "resnet110": (1_736_564, 668, 335, 333),
    "resnet8x4": (1_233_540, 62, 32, 30),
    "resnet32x4": (7_433_860, 206, 104, 102),
    "wrn_16_1": (180_916, 82, 43, 39),
    "wrn_16_2": (703_284, 83, 44, 39),
    "wrn_40_1": (569_780, 226, 115, 111),
    "wrn_40_2": (2_255_156, 227, 116, 111),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_counts(name):
    with torch.device("meta"):
        net = models.build(name, 100)
    parameters, buffers = list(net.parameters()), list(net.buffers())
    found = (sum(p.numel() for p in parameters), len(net.state_dict()), len(parameters), len(buffers))
    assert found == PUBLISHED[name]


def test_every_resnet_and_wrn_is_counted():
    families = {n for n in models.names() if n.startswith(("resnet", "wrn_"))}
    assert families - {"wrn_28_10"} == set(PUBLISHED)
    with torch.device("meta"):
        wide = models.build("wrn_28_10", 100)
    assert sum(p.numel() for p in wide.parameters()) == 36_536_884  # Zagoruyko & Komodakis 2016: 36.5 M


def test_keys_and_shapes_of_the_public_checkpoints():
    net = models.build("resnet20", 100).state_dict()
    assert list(net)[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert net["layer2.0.downsample.0.weight"].shape == (32, 16, 1, 1)
    assert net["fc.weight"].shape == (100, 64)
    assert not any(k.startswith("layer1.0.downsample") for k in net)
    assert any(k.startswith("layer1.0.downsample") for k in models.build("resnet8x4", 100).state_dict())
    wide = models.build("wrn_16_2", 100).state_dict()
    assert wide["block1.layer.0.convShortcut.weight"].shape == (32, 16, 1, 1)
    assert wide["block3.layer.1.conv2.weight"].shape == (128, 128, 3, 3)
    thin = models.build("wrn_16_1", 100).state_dict()
    assert "block1.layer.0.convShortcut.weight" not in thin
    assert "block2.layer.0.convShortcut.weight" in thin


@pytest.mark.parametrize("name", models.names())
def test_forward_shapes_at_every_size(name):
    if name in ("resnet110", "wrn_28_10"):
        pytest.skip("the same code as its smaller sisters, and slow")
    for channels, size in ((1, 8), (3, 32), (3, 64)):
        net = models.build(name, 7, size, channels).eval()
        with torch.no_grad():
            out = net(torch.randn(2, channels, size, size))
        assert out.shape == (2, 7)
        assert torch.isfinite(out).all()
        assert not torch.equal(out[0], out[1])


def test_wrn_block_by_hand():
    from torch.nn import functional as F

    torch.manual_seed(0)
    net = models.build("wrn_16_2", 5).eval()
    x = torch.randn(2, 3, 32, 32)
    state = net.state_dict()

    def bn(key: str, y: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            y, *(state[f"{key}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        )

    out = F.conv2d(x, state["conv1.weight"], padding=1)
    for b, stride in ((1, 1), (2, 2), (3, 2)):
        for i in range(2):
            at, s = f"block{b}.layer.{i}", stride if i == 0 else 1
            active = F.relu(bn(f"{at}.bn1", out))
            y = F.conv2d(active, state[f"{at}.conv1.weight"], stride=s, padding=1)
            y = F.conv2d(F.relu(bn(f"{at}.bn2", y)), state[f"{at}.conv2.weight"], padding=1)
            out = y + (F.conv2d(active, state[f"{at}.convShortcut.weight"], stride=s) if i == 0 else out)
    out = F.relu(bn("bn1", out)).mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        assert torch.allclose(net(x), out, atol=1e-4)


def test_resnet_block_by_hand():
    from torch.nn import functional as F

    torch.manual_seed(0)
    net = models.build("resnet8x4", 5).eval()
    x = torch.randn(2, 3, 32, 32)
    state = net.state_dict()

    def bn(key: str, y: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            y, *(state[f"{key}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        )

    out = F.relu(bn("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for b, stride in ((1, 1), (2, 2), (3, 2)):
        at = f"layer{b}.0"
        y = F.relu(bn(f"{at}.bn1", F.conv2d(out, state[f"{at}.conv1.weight"], stride=stride, padding=1)))
        y = bn(f"{at}.bn2", F.conv2d(y, state[f"{at}.conv2.weight"], padding=1))
        out = F.relu(
            y + bn(f"{at}.downsample.1", F.conv2d(out, state[f"{at}.downsample.0.weight"], stride=stride))
        )
    out = out.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        assert torch.allclose(net(x), out, atol=1e-4)


def test_what_is_refused():
    with pytest.raises(UsageError, match=r"'resnet20'.*kdstats models"):
        models.build("resnet21", 10)
    with pytest.raises(UsageError, match="at least 2 classes"):
        models.build("resnet8", 1)
    with pytest.raises(UsageError, match="8x8"):
        models.build("resnet8", 10, 7)
