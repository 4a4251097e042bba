"""Gaussian blur against torchvision's function image by image, and the laws of its draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import PixelSpace, pieces
from kdstats.schemes.colour.blur import GaussianBlur, gaussian

MANY = 40_000
SHAPES = [(1, 3, 8, 8), (7, 3, 32, 32), (5, 1, 9, 14), (3, 1, 4, 40), (2, 3, 64, 64), (2, 3, 224, 224)]


def batch(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def taps(size: int, reach: int) -> int:
    return 2 * min(reach, size - 1) + 1


def one_by_one(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """torchvision's function on each image; ``reach`` is written out, not taken from the code under test."""
    kernel = [taps(x.shape[3], reach), taps(x.shape[2], reach)]
    return torch.stack(
        [tv.gaussian_blur(v, kernel, [float(s)]) for v, s in zip(x, sigma.expand(len(x)), strict=True)]
    )


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("sigma", "reach"), [((0.15, 1.15), 5), ((1.9, 2.0), 8), (0.4, 2)])
def test_against_torchvision(draws, shape, sigma, reach):
    scheme, x = GaussianBlur("gaussian_blur", draws, sigma=sigma, p=0.7), batch(shape)
    acted = 0
    for key in range(2 if max(shape) > 200 else 4):
        found = scheme.apply(x, generator=generator(key))
        on = found.draw.params["on"].expand(len(x))
        expected = one_by_one(x, found.draw.params["sigma"], reach)
        assert torch.allclose(found.images[on], expected[on], rtol=0, atol=1e-5)
        assert torch.equal(found.images[~on], x[~on]), "an image that is off was touched"
        acted += int(on.sum())
    assert acted


def test_the_normalisation_does_not_matter():
    space = PixelSpace((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (space.mean, space.std))
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = GaussianBlur("b", "sample", space, p=1.0).apply((x - mean) / std, generator=generator(1))
    expected = one_by_one(x, found.draw.params["sigma"], 5)
    assert torch.allclose(found.images * std + mean, expected, rtol=0, atol=1e-5)


def test_kernels():
    sigma = torch.tensor([0.1, 0.15, 0.7, 1.15, 30.0])
    found = gaussian(sigma, 6)
    x = np.arange(-6, 7)
    for row, s in zip(found, sigma.tolist(), strict=True):
        expected = np.exp(-(x**2) / (2 * s**2))
        np.testing.assert_allclose(row, expected / expected.sum(), rtol=1e-5, atol=1e-12)
    # What four sigmas leave out.
    assert 2 * stats.norm.sf(4) < 1e-4


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_promises(draws, dtype, shape):
    x = batch(shape).to(dtype)
    before = x.clone()
    for p in (0.0, 0.5, 1.0):
        scheme = GaussianBlur("b", draws, p=p, sigma=(0.6, 1.15))
        found = scheme.apply(x, generator=generator(4))
        assert torch.equal(x, before), "the input was written to"
        assert (found.images.shape, found.images.dtype) == (x.shape, dtype)
        assert found.images.data_ptr() != x.data_ptr()
        assert torch.equal(scheme.replay(x, found.draw), found.images)
        assert len(found.draw.params["sigma"]) == (shape[0] if draws == "sample" else 1)
        if p == 0:
            assert torch.equal(found.images, x)
        if p == 1:
            assert (found.images != x).flatten(1).any(1).all()
        # Worked out in float32, whatever comes in.
        assert torch.equal(found.images, scheme.replay(x.float(), found.draw).to(dtype))


@pytest.mark.parametrize("shape", [(13, 3, 7, 9), (13, 3, 32, 32), (13, 1, 8, 8)])
def test_sample_draws_depend_on_the_id_alone(shape, monkeypatch):
    scheme = GaussianBlur("b", "sample", p=0.7)
    x, ids = batch(shape), torch.arange(13) * 7 + 100

    def views(rows: Tensor) -> Tensor:
        return scheme.apply(x[rows], sample_id=ids[rows], generator=generator(3)).images

    whole = views(torch.arange(13))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for rows in (order, torch.arange(5), torch.tensor([5]), torch.arange(6, 13)):
        assert torch.equal(views(rows), whole[rows])
    monkeypatch.setattr(pieces, "PIECE", 3 * x[0].numel())
    assert torch.equal(views(torch.arange(13)), whole), "the size of the pieces shows"


@pytest.mark.parametrize(("draws", "n"), [("batch", 4000), ("sample", MANY)])
def test_laws_of_the_draws(draws, n):
    scheme, hollow, gen = GaussianBlur("b", draws), torch.zeros(1, 1, 8, 8), generator(9, draws)
    each = (
        [scheme._draw(hollow, torch.arange(1), gen).params for _ in range(n)]
        if draws == "batch"
        else [scheme._draw(hollow.expand(n, -1, -1, -1), torch.arange(n), gen).params]
    )
    on, sigma = (torch.cat([p[key] for p in each]).numpy() for key in ("on", "sigma"))
    assert len(on) == n
    assert on.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))
    assert stats.kstest(sigma, stats.uniform(0.15, 1.0).cdf).pvalue > 0.001
    assert abs(np.corrcoef(on, sigma)[0, 1]) < 4 / math.sqrt(n)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"p": 2}, "probability of a blur lies in 0…1, not 2"),
        ({"sigma": 0}, "sigma is one number or two in order, from 0.1 on, not 0"),
        ({"sigma": (1.15, 0.15)}, "two in order"),
        ({"sigma": (0.15, math.inf)}, "not .0.15, inf."),
        ({"sigma": (0.15,)}, "one number or two"),
        ({"sigma": (math.nan, 1)}, "one number or two"),
        ({"sigma": "ab"}, "one number or two in order, from 0.1 on, not ab"),
        ({"sigma": {0.2, 0.3}}, "one number or two"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(UsageError, match=message):
        GaussianBlur("b", **wrong)


def test_rules_name_the_parameters():
    rules = GaussianBlur("b", "sample", sigma=(0.2, 2), p=0.3).rules()
    assert rules["probability"] == "0.3 of a blur, one draw per image"
    assert "0.2…2 pixels, one per image; kernel of 17 taps" in rules["draw"]
    assert GaussianBlur("b", sigma=1).rules()["draw"].startswith("σ 1 pixels")
    assert GaussianBlur("b", sigma=1).sigma == (1, 1)
