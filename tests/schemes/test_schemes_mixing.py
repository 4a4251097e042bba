"""mixup, full and partial mixup: weights, pairings and shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import AugmentedBatch
from kdstats.schemes.mixing.mixup import beta_quantile

MANY = 40_000


def run(scheme: schemes.Scheme, n: int, key: int = 0, size: int = 2) -> tuple[torch.Tensor, AugmentedBatch]:
    x = torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(9))
    return x, scheme.apply(x, None, torch.arange(n) + 100, generator=generator(key))


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("name", ["mixup", "full_mixup", "partial_mixup(unmixed=0.5)"])
def test_views_are_the_weighted_sums_they_say(name, draws):
    for key in range(5):
        x, found = run(schemes.get(name, draws=draws), 9, key)
        lam = found.lam.view(-1, 1, 1, 1)
        expected = lam * x[found.index] + (1 - lam) * x[found.partner_index]
        assert torch.allclose(found.images, expected, atol=1e-6)
        still = found.lam == 1
        assert torch.equal(found.images[still], x[found.index[still]])


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


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_mixup_allows_fixed_points_as_published(draws):
    scheme = schemes.get("mixup", draws=draws)
    own = np.array(
        [
            int(
                (
                    scheme._draw(torch.zeros(8, 1, 1, 1), torch.arange(8), generator(k)).params["partner"]
                    == torch.arange(8)
                ).sum()
            )
            for k in range(3000)
        ]
    )
    # A uniform permutation has one fixed point on average, with variance one.
    assert own.mean() == pytest.approx(1, abs=4 / math.sqrt(3000))


def test_batch_draws_share_one_lambda():
    for name in ("mixup", "full_mixup", "cutmix"):
        _, found = run(schemes.get(name), 12, size=8)
        assert len(found.lam[found.lam < 1].unique()) == 1
        _, found = run(schemes.get(name, draws="sample"), 12, size=8)
        assert len(found.lam.unique()) > 6


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_full_mixup_is_two_independent_permutations(draws):
    scheme = schemes.get("full_mixup", draws=draws)
    met = np.zeros((6, 6))
    for key in range(3000):
        params = scheme._draw(torch.zeros(6, 1, 1, 1), torch.arange(6), generator(key)).params
        assert sorted(params["index"].tolist()) == sorted(params["partner"].tolist()) == list(range(6))
        met[params["index"], params["partner"]] += 1
    assert stats.chisquare(met.ravel()).pvalue > 1e-4  # self-pairing 1/B like any other pair


def test_full_mixup_lambda_belongs_to_the_image():
    scheme, ids = schemes.get("full_mixup", draws="sample"), torch.arange(30) * 7
    draw = scheme._draw(torch.zeros(30, 1, 1, 1), ids, generator(4)).params
    lam = dict(zip(ids[draw["index"]].tolist(), draw["lam"].tolist(), strict=True))
    part = scheme._draw(torch.zeros(10, 1, 1, 1), ids[:10], generator(4)).params
    assert {k: lam[k] for k in ids[:10].tolist()} == dict(
        zip(ids[:10][part["index"]].tolist(), part["lam"].tolist(), strict=True)
    )


def mixed_share(scheme: schemes.Scheme, n: int, times: int) -> np.ndarray:
    """Share of λ below 1, per batch."""
    return np.array(
        [
            float(
                (scheme._draw(torch.zeros(n, 1, 1, 1), torch.arange(n), generator(k)).params["lam"] < 1)
                .float()
                .mean()
            )
            for k in range(times)
        ]
    )


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(("unmixed", "published"), [(0.9, 0.408), (0.5, 0.604), (0.1, 0.910)])
def test_partial_mixup_shares(unmixed, published, draws):
    exact = mixed_share(schemes.get("partial_mixup", draws=draws, unmixed=unmixed), 64, 50)
    assert (exact == 1 - round(unmixed * 64) / 64).all()
    as_released = schemes.get("partial_mixup", draws=draws, unmixed=unmixed, sampling="with_replacement")
    share = mixed_share(as_released, 64, 600)
    expected = (1 - 1 / 64) ** int(64 * unmixed)
    assert expected == pytest.approx(published, abs=0.0005)
    assert share.mean() == pytest.approx(expected, abs=4 * share.std() / math.sqrt(600))
    assert share.std() > 0


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_partial_mixup_leaves_everyone_out_equally_often(draws):
    for sampling in ("exact", "with_replacement"):
        scheme = schemes.get("partial_mixup", draws=draws, unmixed=0.5, sampling=sampling)
        counts = np.zeros(8)
        for key in range(2000):
            draw = scheme._draw(torch.zeros(8, 1, 1, 1), torch.arange(8), generator(key)).params
            counts += torch.zeros(8).index_add(0, draw["index"], (draw["lam"] == 1).float()).numpy()
        spread = (counts / 2000 - counts.mean() / 2000) / math.sqrt(0.25 / 2000)
        assert np.abs(spread).max() < 4.5


def test_the_edges_of_partial_mixup():
    for unmixed in (0.0, 1.0):
        share = mixed_share(schemes.get("partial_mixup", unmixed=unmixed), 7, 5)
        assert (share == 1 - unmixed).all()
    rule = schemes.get("partial_mixup@mixkd").rules()["unmixed"]
    assert "40.8% at B = 64" in rule
    for wrong in ({"unmixed": 1.1}, {"unmixed": -0.1}, {"sampling": "exactly"}, {"alpha": 0}):
        with pytest.raises(UsageError):
            schemes.get("partial_mixup", **wrong)
