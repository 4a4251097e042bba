"""Laws of the draws, against the numbers of the published code; tolerances are four standard errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats import schemes
from kdstats.schemes.keys import generator
from kdstats.schemes.mixing import beta_quantile, cycle, derangement

MANY = 40_000


def boxes(name: str, size: int) -> np.ndarray:
    """``[MANY, 4]`` boxes from per-sample draws of one big batch; the images are never touched."""
    scheme = schemes.get(name, draws="sample")
    hollow = torch.zeros(1, 1, size, size).expand(MANY, 1, size, size)
    return scheme._draw(hollow, torch.arange(MANY), generator(0, name, size)).params["box"].numpy()


def area(box: np.ndarray, size: int) -> np.ndarray:
    return (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / size**2


@pytest.mark.parametrize(
    ("size", "mean", "sd", "empty"),
    [(32, 0.299, 0.183, 0.0037), (64, 0.310, 0.186, 0.0010), (224, 0.318, 0.188, 0.0001)],
)
def test_cutmix_area(size, mean, sd, empty):
    found = area(boxes("cutmix", size), size)
    se = found.std() / math.sqrt(MANY)
    assert found.mean() == pytest.approx(mean, abs=4 * se + 0.0005)
    assert found.std() == pytest.approx(sd, abs=4 * sd / math.sqrt(2 * MANY) + 0.0005)
    assert (found == 0).mean() == pytest.approx(empty, abs=4 * math.sqrt(empty / MANY) + 0.00005)


def test_cutmix_quantiles_at_32():
    found = np.quantile(area(boxes("cutmix", 32), 32), [0.1, 0.5, 0.9])
    assert found == pytest.approx([0.0625, 0.281, 0.559], abs=0.008)


def test_cutmix_batch_draws_have_the_same_law():
    scheme, x = schemes.get("cutmix"), torch.zeros(2, 1, 32, 32)
    gen = generator(1)
    found = np.array([1 - float(scheme._draw(x, torch.arange(2), gen).params["lam"]) for _ in range(4000)])
    assert found.mean() == pytest.approx(0.299, abs=4 * 0.183 / math.sqrt(4000))
    assert found.std() == pytest.approx(0.183, abs=0.01)


def test_cutmix_box_is_the_published_rand_bbox():
    """``rand_bbox`` of the released code, number by number: the box is a function of (λ, centre)."""
    box = boxes("cutmix", 32)
    scheme = schemes.get("cutmix", draws="sample")
    hollow = torch.zeros(1, 1, 32, 32).expand(200, 1, 32, 32)
    draw = scheme._draw(hollow, torch.arange(200), generator(0, "cutmix", 32))
    from kdstats.schemes.keys import uniforms

    u = uniforms("sample", torch.arange(200), 4, generator(0, "cutmix", 32)).numpy()
    for i in range(200):
        lam = u[i, 0]
        cut = int(32 * np.sqrt(1 - lam))
        cy, cx = int(u[i, 1] * 32), int(u[i, 2] * 32)
        top, bottom = np.clip(cy - cut // 2, 0, 32), np.clip(cy + cut // 2, 0, 32)
        left, right = np.clip(cx - cut // 2, 0, 32), np.clip(cx + cut // 2, 0, 32)
        assert box[i].tolist() == [top, bottom, left, right]
        assert float(draw.params["lam"][i]) == pytest.approx(1 - (bottom - top) * (right - left) / 1024)


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 16), (224, 56)])
def test_cutout_area(size, side):
    box = boxes("cutout", size)
    found = area(box, size)
    # Mean side after clipping: an even side s around a uniform centre loses s²/4 of s·size in expectation.
    expected = ((side * size - side**2 / 4) / size**2) ** 2
    assert expected == pytest.approx(0.0549, abs=0.0001)
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(MANY))
    assert found.max() == 0.0625
    assert (box[:, 1] - box[:, 0]).max() == side


def test_mixup_lambda_is_uniform_and_beta_for_other_alphas():
    def lam(alpha: float) -> np.ndarray:
        scheme = schemes.get("mixup", draws="sample", alpha=alpha)
        return (
            scheme._draw(torch.zeros(MANY, 1, 1, 1), torch.arange(MANY), generator(2)).params["lam"].numpy()
        )

    assert stats.kstest(lam(1.0), "uniform").pvalue > 0.001
    for alpha in (0.5, 2.0):
        assert stats.kstest(lam(alpha), stats.beta(alpha, alpha).cdf).pvalue > 0.001
    u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    np.testing.assert_allclose(beta_quantile(u, 0.4), stats.beta(0.4, 0.4).ppf(u), rtol=1e-8)


def test_derangements_are_uniform_and_have_no_fixed_point():
    gen = generator(3)
    orders = [p for p in itertools.permutations(range(4)) if all(i != x for i, x in enumerate(p))]
    assert len(orders) == 9
    counts = dict.fromkeys(orders, 0)
    for _ in range(4500):
        counts[tuple(derangement(4, gen).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_partners_of_sample_draws_are_uniform_over_the_others():
    gen = generator(4)
    counts = np.zeros((5, 5))
    for _ in range(4000):
        partner = cycle(torch.rand(5, generator=gen))
        assert sorted(partner.tolist()) == list(range(5))
        counts[torch.arange(5), partner] += 1
    assert np.diag(counts).sum() == 0
    assert stats.chisquare(counts[~np.eye(5, dtype=bool)]).pvalue > 0.001
    assert cycle(torch.rand(1)).tolist() == [0]
    assert cycle(torch.tensor([0.3, 0.1, 0.2])).tolist() == [1, 2, 0]


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
