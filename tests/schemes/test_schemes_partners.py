"""Pairings: uniform over what the rule allows, functions of the ids where they should be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from kdstats.errors import UsageError
from kdstats.schemes.mixing.partners import (
    batch_partners,
    check_rule,
    cycle,
    derangement,
    matched,
    sample_partners,
)


def test_derangements_are_uniform_and_have_no_fixed_point():
    gen = torch.Generator().manual_seed(3)
    orders = [p for p in itertools.permutations(range(4)) if all(i != x for i, x in enumerate(p))]
    assert len(orders) == 9
    counts = dict.fromkeys(orders, 0)
    for _ in range(4500):
        counts[tuple(derangement(4, gen).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.timeout(10)
@pytest.mark.parametrize("n", [0, 1])
def test_a_derangement_of_one_says_so_instead_of_looking_for_ever(n):
    with pytest.raises(UsageError, match=f"a permutation of {n} image"):
        derangement(n, torch.Generator())


def test_cycles_are_uniform_over_the_others():
    gen = torch.Generator().manual_seed(4)
    counts = np.zeros((5, 5))
    for _ in range(4000):
        partner = cycle(torch.rand(5, generator=gen))
        assert sorted(partner.tolist()) == list(range(5))
        counts[torch.arange(5), partner] += 1
    assert np.diag(counts).sum() == 0
    assert stats.chisquare(counts[~np.eye(5, dtype=bool)]).pvalue > 0.001
    assert cycle(torch.rand(1)).tolist() == [0]
    assert cycle(torch.tensor([0.3, 0.1, 0.2])).tolist() == [1, 2, 0]


def test_matched_ranks_are_uniform_permutations_and_belong_to_the_ids():
    gen = torch.Generator().manual_seed(5)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(7200):
        u = torch.rand(4, 2, generator=gen)
        counts[tuple(matched(u[:, 0], u[:, 1]).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.001
    u, order = torch.rand(9, 2, generator=gen), torch.randperm(9, generator=gen)
    whole, turned = matched(u[:, 0], u[:, 1]), matched(u[order, 0], u[order, 1])
    assert torch.equal(order[turned], whole[order])
    assert matched(torch.tensor([0.1, 0.2]), torch.tensor([0.9, 0.3])).tolist() == [1, 0]


def test_rules_by_position():
    gen = torch.Generator()
    assert batch_partners("reverse", 5, gen).tolist() == [4, 3, 2, 1, 0]
    assert batch_partners("roll", 4, gen).tolist() == [3, 0, 1, 2]
    assert sorted(batch_partners("permutation", 6, gen).tolist()) == list(range(6))
    u = torch.rand(6, 2, generator=gen)
    assert torch.equal(sample_partners("derangement", u[:, 0], u[:, 1]), cycle(u[:, 0]))
    assert torch.equal(sample_partners("permutation", u[:, 0], u[:, 1]), matched(u[:, 0], u[:, 1]))


def test_what_is_refused():
    with pytest.raises(UsageError, match="partner rule.*derangement"):
        check_rule("cutmix", "dearangement", "batch")
    for rule in ("reverse", "roll"):
        check_rule("cutmix", rule, "batch")
        with pytest.raises(UsageError, match=f"partner={rule} pairs by position"):
            check_rule("cutmix", rule, "sample")
