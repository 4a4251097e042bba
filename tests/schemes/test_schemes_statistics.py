"""Laws of cutout and of the geometric draws; tolerances are four standard errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats import schemes
from kdstats.draws.keys import generator

MANY = 40_000


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 16), (224, 56)])
def test_cutout_area(size, side):
    hollow = torch.zeros(1, 1, size, size).expand(MANY, 1, size, size)
    scheme = schemes.get("cutout", draws="sample")
    box = scheme._draw(hollow, torch.arange(MANY), generator(0, "cutout", size)).params["box"].numpy()
    found = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / size**2
    # Mean side after clipping: an even side s around a uniform centre loses s²/4 of s·size in expectation.
    expected = ((side * size - side**2 / 4) / size**2) ** 2
    assert expected == pytest.approx(0.0549, abs=0.0001)
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(MANY))
    assert found.max() == 0.0625
    assert (box[:, 1] - box[:, 0]).max() == side


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_flips_and_offsets_are_uniform(draws):
    scheme, x = schemes.get("crop_flip", draws=draws), torch.zeros(1, 1, 32, 32)
    gen = generator(5)
    found = [scheme._draw(x, torch.tensor([i]), gen).params for i in range(4000)]
    top, left = ([int(p[key]) for p in found] for key in ("top", "left"))
    flipped = [bool(p["flipped"]) for p in found]
    for offsets in (top, left):
        assert sorted(set(offsets)) == list(range(9))
        assert stats.chisquare(np.bincount(offsets, minlength=9)).pvalue > 0.001
    assert np.mean(flipped) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))
    for a, b in itertools.combinations((top, left, flipped), 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(4000)
