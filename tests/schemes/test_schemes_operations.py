"""The image operations against torchvision's own, image by image and bit for bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from kdstats.schemes.policy import operations
from kdstats.schemes.policy.augmix import RANGES as MIX
from kdstats.schemes.policy.operations import (
    BLENDS,
    OPERATIONS,
    SIGNED,
    Ranges,
    operate,
    operate_each,
    scales,
    strengths,
)
from kdstats.schemes.policy.trivialaugment import WIDE

THEIRS = v2.AutoAugment()
# Our ranges, torchvision's table, and the numbers of strengths in use there.
TABLES = {
    "autoaugment": (Ranges(), v2.AutoAugment._AUGMENTATION_SPACE, 10),
    "randaugment": (Ranges(), v2.RandAugment._AUGMENTATION_SPACE, 31),
    "trivialaugment": (WIDE, v2.TrivialAugmentWide._AUGMENTATION_SPACE, 31),
    "augmix": (MIX, v2.AugMix._AUGMENTATION_SPACE, 10),
}
SIZES = [(8, 8), (32, 32), (64, 64), (24, 40)]
ODD = [(7, 9), (33, 31), (2, 5), (5, 2), (1, 1)]


def reference(image: Tensor, name: str, strength: float, interpolation: str) -> Tensor:
    mode = v2.InterpolationMode(interpolation)
    out: Tensor = THEIRS._apply_image_or_video_transform(image, name, strength, mode, THEIRS._fill)
    return out


def one_by_one(pixels: Tensor, names: list[str], strength: list[float], interpolation: str) -> Tensor:
    """torchvision on each image alone."""
    every = zip(pixels.split(1), names, strength, strict=True)
    return torch.cat([reference(x, name, s, interpolation) for x, name, s in every])


def photos(n: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Noise, smooth slopes, dark images and flat ones by turns."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, channels, height, width), generator=g, dtype=torch.uint8)
    slope = torch.linspace(0, 255, width).to(torch.uint8).expand(channels, height, width)
    x[1::4] = slope ^ (x[1::4] & 7)
    x[2::4] //= 4
    x[3::8] = x[3::8, :, :1, :1]
    return x


def all_strengths(name: str, height: int, width: int, tables: list[str]) -> Tensor:
    """Every strength of the named tables, both directions."""
    found = [
        TABLES[t][0].scale(name, TABLES[t][2], height, width) for t in tables if name in TABLES[t][1]
    ] or [torch.zeros(1, dtype=torch.float64)]
    size = torch.cat(found)
    return (torch.cat([size, -size]) if name in SIGNED else size).unique()


@pytest.mark.parametrize("table", TABLES)
def test_scales_are_torchvisions(table):
    ranges, theirs, usual = TABLES[table]
    for bins, side in itertools.product((2, usual, 47), (8, 24, 32, 33, 64, 224)):
        ours = scales(ranges, bins, side, side + 3)
        for name, (magnitudes, signed) in theirs.items():
            expected = magnitudes(bins, side, side + 3)
            found = ours[OPERATIONS.index(name)]
            assert torch.equal(
                found, torch.zeros(bins).double() if expected is None else expected.double()
            ), name
            assert signed == (name in SIGNED)


def test_all_operations_are_covered():
    known = set().union(*(table for _, table, _ in TABLES.values()))
    assert known == set(OPERATIONS)
    assert OPERATIONS[:14] == tuple(n for n in OPERATIONS if n in v2.RandAugment._AUGMENTATION_SPACE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("interpolation", "tables"),
    [("nearest", ["autoaugment", "randaugment", "trivialaugment"]), ("bilinear", ["augmix"])],
)
def test_each_image_at_its_own_strength(size, channels, interpolation, tables):
    changed = set()
    for name in OPERATIONS:
        strength = all_strengths(name, *size, tables)
        x = photos(len(strength), channels, *size, seed=len(name))
        before = x.clone()
        expected = one_by_one(x, [name] * len(x), strength.tolist(), interpolation)
        assert torch.equal(operate(x, name, strength, interpolation), expected), name
        assert torch.equal(x, before), f"{name} wrote to its input"
        if not torch.equal(expected, x):
            changed.add(name)
    # AutoContrast and Equalize have one strength, hence one image here, and noise may be left as it is.
    assert changed >= SIGNED - ({"Color"} if channels == 1 else set()) | {"Posterize", "Solarize"}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_one_strength_for_all_images(interpolation, monkeypatch):
    monkeypatch.setattr(operations, "PIECE", 3 * 3 * 32 * 32)  # three images and a rest of one
    x = photos(7, 3, 32, 32)
    for name in OPERATIONS:
        for strength in all_strengths(name, 32, 32, list(TABLES))[::7].tolist():
            found = operate(x, name, torch.tensor([strength], dtype=torch.float64), interpolation)
            assert torch.equal(found, one_by_one(x, [name] * 7, [strength] * 7, interpolation)), (
                name,
                strength,
            )
            assert torch.equal(found, reference(x, name, strength, interpolation)), (name, strength)


@pytest.mark.parametrize("size", ODD, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_that_are_no_multiple_of_a_vector(size, channels):
    """There torch rounds the last pixels of a channel in another way: one grey level of contrast may differ."""
    for name in OPERATIONS:
        strength = all_strengths(name, *size, ["randaugment", "trivialaugment"])
        x = photos(len(strength), channels, *size, seed=len(name))
        expected = one_by_one(x, [name] * len(x), strength.tolist(), "nearest")
        found = operate(x, name, strength)
        if name not in BLENDS:
            assert torch.equal(found, expected), name
            continue
        gap = (found.int() - expected.int()).abs().flatten(2)
        body = gap.shape[2] // 16 * 16
        assert int(gap[:, :, :body].sum()) == 0, name
        assert int(gap.max()) <= 1, name
        assert float((gap > 0).float().mean()) < 0.001, name


def table_of(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Random operations of all fifteen, strengths and activity."""
    g = torch.Generator().manual_seed(seed)
    operation = torch.randint(0, len(OPERATIONS), (n,), generator=g)
    level = torch.randint(0, 31, (n,), generator=g)
    negative, active = torch.rand(n, generator=g) < 0.5, torch.rand(n, generator=g) < 0.8
    return operation, strengths(scales(WIDE, 31, *size), operation, level, negative), active


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_each_image_its_own_operation(channels, interpolation):
    for seed, (n, size) in enumerate([(2, (32, 32)), (60, (32, 32)), (200, (8, 8)), (40, (24, 40))]):
        x = photos(n, channels, *size, seed)
        operation, strength, active = table_of(n, seed, size)
        before = x.clone()
        found = operate_each(x, operation, strength, active, interpolation)
        names = [
            OPERATIONS[o] if a else "Identity"
            for o, a in zip(operation.tolist(), active.tolist(), strict=True)
        ]
        assert torch.equal(found, one_by_one(x, names, strength.tolist(), interpolation))
        assert torch.equal(x, before)
        if n == 200:
            assert set(names) == set(OPERATIONS)


def test_one_operation_for_all_images():
    x = photos(5, 3, 32, 32)
    for i, name in enumerate(OPERATIONS):
        level = torch.tensor([20])
        strength = strengths(scales(WIDE, 31, 32, 32), torch.tensor([i]), level, torch.tensor([True]))
        on = operate_each(x, torch.tensor([i]), strength, torch.tensor([True]))
        assert torch.equal(on, reference(x, name, float(strength), "nearest")), name
        off = operate_each(x, torch.tensor([i]), strength, torch.tensor([False]))
        assert torch.equal(off, x)


def test_an_image_does_not_depend_on_its_company():
    x = photos(64, 3, 32, 32)
    operation, strength, active = table_of(64, 3, (32, 32))
    whole = operate_each(x, operation, strength, active)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    for rows in (order, torch.arange(5), torch.arange(17, 64), torch.tensor([9, 9])):
        found = operate_each(x[rows], operation[rows], strength[rows], active[rows])
        assert torch.equal(found, whole[rows])


def test_only_directed_operations_take_a_sign():
    table = scales(Ranges(), 10, 32, 32)
    every = torch.arange(len(OPERATIONS))
    level = torch.full_like(every, 7)
    plus = strengths(table, every, level, torch.zeros(len(every), dtype=torch.bool))
    minus = strengths(table, every, level, torch.ones(len(every), dtype=torch.bool))
    for name, a, b in zip(OPERATIONS, plus.tolist(), minus.tolist(), strict=True):
        assert b == (-a if name in SIGNED else a)


def test_black_comes_in():
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    right = operate(white, "TranslateX", torch.tensor([3.9], dtype=torch.float64))
    assert (right[..., :3] == 0).all()
    assert (right[..., 3:] == 255).all()
    up = operate(white, "TranslateY", torch.tensor([-2.0], dtype=torch.float64))
    assert (up[..., 6:, :] == 0).all()
    assert (up[..., :6, :] == 255).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_it_is_nearly_the_same():
    x = photos(200, 3, 32, 32)
    table = table_of(200, 3, (32, 32))
    here, there = operate_each(x, *table), operate_each(x.cuda(), *table).cpu()
    # Rounding differs there: some pixels half-way between two others, some grey levels by one.
    assert float((here != there).float().mean()) < 0.02
