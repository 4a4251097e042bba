from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes.combined.picking import Pick, entropy


def teacher(x: Tensor) -> Tensor:
    weight = torch.randn(x[0].numel(), 5, generator=torch.Generator().manual_seed(1))
    return x.flatten(1) @ weight / 8


def student(x: Tensor) -> Tensor:
    weight = torch.randn(x[0].numel(), 5, generator=torch.Generator().manual_seed(2))
    return x.flatten(1) @ weight / 8


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def score(criterion: str, pool: Tensor, x: Tensor) -> np.ndarray:
    t, s = teacher(pool).double().numpy(), student(pool).double().numpy()
    if criterion in ("teacher", "student"):
        p = softmax(t if criterion == "teacher" else s)
        return -(p * np.log(p)).sum(1)
    if criterion == "kl":
        p, q = softmax(t / 4), softmax(s / 4)
        return (p * (np.log(p) - np.log(q))).sum(1)
    p, base = softmax(t), softmax(teacher(x).double().numpy())
    return np.array([min(((a - b) ** 2).sum() for b in base) for a in p])


@pytest.mark.parametrize("runs", [2, 3])
@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("criterion", ["teacher", "student", "kl", "dissimilarity"])
def test_the_highest_scores_are_kept_in_ascending_order(criterion, draws, runs):
    scheme = schemes.get(f"cutmix_pick_{criterion}", draws=draws, runs=runs)
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = scheme.apply(x, generator=generator(1), teacher=teacher, student=student)
    base = schemes.get("cutmix", draws=draws)
    gen = generator(1)
    parts = [base.apply(x, generator=gen) for _ in range(runs)]
    pool = torch.cat([part.images for part in parts])
    scores = score(criterion, pool, x)
    expected = np.argsort(scores, kind="stable")[-8:]
    assert found.draw.params["picked"].tolist() == expected.tolist()
    assert torch.equal(found.images, pool[expected.copy()])
    assert torch.equal(found.index, torch.cat([p.index for p in parts])[expected.copy()])
    assert torch.equal(found.partner_index, torch.cat([p.partner_index for p in parts])[expected.copy()])
    assert torch.equal(found.lam, torch.cat([p.lam for p in parts])[expected.copy()])
    assert scores[expected].min() >= np.delete(scores, expected).max()


def test_ties_are_broken_by_position():
    x = torch.randn(4, 1, 8, 8)

    def flat(images: Tensor) -> Tensor:
        return torch.zeros(len(images), 3)

    found = schemes.get("cutmix_pick_teacher").apply(x, generator=generator(0), teacher=flat)
    assert found.draw.params["picked"].tolist() == [4, 5, 6, 7]

    def half(images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 3)
        logits[::2, 0] = 5.0  # even positions are certain, odd ones not
        return logits

    found = schemes.get("cutmix_pick_teacher", runs=3).apply(x, generator=generator(0), teacher=half)
    assert found.draw.params["picked"].tolist() == [5, 7, 9, 11]


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, math.log(3.0), -1e4, -1e4], [1e4, 0.0, 0.0, 0.0]])
    expected = [math.log(4), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), 0.0]
    assert entropy(logits).tolist() == pytest.approx(expected, abs=1e-6)
    assert entropy(logits.bfloat16()).dtype == torch.float32


def test_scoring_keeps_no_gradient():
    x = torch.randn(4, 1, 8, 8)
    weight = torch.randn(64, 3, requires_grad=True)
    seen = []

    def scorer(images: Tensor) -> Tensor:
        out = images.flatten(1) @ weight
        seen.append(out.requires_grad)
        return out

    schemes.get("cutmix_pick_teacher").apply(x, generator=generator(0), teacher=scorer)
    assert seen == [False]


def test_what_is_refused():
    with pytest.raises(UsageError, match="at least 2 runs"):
        schemes.get("cutmix_pick_teacher", runs=1)
    with pytest.raises(UsageError, match="picking criterion.*teacher"):
        Pick("p", schemes.get("cutmix"), criterion="techer")
    with pytest.raises(UsageError, match="decides by looking"):
        schemes.get("cutmix_pick_teacher")._draw(torch.zeros(2, 1, 8, 8), torch.arange(2), generator(0))


@pytest.mark.parametrize("n_pick", [1, 5, 8, 12, 16, 64])
def test_another_number_of_views_is_kept(n_pick):
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = schemes.get("cutmix_pick_teacher(n_pick=16)").apply(x, generator=generator(1), teacher=teacher)
    found = schemes.get("cutmix_pick_teacher", n_pick=n_pick).apply(
        x, generator=generator(1), teacher=teacher
    )
    kept = min(n_pick, 16)  # a pool smaller than n_pick is kept whole
    assert len(found.images) == len(found.lam) == len(found.sample_id) == kept
    assert torch.equal(found.images, whole.images[-kept:])


@pytest.mark.parametrize("criterion", ["teacher", "student", "kl", "dissimilarity"])
@pytest.mark.parametrize("base", ["flip", "autoaugment", "mixup", "crop_flip+cutmix"])
def test_any_base_is_picked_from_by_any_criterion(base, criterion):
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    scheme = schemes.get(f"pick({base},criterion={criterion},runs=3)", draws="sample")
    found = scheme.apply(x, generator=generator(2), teacher=teacher, student=student)
    gen = generator(2)
    pool = torch.cat([schemes.get(base, draws="sample").apply(x, generator=gen).images for _ in range(3)])
    expected = np.argsort(score(criterion, pool, x), kind="stable")[-6:]
    assert torch.equal(found.images, pool[expected.copy()])
