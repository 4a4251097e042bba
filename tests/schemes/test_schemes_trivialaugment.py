"""TrivialAugment against torchvision's TrivialAugmentWide with its chances dictated, and the law of its draws."""

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
from kdstats.schemes.policy.trivialaugment import TrivialAugment

SPACE = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
TABLE = v2.TrivialAugmentWide._AUGMENTATION_SPACE
NAMES = list(TABLE)
MANY = 40_000


def photos(n: int, size: int) -> Tensor:
    g = torch.Generator().manual_seed(size)
    x = torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8)
    x[::2] //= 4
    return x


def theirs(
    x: Tensor, made: v2.TrivialAugmentWide, name: str, level: int, negative: bool, patch: pytest.MonkeyPatch
) -> Tensor:
    """torchvision's TrivialAugmentWide, told what to draw."""
    bins = made.num_magnitude_bins
    whole = [NAMES.index(name)] + ([level] if TABLE[name][0](bins, 8, 8) is not None else [])
    coins = [0.2 if negative else 0.8] if name in SIGNED else []
    with patch.context() as dictated:
        dictated.setattr(torch, "randint", lambda *a, **k: torch.tensor(whole.pop(0)))
        dictated.setattr(torch, "rand", lambda *a, **k: torch.tensor(coins.pop(0)))
        out: Tensor = made(x)
    assert not whole
    assert not coins, "torchvision drew less than foreseen: this oracle no longer fits it"
    return out


@pytest.mark.parametrize("bins", [31, 7])
@pytest.mark.parametrize("size", [8, 32, 64])
def test_views_are_torchvisions_pixel_for_pixel(size, bins, monkeypatch):
    pixels = photos(40, size)
    x = SPACE.from_uint8(pixels, torch.float32)
    made, seen = v2.TrivialAugmentWide(num_magnitude_bins=bins), set()
    for draws in ("batch", "sample"):
        scheme = TrivialAugment("trivialaugment", draws, SPACE, num_magnitude_bins=bins)
        for key in range(12 if draws == "batch" else 2):
            found = scheme.apply(x, generator=generator(key))
            views = SPACE.to_uint8(found.images)
            p = found.draw.params
            images = [pixels] if draws == "batch" else pixels.split(1)
            mine = [views] if draws == "batch" else views.split(1)
            assert len(p["operation"]) == len(images)
            rows = zip(*(p[k].tolist() for k in ("operation", "level", "negative")), strict=True)
            for image, view, (operation, level, minus) in zip(images, mine, rows, strict=True):
                name = OPERATIONS[operation]
                seen.add(name)
                assert torch.equal(view, theirs(image, made, name, level, minus, monkeypatch)), (name, level)
    assert seen == set(NAMES)


def test_draws_are_uniform():
    draw = (
        TrivialAugment("t", "sample")
        ._draw(torch.zeros(MANY, 1, 1, 1), torch.arange(MANY), generator(4))
        .params
    )
    cells = torch.bincount(draw["operation"] * 31 + draw["level"], minlength=14 * 31)
    assert len(cells) == 14 * 31
    # Operations and strengths alike, and independent of each other.
    assert stats.chisquare(cells.numpy()).pvalue > 1e-3
    turned = draw["negative"].double()
    assert abs(float(turned.mean()) - 0.5) < 4 * (0.25 / MANY) ** 0.5
    by_level = torch.stack([turned[draw["level"] == level].mean() for level in range(31)])
    assert (by_level - 0.5).abs().max() < 4.5 * (0.25 / (MANY / 31)) ** 0.5


def test_batches_draw_by_the_same_law():
    scheme, x = TrivialAugment("t"), torch.zeros(5, 1, 1, 1)
    params = [scheme._draw(x, torch.arange(5), generator(k)).params for k in range(2000)]
    assert all(p[k].shape == (1,) for p in params for k in ("operation", "level", "negative"))
    for key, n in (("operation", 14), ("level", 31), ("negative", 2)):
        counts = torch.bincount(torch.cat([p[key] for p in params]).long(), minlength=n)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_sample_draws_depend_on_the_id_alone():
    scheme = TrivialAugment("t", "sample", SPACE)
    x, ids = SPACE.from_uint8(photos(16, 32), torch.float32), torch.arange(16) + 100
    whole = scheme.apply(x, None, ids, generator=generator(7)).images
    for rows in (torch.randperm(16, generator=generator(3)), torch.arange(5), torch.tensor([11])):
        assert torch.equal(scheme.apply(x[rows], None, ids[rows], generator=generator(7)).images, whole[rows])
    same = scheme.apply(x[:1].expand(16, -1, -1, -1), None, ids, generator=generator(7)).images
    assert len({v.numpy().tobytes() for v in same}) > 8


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(("channels", "size", "dtype"), [(1, 8, torch.bfloat16), (3, 8, torch.float32)])
def test_small_grey_and_bfloat16(draws, channels, size, dtype):
    scheme = TrivialAugment("t", draws, PixelSpace((0.5,) * channels, (0.25,) * channels))
    x = torch.randn(6, channels, size, size, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = x.clone()
    for key in range(10):
        found = scheme.apply(x, generator=generator(key))
        assert (found.images.dtype, found.images.shape) == (dtype, x.shape)
        assert torch.equal(scheme.replay(x, found.draw), found.images)
    assert torch.equal(x, before)


def test_translations_are_in_pixels():
    x = SPACE.from_uint8(photos(2, 64), torch.float32)
    params = {"operation": torch.tensor([OPERATIONS.index("TranslateX")]), "level": torch.tensor([30])}
    draw = Draw("t", {**params, "negative": torch.tensor([False])})
    view = SPACE.to_uint8(TrivialAugment("t", space=SPACE).replay(x, draw))
    assert torch.equal(view[..., 32:], photos(2, 64)[..., :32])
    assert (view[..., :32] == 0).all()


def test_what_it_says_of_itself():
    scheme = TrivialAugment("t", "sample", num_magnitude_bins=9, quantise="truncate")
    assert (scheme.num_magnitude_bins, scheme.quantise) == (9, "truncate")
    said = scheme.rules()
    assert set(said) == {"draw", "fill", "space"}
    assert "9 strengths" in said["draw"]
    assert "per image" in said["draw"]
    assert said["space"] == "uint8, truncated as published"


def test_what_is_refused():
    with pytest.raises(UsageError, match="bins lies in 2…1024, not 1"):
        TrivialAugment("t", num_magnitude_bins=1)
    with pytest.raises(UsageError, match="way through uint8"):
        TrivialAugment("t", quantise="floor")
