"""Masking: which pixels, how many cells, and that every set of cells is equally likely."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes.erasing.masking import Masking

SHAPES = [(1, 3, 8, 8), (7, 3, 32, 32), (5, 1, 9, 14), (3, 3, 30, 31), (2, 3, 224, 224)]


def batch(shape: tuple[int, ...]) -> Tensor:
    """No value is 0: what was masked can be told from what was not."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.9 + 0.05
    return x * torch.tensor([1.0, -1.0]).repeat(shape[3])[: shape[3]]


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("grid", "ratio"), [(4, 0.5), (3, 0.5), (7, 0.29), (8, 1.0), (2, 0.0), (1, 0.9)])
@pytest.mark.parametrize("shape", SHAPES)
def test_pixel_by_pixel(draws, dtype, grid, ratio, shape):
    x, scheme = batch(shape).to(dtype), Masking("masking", draws, grid=grid, ratio=ratio)
    before = x.clone()
    found = scheme.apply(x, generator=generator(2))
    hidden = found.draw.params["hidden"]
    assert hidden.shape == (shape[0] if draws == "sample" else 1, grid**2)
    assert (hidden.sum(1) == int(ratio * grid * grid)).all()
    assert torch.equal(x, before), "the input was written to"
    assert (found.images.shape, found.images.dtype) == (x.shape, dtype)
    assert found.images.data_ptr() != x.data_ptr()
    assert torch.equal(scheme.replay(x, found.draw), found.images)
    height, width = shape[2:]
    rows = np.array([math.floor(r * grid / height) for r in range(height)])
    columns = np.array([math.floor(c * grid / width) for c in range(width)])
    assert set(rows) == set(columns) == set(range(grid))
    for i in range(shape[0]):
        cells = hidden[i if draws == "sample" else 0].view(grid, grid).numpy()
        expected = np.where(cells[np.ix_(rows, columns)], 0, x[i].float().numpy())
        assert np.array_equal(found.images[i].float().numpy(), expected)
        if not int(ratio * grid * grid):
            assert torch.equal(found.images[i], x[i])


def test_the_default_is_half_of_sixteen_cells():
    scheme = Masking("masking")
    assert (scheme.grid, scheme.ratio, scheme.masked) == (4, 0.5, 8)
    found = scheme.apply(batch((3, 3, 32, 32)), generator=generator(0)).images
    assert ((found == 0).flatten(1).float().mean(1) == 0.5).all()
    assert torch.equal(found[0] == 0, found[1] == 0), "one mask for the batch"


@pytest.mark.parametrize(("draws", "n"), [("batch", 4000), ("sample", 40_000)])
@pytest.mark.parametrize(("grid", "ratio"), [(2, 0.5), (3, 0.34), (2, 0.75)])
def test_every_set_of_cells_is_equally_likely(draws, n, grid, ratio):
    scheme, hollow, gen = Masking("m", draws, grid=grid, ratio=ratio), torch.zeros(1, 1, 8, 8), generator(9)
    if draws == "sample":
        hidden = scheme._draw(hollow.expand(n, -1, -1, -1), torch.arange(n), gen).params["hidden"]
    else:
        each = [scheme._draw(hollow, torch.arange(1), gen).params["hidden"] for _ in range(n)]
        hidden = torch.cat(each)
    sets = dict.fromkeys(itertools.combinations(range(grid**2), int(ratio * grid**2)), 0)
    assert 1 < len(sets) < n / 20
    for row in hidden:
        sets[tuple(row.nonzero()[:, 0].tolist())] += 1
    assert stats.chisquare(list(sets.values())).pvalue > 0.001


def test_cells_of_the_default_are_masked_half_the_time():
    n = 40_000
    hollow = torch.zeros(1, 1, 8, 8).expand(n, -1, -1, -1)
    hidden = Masking("m", "sample")._draw(hollow, torch.arange(n), generator(1)).params["hidden"].double()
    error = 4 * 0.5 / math.sqrt(n)
    assert hidden.mean(0) == pytest.approx(np.full(16, 0.5), abs=error)
    # Drawn without replacement: two cells exclude each other with correlation −1/15. Five standard errors,
    # because this is the largest of 120 deviations.
    together = np.corrcoef(hidden.numpy().T)[~np.eye(16, dtype=bool)]
    assert abs(together + 1 / 15).max() < 5 / math.sqrt(n)


def test_sample_draws_depend_on_the_id_alone():
    scheme, x, ids = Masking("m", "sample"), batch((13, 3, 30, 32)), torch.arange(13) * 7 + 100

    def views(rows: Tensor) -> Tensor:
        return scheme.apply(x[rows], sample_id=ids[rows], generator=generator(3)).images

    whole = views(torch.arange(13))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(3))
    for rows in (order, torch.arange(5), torch.tensor([5]), torch.arange(6, 13)):
        assert torch.equal(views(rows), whole[rows])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": 0}, "number of cells per side from 1 on, not 0"),
        ({"grid": 2.5}, "number of cells per side from 1 on, not 2.5"),
        ({"ratio": 1.5}, "share of cells to mask lies in 0…1, not 1.5"),
        ({"ratio": math.nan}, "share of cells to mask"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(UsageError, match=message):
        Masking("m", **wrong)


@pytest.mark.parametrize("size", [(8, 12), (12, 8)])
def test_images_smaller_than_the_grid(size):
    scheme = Masking("m", grid=9)
    with pytest.raises(UsageError, match=f"at least 9 pixels either way, not {size[0]}x{size[1]}"):
        scheme.apply(torch.rand(2, 3, *size), generator=generator(0))
    assert scheme.apply(batch((2, 3, 9, 9)), generator=generator(0)).images.eq(0).sum() == 2 * 3 * 40


def test_rules_name_the_parameters():
    rules = Masking("m", "sample", grid=5, ratio=0.3).rules()
    assert rules["draw"] == "7 of 25 cells, every such set equally likely, one per image"
    assert "grid of 5x5" in rules["box"]
    assert "mean colour" in rules["fill"]
