from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError


def drawn(
    size: int, n: int, draws: str = "sample", key: int = 0, **params: object
) -> dict[str, torch.Tensor]:
    scheme = schemes.get("patchmix", draws=draws, **params)
    hollow = torch.zeros(1, 1, size, size).expand(n, 1, size, size)
    return dict(scheme._draw(hollow, torch.arange(n), generator(key)).params)


def test_number_of_patches_is_uniform_and_never_all():
    """``int(s · 64)`` with s uniform: 0 … 63 equally often, a mean replaced share of 63/128."""
    count = drawn(32, 20_000)["replaced"].sum((1, 2)).numpy()
    assert stats.chisquare(np.bincount(count, minlength=64)).pvalue > 1e-4
    assert count.max() == 63
    assert count.mean() / 64 == pytest.approx(63 / 128, abs=4 * math.sqrt(1 / 12 / 20_000))


def test_patches_are_equally_likely_and_sets_exchangeable():
    replaced = drawn(8, 20_000)["replaced"].float()
    share = replaced.mean(0).numpy()
    assert np.abs(share - share.mean()).max() < 4.5 * math.sqrt(0.25 / 20_000)
    two = replaced[replaced.sum((1, 2)) == 2].flatten(1)
    pairs = (two.T @ two).numpy()[np.triu_indices(4, 1)]
    assert stats.chisquare(pairs).pvalue > 1e-4


@pytest.mark.parametrize("size", [8, 10, 32, 33])
@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_whole_patches_come_from_the_partner(size, draws):
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, size, size).contiguous()
    found = schemes.get("patchmix", draws=draws).apply(x, generator=generator(5))
    own = (found.images == x).all(1)
    for i in range(6):
        for top in range(0, size, 4):
            for left in range(0, size, 4):
                patch = own[i, top : top + 4, left : left + 4]
                assert patch.all() or not patch.any()
    assert torch.allclose(found.lam, own.float().mean((1, 2)))
    assert ((found.partner_index != torch.arange(6)) | (found.lam == 1)).all()


def test_other_patch_sizes_and_what_is_refused():
    assert drawn(32, 3, patch=16)["replaced"].shape == (3, 2, 2)
    assert drawn(32, 3, draws="batch")["replaced"].shape == (1, 8, 8)
    with pytest.raises(UsageError, match="side of a patch"):
        schemes.get("patchmix", patch=0)
