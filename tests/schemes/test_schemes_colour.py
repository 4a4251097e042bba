"""Colour jitter and greyscale against torchvision's functions image by image, and the laws of their draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import PixelSpace, Scheme, pieces
from kdstats.schemes.colour.jitter import ColorJitter, Grayscale, jitter, turn_hue

MANY = 40_000
SPACES = {1: PixelSpace((0.4,), (0.3,)), 3: PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))}
SHAPES = [(1, 3, 8, 8), (7, 3, 32, 32), (5, 1, 9, 14), (4, 3, 7, 13), (2, 3, 64, 64)]
KINDS = [(ColorJitter, d) for d in ("batch", "sample")] + [(Grayscale, d) for d in ("batch", "sample")]
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
NAMES = ("brightness", "contrast", "saturation", "hue")


def fractions(shape: tuple[int, ...]) -> Tensor:
    """Grey levels of image files, some pixels grey, black, white or with two equal channels."""
    g = torch.Generator().manual_seed(sum(shape))
    x = torch.randint(0, 256, shape, generator=g) / 255.0
    x[:, :, 0] = x[:, :1, 0]
    x[:, :, 1, ::2] = x[:, :, 1, ::2].round()
    x[:, :2, 2] = x[:, :1, 2]
    return x


def normalised(x: Tensor, channels: int = 3) -> Tensor:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (SPACES[channels].mean, SPACES[channels].std))
    return (x - mean) / std


def plain(x: Tensor, channels: int = 3) -> Tensor:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (SPACES[channels].mean, SPACES[channels].std))
    return x * std + mean


def one_by_one(x: Tensor, factors: dict[str, Tensor], order: Tensor) -> Tensor:
    """torchvision's functions on each image, in each image's order."""
    out = []
    for i, image in enumerate(x):
        for turn in order[i].tolist():
            if NAMES[turn] in factors:
                image = ADJUST[turn](image, float(factors[NAMES[turn]][i]))
        out.append(image)
    return torch.stack(out)


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("shape", SHAPES)
def test_jitter_against_torchvision(draws, shape):
    n, channels = shape[:2]
    scheme = ColorJitter("color_jitter", draws, SPACES[channels])
    x = normalised(fractions(shape), channels)
    acted = 0
    for key in range(6):
        found = scheme.apply(x, generator=generator(key))
        p = {k: v.expand(n, *v.shape[1:]) for k, v in found.draw.params.items()}
        expected = one_by_one(plain(x, channels).clamp(0, 1), p, p["order"])
        on = p["on"]
        assert torch.allclose(plain(found.images, channels)[on], expected[on], rtol=0, atol=1e-5)
        assert torch.equal(found.images[~on], x[~on]), "an image that is off was touched"
        acted += int(on.sum())
    assert acted


def test_every_order_of_the_four_operations():
    orders = torch.tensor(list(itertools.permutations(range(4))))
    u = torch.rand(4, 24, generator=torch.Generator().manual_seed(5))
    factors = dict(zip(NAMES, [*(0.5 + u[:3]), u[3] - 0.5], strict=True))
    x = fractions((1, 3, 16, 16)).expand(24, -1, -1, -1)
    # The orders do matter here: every image comes out different.
    same = dict.fromkeys(NAMES, torch.tensor([1.4])) | {"hue": torch.tensor([0.2])}
    views = jitter(x.clone(), {k: v.expand(24) for k, v in same.items()}, orders)
    assert len({tuple(v.flatten().mul(1e4).round().tolist()) for v in views}) >= 20
    found = jitter(x.clone(), factors, orders)
    assert torch.allclose(found, one_by_one(x, factors, orders), rtol=0, atol=1e-5)
    for i in range(24):
        whole = jitter(x.clone(), {k: v[i : i + 1] for k, v in factors.items()}, orders[i : i + 1])
        expected = one_by_one(x[:1], {k: v[i : i + 1] for k, v in factors.items()}, orders[i : i + 1])
        assert torch.allclose(whole, expected.expand(24, -1, -1, -1), rtol=0, atol=1e-5)
        assert torch.equal(whole[0], found[i])


def test_hue_of_all_corners_of_the_colour_cube():
    levels = torch.linspace(0, 1, 5)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(1, 3, 5, 25)
    turns = torch.tensor([-0.5, -0.25, -1 / 6, 0, 1e-4, 1 / 3, 0.5])
    found = cube.repeat(7, 1, 1, 1)
    turn_hue(found, turns.view(-1, 1, 1, 1))
    expected = torch.stack([tv.adjust_hue(cube[0], float(t)) for t in turns])
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert torch.allclose(found[3], cube[0], atol=1e-6)


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_operations_of_strength_zero_are_left_out(draws):
    x = normalised(fractions((6, 3, 8, 8)))
    off = dict.fromkeys(NAMES, 0.0)
    still = ColorJitter("j", draws, SPACES[3], **off, p=1.0).apply(x, generator=generator(0))
    assert torch.allclose(still.images, x, atol=1e-5)
    for name in NAMES:
        scheme = ColorJitter("j", draws, SPACES[3], **{**off, name: 0.4}, p=1.0)
        found = scheme.apply(x, generator=generator(1))
        assert set(found.draw.params) == {"on", "order", name}
        p = {k: v.expand(6, *v.shape[1:]) for k, v in found.draw.params.items()}
        expected = one_by_one(plain(x).clamp(0, 1), p, p["order"])
        assert torch.allclose(plain(found.images), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(found.images, x, atol=1e-3)


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("shape", SHAPES)
def test_greyscale_against_torchvision(draws, shape):
    n, channels = shape[:2]
    x = normalised(fractions(shape), channels)
    for key in range(3):
        found = Grayscale("grayscale", draws, SPACES[channels], p=0.6).apply(x, generator=generator(key))
        on = found.draw.params["on"].expand(n)
        expected = tv.rgb_to_grayscale(plain(x, channels), num_output_channels=channels)
        assert torch.allclose(plain(found.images, channels)[on], expected[on], rtol=0, atol=1e-5)
        assert torch.equal(found.images[~on], x[~on])
        if channels == 1:
            assert torch.equal(found.images, x)


def test_greyscale_in_a_space_of_one_constant():
    x = fractions((4, 3, 8, 8))
    found = Grayscale("grayscale", space=PixelSpace((0.4,), (0.3,)), p=1.0)
    views = found.apply((x - 0.4) / 0.3, generator=generator(0)).images * 0.3 + 0.4
    assert torch.allclose(views, tv.rgb_to_grayscale(x, num_output_channels=3), atol=1e-6)


@pytest.mark.parametrize(("kind", "draws"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_promises(kind, draws, dtype, shape):
    channels = shape[1]
    x = normalised(fractions(shape), channels).to(dtype)
    before = x.clone()
    for p in (0.0, 0.5, 1.0):
        scheme = kind("s", draws, SPACES[channels], p=p)
        found = scheme.apply(x, generator=generator(4))
        assert torch.equal(x, before), "the input was written to"
        assert (found.images.shape, found.images.dtype) == (x.shape, dtype)
        assert found.images.data_ptr() != x.data_ptr()
        assert torch.equal(scheme.replay(x, found.draw), found.images)
        assert len(found.draw.params["on"]) == (shape[0] if draws == "sample" else 1)
        if p == 0:
            assert torch.equal(found.images, x)
        if p == 1 and not (kind is Grayscale and channels == 1):
            assert (found.images != x).flatten(1).any(1).all()
        # Worked out in float32, whatever comes in.
        assert torch.equal(found.images, scheme.replay(x.float(), found.draw).to(dtype))


@pytest.mark.parametrize("kind", [ColorJitter, Grayscale])
@pytest.mark.parametrize("shape", [(13, 3, 7, 9), (13, 3, 32, 32), (13, 1, 8, 8)])
def test_sample_draws_depend_on_the_id_alone(kind, shape, monkeypatch):
    scheme = kind("s", "sample", SPACES[shape[1]], p=0.7)
    x, ids = normalised(fractions(shape), shape[1]), torch.arange(13) * 7 + 100

    def views(rows: Tensor) -> Tensor:
        return scheme.apply(x[rows], sample_id=ids[rows], generator=generator(3)).images

    whole = views(torch.arange(13))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for rows in (order, torch.arange(5), torch.tensor([5]), torch.arange(6, 13)):
        assert torch.equal(views(rows), whole[rows])
    monkeypatch.setattr(pieces, "PIECE", 3 * x[0].numel())
    assert torch.equal(views(torch.arange(13)), whole), "the size of the pieces shows"


def params(scheme: Scheme, n: int = MANY) -> dict[str, np.ndarray]:
    """``n`` draws, from one hollow batch or from as many batches as there are draws."""
    hollow, gen = torch.zeros(1, 3, 8, 8), generator(9, scheme.draws)
    if scheme.draws == "sample":
        found = scheme._draw(hollow.expand(n, -1, -1, -1), torch.arange(n), gen).params
        return {k: v.numpy() for k, v in found.items()}
    each = [scheme._draw(hollow, torch.arange(1), gen).params for _ in range(n)]
    return {k: torch.cat([p[k] for p in each]).numpy() for k in each[0]}


@pytest.mark.parametrize(("draws", "n"), [("batch", 4000), ("sample", MANY)])
def test_laws_of_the_draws(draws, n):
    found = params(ColorJitter("j", draws, brightness=0.5, contrast=1.5, saturation=0.2, hue=0.25), n)
    for name, low, high in (
        ("brightness", 0.5, 1.5),
        ("contrast", 0.0, 2.5),
        ("saturation", 0.8, 1.2),
        ("hue", -0.25, 0.25),
    ):
        assert stats.kstest(found[name], stats.uniform(low, high - low).cdf).pvalue > 0.001
    counts = np.unique(found["order"] @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 0.001
    assert found["on"].mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / n))
    # The coin, the factors and each operation's turn know nothing of each other (the turns exclude one another).
    columns = [found["on"], *(found[name] for name in NAMES)]
    turns = list(found["order"].argsort(1).T)
    for a, b in [*itertools.combinations(columns, 2), *itertools.product(columns, turns)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(n)
    assert params(Grayscale("g", draws), n)["on"].mean() == pytest.approx(
        0.2, abs=4 * math.sqrt(0.2 * 0.8 / n)
    )


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (ColorJitter, {"brightness": -0.1}, "strength of brightness is a number from 0 on, not -0.1"),
        (ColorJitter, {"contrast": math.inf}, "strength of contrast is a number from 0 on, not inf"),
        (ColorJitter, {"saturation": math.nan}, "strength of saturation"),
        (ColorJitter, {"hue": 0.6}, "0…0.5 turns either way, not 0.6"),
        (ColorJitter, {"p": 1.1}, "probability lies in 0…1, not 1.1"),
        (Grayscale, {"p": -0.1}, "probability lies in 0…1, not -0.1"),
    ],
)
def test_senseless_parameters(kind, wrong, message):
    with pytest.raises(UsageError, match=message):
        kind("s", **wrong)


@pytest.mark.parametrize("kind", [ColorJitter, Grayscale])
def test_other_numbers_of_channels(kind):
    with pytest.raises(UsageError, match="1 or 3 channels, not 4"):
        kind("s").apply(torch.rand(2, 4, 8, 8), generator=generator(0))


def test_rules_name_the_parameters():
    said = ColorJitter("j", "sample", brightness=0.3, contrast=0, p=0.6).rules()
    assert said["probability"] == "0.6 of a change, one draw per image"
    words = " ".join(said.values())
    for part in (
        "0.6",
        "per image",
        "brightness times 0.7…1.3",
        "hue moved by -0.25…+0.25 turns",
        "24 orders",
    ):
        assert part in words
    assert "contrast" not in words
    rules = Grayscale("g", p=0.3).rules()
    assert rules["probability"] == "0.3 of a change, one draw per batch"
    assert "0.2989 red + 0.587 green + 0.114 blue" in rules["space"]
