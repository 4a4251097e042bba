from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import Targets


def batch(name: str, n: int = 6) -> schemes.AugmentedBatch:
    return schemes.get(name).apply(torch.randn(n, 1, 16, 16), torch.arange(n) % 3, generator=generator(4))


def test_interpolated_logits_and_labels():
    found, logits, labels = batch("cutmix"), torch.randn(6, 5), torch.arange(6) % 3
    lam = found.lam[:, None]
    expected = lam * logits + (1 - lam) * logits[found.partner_index]
    assert torch.allclose(Targets("interpolated").logits(found, logits), expected)
    mixed = Targets("labels").labels(found, labels, 5)
    assert mixed.shape == (6, 5)
    assert torch.allclose(mixed.sum(1), torch.ones(6))
    onehot = F.one_hot(labels, 5).float()
    assert torch.allclose(mixed, lam * onehot + (1 - lam) * onehot[found.partner_index])


def test_where_nothing_is_mixed_they_are_the_originals():
    for name in ("flip", "cutout", "identity"):
        found, logits = batch(name), torch.randn(6, 5)
        assert torch.equal(Targets("interpolated").logits(found, logits), logits)
        assert torch.equal(
            Targets("labels").labels(found, torch.arange(6) % 3, 3).argmax(1), torch.arange(6) % 3
        )
    same, logits = batch("same"), torch.randn(6, 5)
    assert torch.equal(Targets("interpolated").logits(same, logits), logits[:1].expand(6, 5))


def test_states_and_what_is_refused():
    targets = Targets("labels")
    assert targets.state_dict() == {}
    targets.labels(batch("cutmix"), torch.arange(6) % 3, 3)
    state = targets.state_dict()
    other = Targets("labels")
    other.load_state_dict(state)
    assert torch.equal(other.state_dict()["before"], state["before"])
    targets.reset()
    assert targets.state_dict() == {}
    with pytest.raises(UsageError, match="kind of targets.*'teacher'"):
        Targets("techer")
    with pytest.raises(UsageError, match="mixes nothing"):
        Targets("teacher").logits(batch("cutmix"), torch.zeros(6, 2))
