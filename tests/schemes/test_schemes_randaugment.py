"""RandAugment against torchvision's RandAugment with its chances dictated, and the law of its draws."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import Draw, PixelSpace
from kdstats.schemes.policy.operations import OPERATIONS, SIGNED
from kdstats.schemes.policy.randaugment import RandAugment

SPACE = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)
MANY = 40_000


def photos(n: int, size: int) -> Tensor:
    g = torch.Generator().manual_seed(size)
    x = torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8)
    x[::2] //= 4
    return x


def theirs(
    x: Tensor, made: v2.RandAugment, names: list[str], negative: list[bool], patch: pytest.MonkeyPatch
) -> Tensor:
    """torchvision's RandAugment, told which operations to draw and how their coins fall."""
    which = [NAMES.index(name) for name in names]
    coins = [0.2 if minus else 0.8 for name, minus in zip(names, negative, strict=True) if name in SIGNED]
    with patch.context() as dictated:
        dictated.setattr(torch, "randint", lambda *a, **k: torch.tensor(which.pop(0)))
        dictated.setattr(torch, "rand", lambda *a, **k: torch.tensor(coins.pop(0)))
        out: Tensor = made(x)
    assert not which
    assert not coins, "torchvision drew less than foreseen: this oracle no longer fits it"
    return out


@pytest.mark.parametrize("params", [{}, {"num_ops": 3, "magnitude": 6, "num_magnitude_bins": 11}], ids=str)
@pytest.mark.parametrize("size", [8, 32, 64])
def test_views_are_torchvisions_pixel_for_pixel(size, params, monkeypatch):
    pixels = photos(20, size)
    x = SPACE.from_uint8(pixels, torch.float32)
    made, seen = v2.RandAugment(**params), set()
    for draws in ("batch", "sample"):
        scheme = RandAugment("randaugment", draws, SPACE, **params)
        for key in range(12 if draws == "batch" else 2):
            found = scheme.apply(x, generator=generator(key))
            views = SPACE.to_uint8(found.images)
            operation, negative = found.draw.params["operation"], found.draw.params["negative"]
            images = [pixels] if draws == "batch" else pixels.split(1)
            mine = [views] if draws == "batch" else views.split(1)
            assert len(operation) == len(images)
            for image, view, row, minus in zip(
                images, mine, operation.tolist(), negative.tolist(), strict=True
            ):
                names = [OPERATIONS[o] for o in row]
                seen |= set(names)
                assert torch.equal(view, theirs(image, made, names, minus, monkeypatch)), names
    assert seen == set(NAMES)


def test_draws_are_uniform_and_with_replacement():
    draw = (
        RandAugment("r", "sample")._draw(torch.zeros(MANY, 1, 1, 1), torch.arange(MANY), generator(4)).params
    )
    pairs = torch.zeros(14, 14).index_put_(tuple(draw["operation"].T), torch.ones(MANY), accumulate=True)
    # All 196 ordered pairs alike: each position uniform, and independent of the other.
    assert stats.chisquare(pairs.flatten().numpy()).pvalue > 1e-3
    for column in draw["negative"].T:
        assert abs(int(column.sum()) - MANY / 2) < 4 * (MANY / 4) ** 0.5
    both = float((draw["negative"][:, 0] == draw["negative"][:, 1]).double().mean())
    assert abs(both - 0.5) < 4 * (0.25 / MANY) ** 0.5
    turned = draw["negative"][:, 0].double()
    by_operation = torch.stack([turned[draw["operation"][:, 0] == o].mean() for o in range(14)])
    assert (by_operation - 0.5).abs().max() < 4.5 * (0.25 / (MANY / 14)) ** 0.5


def test_batches_draw_by_the_same_law():
    scheme, x = RandAugment("r", num_ops=3), torch.zeros(5, 1, 1, 1)
    params = [scheme._draw(x, torch.arange(5), generator(k)).params for k in range(1500)]
    assert all(p["operation"].shape == p["negative"].shape == (1, 3) for p in params)
    counts = torch.bincount(torch.cat([p["operation"] for p in params]).flatten(), minlength=14)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_sample_draws_depend_on_the_id_alone():
    scheme = RandAugment("r", "sample", SPACE)
    x, ids = SPACE.from_uint8(photos(16, 32), torch.float32), torch.arange(16) + 100
    whole = scheme.apply(x, None, ids, generator=generator(7)).images
    for rows in (torch.randperm(16, generator=generator(3)), torch.arange(5), torch.tensor([11])):
        assert torch.equal(scheme.apply(x[rows], None, ids[rows], generator=generator(7)).images, whole[rows])
    same = scheme.apply(x[:1].expand(16, -1, -1, -1), None, ids, generator=generator(7)).images
    assert len({v.numpy().tobytes() for v in same}) > 8


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(("channels", "size", "dtype"), [(1, 8, torch.bfloat16), (3, 8, torch.float32)])
def test_small_grey_and_bfloat16(draws, channels, size, dtype):
    scheme = RandAugment("r", draws, PixelSpace((0.5,) * channels, (0.25,) * channels))
    x = torch.randn(6, channels, size, size, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = x.clone()
    for key in range(10):
        found = scheme.apply(x, generator=generator(key))
        assert (found.images.dtype, found.images.shape) == (dtype, x.shape)
        assert torch.equal(scheme.replay(x, found.draw), found.images)
    assert torch.equal(x, before)


def test_strength_grows_with_the_magnitude():
    x = SPACE.from_uint8(photos(4, 32), torch.float32)
    rotate = {"operation": torch.tensor([[OPERATIONS.index("Rotate")]]), "negative": torch.tensor([[False]])}
    weak, strong = (
        RandAugment("r", space=SPACE, num_ops=1, magnitude=m).replay(x, Draw("r", rotate)) for m in (0, 30)
    )
    assert torch.equal(SPACE.to_uint8(weak), photos(4, 32))
    assert not torch.equal(weak, strong)


def test_what_it_says_of_itself():
    scheme = RandAugment("r", "sample", num_ops=3, magnitude=4, num_magnitude_bins=10, quantise="truncate")
    assert (scheme.num_ops, scheme.magnitude, scheme.num_magnitude_bins) == (3, 4, 10)
    said = scheme.rules()
    assert set(said) == {"draw", "fill", "space"}
    assert "3 of 14 operations" in said["draw"]
    assert "per image" in said["draw"]
    assert "position 4 of 0…9" in said["draw"]
    assert said["space"] == "uint8, truncated as published"


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"num_ops": 0}, "num_ops lies in 1…64, not 0"),
        ({"num_magnitude_bins": 1, "magnitude": 0}, "bins lies in 2…1024, not 1"),
        ({"magnitude": 31}, "0…30, not 31"),
        ({"magnitude": -1}, "0…30, not -1"),
        ({"quantise": "floor"}, "way through uint8"),
    ],
)
def test_what_is_refused(params, match):
    with pytest.raises(UsageError, match=match):
        RandAugment("r", **params)
