"""Crop, flip and the data sets' standard augmentation, against torchvision's functions image by image."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from kdstats import schemes
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import generator, integers, uniforms
from kdstats.draws.moves import crop_at, flip_where
from kdstats.errors import UsageError
from kdstats.schemes import PixelSpace


def pixels(n: int = 9, channels: int = 3, size: int = 32) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, size, size), generator=g, dtype=torch.uint8)


def reference(x: Tensor, top: int, left: int, padding: int, flip: bool, fill: float = 0) -> Tensor:
    size = x.shape[-1]
    out = tv.crop(tv.pad(x, [padding], fill=fill), top, left, size, size)
    return tv.horizontal_flip(out) if flip else out


def test_crop_at_against_torchvision():
    x, g = pixels(), torch.Generator().manual_seed(1)
    fill = torch.full((1, 1, 1, 1), 7, dtype=torch.uint8)
    for padding in (0, 1, 4):
        top, left = (torch.randint(0, 2 * padding + 1, (9,), generator=g) for _ in range(2))
        each = torch.stack(
            [reference(v, int(t), int(m), padding, False, 7) for v, t, m in zip(x, top, left, strict=True)]
        )
        assert torch.equal(crop_at(x, top, left, padding, fill), each)
        whole = crop_at(x, top[:1], left[:1], padding, fill)
        assert torch.equal(whole, reference(x, int(top[0]), int(left[0]), padding, False, 7))
        assert whole.data_ptr() != x.data_ptr()
    flipped = torch.tensor([True, False, True] * 3)
    each = torch.stack([tv.horizontal_flip(v) if f else v for v, f in zip(x, flipped, strict=True)])
    assert torch.equal(flip_where(x, flipped), each)
    assert torch.equal(flip_where(x, flipped[:1]), tv.horizontal_flip(x))


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("name", ["flip", "crop", "crop_flip"])
@pytest.mark.parametrize(("size", "padding"), [(8, 1), (32, 4), (64, 8)])
def test_schemes_against_torchvision(name, draws, size, padding):
    space = PixelSpace((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    scheme = schemes.get(name, draws=draws, space=space)
    x = pixels(9, 3, size)
    for key in range(4):
        found = scheme.apply(space.from_uint8(x, torch.float32), generator=generator(key))
        p = found.draw.params
        full = {k: v.expand(9) for k, v in p.items()}
        zero, no = torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.bool)
        top, left = full.get("top", zero + padding), full.get("left", zero + padding)
        flip = full.get("flipped", no)
        expected = torch.stack(
            [
                reference(v, int(t), int(m), padding, bool(f))
                for v, t, m, f in zip(x, top, left, flip, strict=True)
            ]
        )
        # Padding is black: 0 in the files, −mean/std here.
        assert torch.allclose(found.images, space.from_uint8(expected, torch.float32), atol=1e-6)
        assert torch.equal(space.to_uint8(found.images), expected)


def test_cutout_fills_with_the_mean_colour_inside_its_box_only():
    for draws in ("batch", "sample"):
        x = torch.rand(7, 3, 32, 32) + 1
        found = schemes.get("cutout", draws=draws, side=10).apply(x, generator=generator(2))
        for i, (top, bottom, left, right) in enumerate(found.draw.params["box"].expand(7, 4).tolist()):
            expected = x[i].clone()
            expected[:, top:bottom, left:right] = 0
            assert torch.equal(found.images[i], expected)
            assert bottom - top <= 10


def test_pixel_space_round_trip_is_exact_for_every_grey_level():
    space = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(space.to_uint8(space.from_uint8(levels, torch.float32)), levels)
    assert torch.allclose(
        space.black(levels.float()), space.from_uint8(torch.zeros(1, 3, 1, 1), torch.float32)
    )


@pytest.mark.parametrize(
    ("name", "padding", "flip"),
    [
        ("none", 0, False),
        ("flip", 0, True),
        ("crop1", 1, False),
        ("crop4+flip", 4, True),
        ("crop8+flip", 8, True),
        ("crop0", 0, False),
    ],
)
def test_standard_augmentation_against_torchvision(name, padding, flip):
    found = StandardAugmentation(name)
    assert (found.padding, found.flip, found.name) == (padding, flip, name)
    x, ids = pixels(9), torch.arange(9) * 7
    before = x.clone()
    views = found.apply(x, ids, seed=3, epoch=2)
    assert torch.equal(x, before)
    assert views.dtype == torch.uint8
    u = uniforms("sample", ids, 3, generator(3, "base", 2))
    top, left = (integers(u[:, i], 0, 2 * padding) for i in (0, 1))
    expected = torch.stack(
        [
            reference(v, int(t), int(m), padding, flip and bool(f))
            for v, t, m, f in zip(x, top, left, u[:, 2] < 0.5, strict=True)
        ]
    )
    assert torch.equal(views, expected)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.apply(x[order], ids[order], 3, 2), expected[order])
    assert torch.equal(
        torch.cat([found.apply(x[i : i + 1], ids[i : i + 1], 3, 2) for i in range(9)]), expected
    )
    if name not in ("none", "crop0"):
        many, many_ids = x[:1].expand(64, -1, -1, -1), torch.arange(64)
        assert not torch.equal(found.apply(many, many_ids, 3, 2), found.apply(many, many_ids, 3, 3))
        assert not torch.equal(found.apply(many, many_ids, 3, 2), found.apply(many, many_ids, 4, 2))


def test_standard_augmentation_offsets_are_uniform():
    x = torch.zeros(9000, 1, 8, 8, dtype=torch.uint8)
    x[:, :, 4, 4] = 255
    views = StandardAugmentation("crop1").apply(x, torch.arange(9000), 0, 0)
    where = views.flatten(1).argmax(1)
    counts = torch.unique(where, return_counts=True)[1]
    assert len(counts) == 9
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize(
    "name",
    [
        "",
        "crop",
        "crop4flip",
        "+flip",
        "crop4+",
        "flip+crop4",
        "Crop4",
        "crop-1",
        "crop4 +flip",
        "crop4+flip\n",
    ],
)
def test_unknown_standard_augmentation(name):
    with pytest.raises(UsageError, match=r"cropN\+flip"):
        StandardAugmentation(name)
