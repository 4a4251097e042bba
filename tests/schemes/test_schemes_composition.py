"""Compositions and probabilities of acting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes.checks import _network
from kdstats.schemes.combined.composition import Composition

DRAWS = ("batch", "sample")


def images(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("draws", DRAWS)
def test_parts_act_in_written_order(draws):
    x = images()
    both = schemes.get("crop_flip+cutout", draws=draws).apply(x, generator=generator(1))
    gen = generator(1)
    first = schemes.get("crop_flip", draws=draws).apply(x, generator=gen)
    second = schemes.get("cutout", draws=draws).apply(first.images, generator=gen)
    assert torch.equal(both.images, second.images)
    other = schemes.get("cutout+crop_flip", draws=draws).apply(x, generator=generator(1))
    assert not torch.equal(other.images, both.images)


@pytest.mark.parametrize("draws", DRAWS)
def test_a_mixing_part_at_the_end_mixes_the_changed_images(draws):
    x = images()
    found = schemes.get("flip(p=1)+cutmix", draws=draws).apply(x, torch.arange(7), generator=generator(2))
    flipped, lam = x.flip(3), found.lam
    for i in range(7):
        own = (found.images[i] == flipped[found.index[i]]).all(0)
        other = (found.images[i] == flipped[found.partner_index[i]]).all(0)
        assert bool((own | other).all())
        assert float(own.float().mean()) == pytest.approx(float(lam[i]), abs=1e-6)


def test_pairings_run_through_all_parts():
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 16, 16).contiguous()
    found = schemes.get("same+mixup").apply(x, generator=generator(0))
    assert found.index.tolist() == [0] * 5
    assert found.partner_index.tolist() == [0] * 5
    assert torch.allclose(found.images, torch.zeros_like(x))


@pytest.mark.parametrize("draws", DRAWS)
def test_picking_at_the_end_looks_at_the_views_so_far(draws):
    x, seen = images(), []

    def teacher(pool: torch.Tensor) -> torch.Tensor:
        seen.append(pool)
        return _network(1)(pool)

    scheme = schemes.get("flip(p=1)+pick(cutmix)", draws=draws)
    found = scheme.apply(x, generator=generator(3), teacher=teacher)
    assert len(seen) == 1
    for view in found.images:
        assert any(torch.equal(view, candidate) for candidate in seen[0])
    assert torch.equal(scheme.replay(x, found.draw), found.images)
    assert scheme.needs == {"teacher"}


def test_compositions_of_unlike_draws_are_refused():
    with pytest.raises(UsageError, match="draws per sample"):
        Composition("x", [schemes.get("flip"), schemes.get("cutout", draws="sample")])


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_acting_with_probability(draws, p):
    scheme = schemes.get("cutout", p=p, draws=draws)
    x, base = torch.ones(8, 1, 16, 16), schemes.get("cutout", draws=draws)
    acted = []
    for key in range(500):
        found = scheme.apply(x, generator=generator(key))
        on = found.draw.params["acts"].expand(8)
        full = base.apply(x, generator=generator(key))  # what it does where it acts is what the scheme does
        assert torch.equal(found.images, torch.where(on.view(-1, 1, 1, 1), full.images, x))
        acted.append(on.float().mean().item())
    n = 500 * (8 if draws == "sample" else 1)
    assert np.mean(acted) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


def test_where_a_mixing_scheme_does_not_act_there_is_no_partner():
    found = schemes.get("mixup(p=0.5)", draws="sample").apply(images(40), generator=generator(5))
    on = found.draw.params["acts"]
    assert 5 < int(on.sum()) < 35
    assert (found.lam[~on] == 1).all()
    assert torch.equal(found.partner_id[~on], found.sample_id[~on])
    assert torch.equal(found.images[~on], images(40)[~on])
