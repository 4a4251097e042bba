"""Box rules: published law and area, against a plain reading of each rule; tolerances are four standard errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats.schemes.boxes import BOXES, area, boxes, erase, inside, kept_share, paste

MANY = 40_000


def drawn(
    rule: str, size: tuple[int, int], n: int = MANY, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lam, u = rng.random(n), rng.random((n, 4))
    return lam, u, boxes(rule, torch.from_numpy(lam), torch.from_numpy(u), *size).numpy()


@pytest.mark.parametrize("size", [(32, 32), (9, 24), (1, 5)])
@pytest.mark.parametrize("rule", list(BOXES))
def test_boxes_lie_in_the_image(rule, size):
    _, _, box = drawn(rule, size, 4000)
    top, bottom, left, right = box.T
    assert (top >= 0).all()
    assert (top <= bottom).all()
    assert (bottom <= size[0]).all()
    assert (left >= 0).all()
    assert (left <= right).all()
    assert (right <= size[1]).all()


@pytest.mark.parametrize("size", [(32, 32), (9, 24)])
def test_rules_number_by_number(size):
    h, w = size
    lam, u, clipped = drawn("clipped", size, 300)
    half = drawn("clipped_half", size, 300)[2]
    inside = drawn("inside", size, 300)[2]
    for i in range(300):
        root = math.sqrt(1 - lam[i])
        cy, cx = int(u[i, 0] * h), int(u[i, 1] * w)
        for box, dy, dx in (
            (clipped[i], int(h * root) // 2, int(w * root) // 2),
            (half[i], int(h * (0.5 * root)), int(w * (0.5 * root))),
        ):
            expected = [max(cy - dy, 0), min(cy + dy, h), max(cx - dx, 0), min(cx + dx, w)]
            assert box.tolist() == expected
        top, bottom, left, right = inside[i]
        assert (bottom - top, right - left) == (int(h * root), int(w * root))


def test_inside_boxes_are_uniform_over_the_places():
    lam, _, box = drawn("inside", (8, 8))
    side = box[:, 1] - box[:, 0]
    for s in (1, 4, 7):
        tops = box[side == s, 0]
        assert stats.chisquare(np.bincount(tops, minlength=9 - s)).pvalue > 1e-4
        assert len(np.bincount(tops)) == 9 - s
    assert side.max() == 7
    assert (side == 0).mean() == pytest.approx(1 / 64, abs=4 / math.sqrt(64 * MANY))
    del lam


def test_corner_boxes_are_uniform_over_pairs_of_edges():
    _, _, box = drawn("corners", (4, 6))
    for column, size in ((0, 4), (2, 6)):
        pairs = list(itertools.combinations(range(size + 1), 2))
        counts = [int(((box[:, column] == a) & (box[:, column + 1] == b)).sum()) for a, b in pairs]
        assert sum(counts) == MANY  # two different edges, in order: never empty
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(("size", "mean"), [(32, 0.299), (64, 0.310), (224, 0.318)])
def test_mean_area_of_the_published_rule(size, mean):
    _, _, box = drawn("clipped", (size, size))
    found = area(torch.from_numpy(box)).numpy() / size**2
    assert found.mean() == pytest.approx(mean, abs=4 * found.std() / math.sqrt(MANY) + 0.0005)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pasting_and_erasing_pixel_by_pixel(dtype):
    g = torch.Generator().manual_seed(0)
    images, other = (torch.randn(5, 2, 6, 7, generator=g).to(dtype) for _ in range(2))
    before = images.clone()
    box = torch.tensor([[0, 6, 0, 7], [2, 2, 0, 7], [1, 3, 2, 6], [5, 6, 6, 7], [0, 1, 0, 1]])
    mask = torch.zeros(5, 1, 6, 7, dtype=torch.bool)
    for i, (top, bottom, left, right) in enumerate(box.tolist()):
        mask[i, :, top:bottom, left:right] = True
    assert torch.equal(inside(box, images), mask.to(dtype))
    assert torch.equal(paste(images, other, box), torch.where(mask, other, images))
    assert torch.equal(erase(images, box), images.masked_fill(mask, 0))
    for i in range(5):
        assert torch.equal(erase(images, box[i : i + 1])[i], erase(images, box)[i])
    assert torch.equal(area(box), mask[:, 0].sum((1, 2)))
    assert torch.allclose(kept_share(box, 6, 7), 1 - mask.float().mean((1, 2, 3)))
    assert torch.equal(images, before)
