"""Random erasing against torchvision's transform with its random numbers dictated, and against a simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from kdstats.draws.keys import generator, uniforms
from kdstats.errors import UsageError
from kdstats.schemes.erasing.random_erasing import ATTEMPTS, RandomErasing

MANY = 40_000
SHAPES = [(1, 3, 8, 8), (7, 3, 32, 32), (5, 1, 9, 14), (2, 3, 64, 64), (2, 3, 224, 224)]


def batch(shape: tuple[int, ...]) -> Tensor:
    """No value is 0 or 2: what was erased can be told from what was not."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.9 + 0.05
    return x * torch.tensor([1.0, -1.0]).repeat(shape[3])[: shape[3]]


def boxes(scheme: RandomErasing, height: int, width: int, n: int = MANY) -> np.ndarray:
    """``[n, 4]`` boxes, from one hollow batch or from as many batches as there are draws."""
    hollow, gen = torch.zeros(1, 1, height, width), generator(9, scheme.draws, height)
    if scheme.draws == "sample":
        return scheme._draw(hollow.expand(n, -1, -1, -1), torch.arange(n), gen).params["box"].numpy()
    each = [scheme._draw(hollow, torch.arange(1), gen).params["box"] for _ in range(n)]
    return torch.cat(each).numpy()


def share(box: np.ndarray, height: int, width: int) -> np.ndarray:
    return (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / (height * width)


def simulated(
    rng: np.random.Generator, size: int, n: int, scale=(0.02, 0.33), ratio=(0.3, 3.3)
) -> np.ndarray:
    """``[n]`` erased shares by the published rule, drawn afresh: every image tries until one fits or ten did not."""
    erased, waiting = np.zeros(n), np.arange(n)
    for _ in range(10):
        area = size**2 * rng.uniform(*scale, len(waiting))
        aspect = np.exp(rng.uniform(*np.log(ratio), len(waiting)))
        h, w = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (h < size) & (w < size)
        erased[waiting[fits]] = (h * w)[fits] / size**2
        waiting = waiting[~fits]
    return erased


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (8, 8, (0.02, 0.33), (0.3, 3.3)),
        (32, 32, (0.02, 0.33), (0.3, 3.3)),
        (9, 14, (0.02, 0.33), (0.3, 3.3)),
        (16, 16, (0.5, 1.0), (0.2, 5.0)),  # many do not fit, some images are left alone
        (12, 20, (0.9, 1.0), (0.5, 0.9)),
    ],
)
def test_against_torchvision_with_the_same_numbers(height, width, scale, ratio, monkeypatch):
    n = 150
    scheme = RandomErasing("random_erasing", "sample", p=1.0, scale=scale, ratio=ratio, value=2.0)
    x, ids = batch((n, 1, height, width)), torch.arange(n)
    found = scheme.apply(x, generator=generator(1)).images
    u = uniforms("sample", ids, 3 + 2 * ATTEMPTS, generator(1)).numpy()
    attempts: Iterator[float] = iter(())
    places: Iterator[float] = iter(())

    def uniform_(self: Tensor, low: float, high: float) -> Tensor:
        return self.fill_(low + (high - low) * next(attempts))

    def randint(low: int, high: int, size: tuple[int, ...]) -> Tensor:
        return torch.full(size, low + int((high - low) * next(places)))

    reference = v2.RandomErasing(p=1.0, scale=scale, ratio=ratio, value=2.0)
    monkeypatch.setattr(torch.Tensor, "uniform_", uniform_)
    monkeypatch.setattr(torch, "randint", randint)
    untouched, later = 0, 0
    for i in range(n):
        attempts, places = iter(u[i, 1:-2]), iter(u[i, -2:])
        expected = reference(x[i])
        assert torch.equal(found[i], expected)
        untouched += torch.equal(expected, x[i])
        later += len(list(attempts)) < 2 * ATTEMPTS - 2
    if scale[0] >= 0.5:
        assert 0 < untouched < n
        assert later > untouched, "no image took a later attempt"


@pytest.mark.parametrize(("draws", "n"), [("batch", 4000), ("sample", MANY)])
@pytest.mark.parametrize("size", [32, 64])
def test_erased_area(draws, n, size):
    found = share(boxes(RandomErasing("r", draws, p=1.0), size, size, n), size, size)
    expected = simulated(np.random.default_rng(size), size, 4 * MANY)
    error = math.sqrt(found.var() / n + expected.var() / len(expected))
    assert found.mean() == pytest.approx(expected.mean(), abs=4 * error)
    assert stats.ks_2samp(found, expected).pvalue > 0.001


def test_share_of_images_that_nothing_fits_into():
    found = share(
        boxes(RandomErasing("r", "sample", p=1.0, scale=(0.7, 1), ratio=(0.3, 3.3)), 32, 32), 32, 32
    )
    expected = simulated(np.random.default_rng(0), 32, 4 * MANY, (0.7, 1))
    none = (expected == 0).mean()
    assert 0.05 < none < 0.95
    error = math.sqrt(none * (1 - none) * (1 / MANY + 1 / (4 * MANY)))
    assert (found == 0).mean() == pytest.approx(none, abs=4 * error)


@pytest.mark.parametrize(("draws", "n"), [("batch", 4000), ("sample", MANY)])
def test_probability_and_place(draws, n):
    scheme = RandomErasing("r", draws, p=0.3, scale=0.25, ratio=1)  # always 4x4 in 8x8: 25 places
    box = boxes(scheme, 8, 8, n)
    there = box[:, 1] > 0
    assert there.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / n))
    assert (box[~there] == 0).all()
    assert (share(box[there], 8, 8) == 0.25).all()
    counts = np.unique(box[there] @ [10, 0, 1, 0], return_counts=True)[1]
    assert len(counts) == 25
    assert stats.chisquare(counts).pvalue > 0.001


def test_place_does_not_depend_on_the_sides():
    box = boxes(RandomErasing("r", "sample", p=1.0), 64, 32)
    h, w = box[:, 1] - box[:, 0], box[:, 3] - box[:, 2]
    assert (h < 64).all()
    assert (w < 32).all()
    # Where in the free room the box begins, spread over the pixel it falls into: uniform and unrelated to all else.
    rng = np.random.default_rng(0)
    down = (box[:, 0] + rng.random(MANY)) / (64 - h + 1)
    along = (box[:, 2] + rng.random(MANY)) / (32 - w + 1)
    for place in (down, along):
        assert stats.kstest(place, "uniform").pvalue > 0.001
    for a, b in itertools.combinations((down, along, h, w), 2):
        if a is not h:
            assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(MANY)


@pytest.mark.parametrize("value", [0.0, 2.0])
@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_promises(value, draws, dtype, shape):
    x = batch(shape).to(dtype)
    before = x.clone()
    for p in (0.0, 0.5, 1.0):
        scheme = RandomErasing("r", draws, p=p, value=value)
        found = scheme.apply(x, generator=generator(4))
        assert torch.equal(x, before), "the input was written to"
        assert (found.images.shape, found.images.dtype) == (x.shape, dtype)
        assert found.images.data_ptr() != x.data_ptr()
        assert torch.equal(scheme.replay(x, found.draw), found.images)
        box = found.draw.params["box"]
        assert len(box) == (shape[0] if draws == "sample" else 1)
        for i, (top, bottom, left, right) in enumerate(box.expand(len(x), 4).tolist()):
            expected = x[i].clone()
            expected[:, top:bottom, left:right] = value
            assert torch.equal(found.images[i], expected)
        if p == 0:
            assert torch.equal(found.images, x)
        if p == 1:
            assert (found.images == value).flatten(1).any(1).all()


def test_sample_draws_depend_on_the_id_alone():
    scheme, x, ids = RandomErasing("r", "sample", p=0.7), batch((13, 3, 32, 32)), torch.arange(13) * 7 + 100

    def views(rows: Tensor) -> Tensor:
        return scheme.apply(x[rows], sample_id=ids[rows], generator=generator(3)).images

    whole = views(torch.arange(13))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for rows in (order, torch.arange(5), torch.tensor([5]), torch.arange(6, 13)):
        assert torch.equal(views(rows), whole[rows])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"p": -1}, "probability of a hole lies in 0…1, not -1"),
        ({"scale": (0.1, 1.2)}, "scale is one number or two in order, from 0 to 1, not"),
        ({"scale": (0.3, 0.1)}, "two in order"),
        ({"ratio": (0, 3)}, "ratio is one number or two in order, from 0.001 on"),
        ({"ratio": "wide"}, "not wide"),
        ({"value": math.nan}, "finite number in normalised space, not nan"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(UsageError, match=message):
        RandomErasing("r", **wrong)


def test_rules_name_the_parameters():
    scheme = RandomErasing("r", "sample", p=0.4, scale=(0.1, 0.2), ratio=2, value=1.5)
    rules = scheme.rules()
    assert rules["probability"] == "0.4 of a hole, one draw per image"
    assert rules["draw"] == "share of the area uniform in 0.1…0.2, height / width 2"
    assert "log-uniform in 0.3…3.3" in RandomErasing("r").rules()["draw"]
    assert rules["fill"] == "1.5 in normalised space"
    assert "mean colour" in RandomErasing("r").rules()["fill"]
    assert (scheme.scale, scheme.ratio, scheme.value, scheme.p) == ((0.1, 0.2), (2, 2), 1.5, 0.4)
