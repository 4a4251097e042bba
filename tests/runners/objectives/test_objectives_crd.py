"""CRD against its definition in float64: loss, bank update, who is drawn, exact resume."""

import io

import numpy as np
import pytest
import torch
from objective_makers import f64, logits, rng

from kdstats.errors import CheckError, UsageError
from runners import objectives

N, B, K, TAU, MOMENTUM, DIM = 30, 6, 10, 0.2, 0.3, 4
LABELS = torch.arange(N) % 3
SHAPES = [(7,)], [(5,)]


def built(k=K, labels=LABELS, seed=0, **more):
    objective = objectives.get("crd", nce_k=k, temperature=TAU, momentum=MOMENTUM, dim=DIM)
    return objective.build(*SHAPES, classes=3, generator=rng(seed), train_labels=labels, **more)


def step(objective, seed, ids):
    gen = rng(seed)
    s = torch.randn(len(ids), 7, generator=gen).requires_grad_()
    t = torch.randn(len(ids), 5, generator=gen)
    ids = torch.as_tensor(ids)
    found = objective.evaluate(
        logits(0, len(ids), 3), student_features=[s], teacher_features=[t], sample_id=ids
    )
    return found, s, t


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def oracle(embedding, bank, columns, z):
    """Losses of the images with one anchor, and Z; ``bank`` before its update."""
    p = np.exp(
        np.array([[e @ bank[j] for j in row] for e, row in zip(embedding, columns, strict=True)]) / TAU
    )
    z = p.mean() * N if z is None else z
    p, noise = p / z, K / N
    loss = -np.log(p[:, 0] / (p[:, 0] + noise))
    for k in range(1, K + 1):
        loss -= np.log(noise / (p[:, k] + noise))
    return loss, z


def test_loss_and_banks_over_three_steps(monkeypatch):
    objective = built()
    seen = []
    draw = objective.draw
    monkeypatch.setattr(objective, "draw", lambda rows: seen.append(draw(rows)) or seen[-1])
    banks = [f64(b.vectors).copy() for b in (objective.student_bank, objective.teacher_bank)]
    assert all(np.abs(b).max() <= 1 / np.sqrt(DIM / 3) for b in banks)
    w_s, b_s, w_t, b_t = (f64(p) for p in objective.parameters())
    z_s = z_t = None
    for i, ids in enumerate(([3, 7, 11, 20, 29, 0], [3, 8, 12, 21, 28, 1], [0, 29, 5, 6, 7, 8])):
        found, s, t = step(objective, i, ids)
        e_s, e_t = unit(f64(s) @ w_s.T + b_s), unit(f64(t) @ w_t.T + b_t)
        columns = np.concatenate([np.array(ids)[:, None], seen[-1]], axis=1)
        loss_s, z_s = oracle(e_s, banks[1], columns, z_s)
        loss_t, z_t = oracle(e_t, banks[0], columns, z_t)
        np.testing.assert_allclose(f64(found.per_image), loss_s + loss_t, rtol=1e-4)
        assert float(found.parts["student"]) == pytest.approx(loss_s.mean(), rel=1e-4)
        for bank, e, ours in zip(
            banks, (e_s, e_t), (objective.student_bank, objective.teacher_bank), strict=True
        ):
            bank[ids] = unit(MOMENTUM * bank[ids] + (1 - MOMENTUM) * e)
            np.testing.assert_allclose(f64(ours.vectors), bank, atol=1e-5)


def test_gradient_is_that_of_the_banks_before_the_update():
    """A finite difference of the loss with frozen banks and the same draws."""
    first, second, third = built(), built(), built()
    found, s, t = step(first, 1, [0, 1, 2, 3, 4, 5])
    found.loss.backward()
    direction = torch.randn(6, 7, generator=rng(9))
    values = []
    for objective, sign in ((second, 1), (third, -1)):
        moved = s.detach() + sign * 1e-2 * direction
        z = first.teacher_bank.z
        objective.teacher_bank.z, objective.student_bank.z = z.clone(), first.student_bank.z.clone()
        loss = objective(
            logits(0, 6, 3), student_features=[moved], teacher_features=[t], sample_id=torch.arange(6)
        )
        values.append(float(loss.detach()))
    slope = (values[0] - values[1]) / 2e-2
    assert float((s.grad * direction).sum()) == pytest.approx(slope, rel=2e-2)


def test_an_image_that_is_there_twice_gives_its_mean():
    objective = built()
    bank = f64(objective.student_bank.vectors).copy()
    _, s, _ = step(objective, 0, [4, 9, 4])
    w, b, *_ = (f64(p) for p in objective.parameters())
    e = unit(f64(s) @ w.T + b)
    expected = unit(MOMENTUM * bank[4] + (1 - MOMENTUM) * (e[0] + e[2]) / 2)
    np.testing.assert_allclose(f64(objective.student_bank.vectors)[4], expected, atol=1e-6)


def test_in_evaluation_mode_banks_stay():
    objective = built().eval()
    before = {k: v.clone() for k, v in objective.named_buffers()}
    step(objective, 0, [0, 1, 2])
    assert all(torch.equal(before[k], v) for k, v in objective.named_buffers())


def test_negatives_are_of_other_classes_each_once_and_uniform():
    labels = torch.tensor([0] * 12 + [1] * 8 + [2] * 10)[torch.randperm(N, generator=rng(5))]
    objective = built(k=15, labels=labels)
    rows = np.arange(N)
    counts = np.zeros((N, N))
    for _ in range(400):
        drawn = objective.draw(rows)
        assert all(len(set(row)) == 15 for row in drawn)
        np.add.at(counts, (np.repeat(rows, 15), drawn.ravel()), 1)
    other = labels.numpy()[:, None] != labels.numpy()
    assert (counts[~other] == 0).all()  # so never the image itself
    share = counts / 400
    for row in rows:
        p = 15 / other[row].sum()
        assert np.abs(share[row, other[row]] - p).max() < 5 * np.sqrt(p * (1 - p) / 400)


def test_with_too_few_others_negatives_repeat():
    drawn = built(k=50).draw(np.arange(N))
    assert drawn.shape == (N, 50)
    assert (LABELS.numpy()[drawn] != LABELS.numpy()[:, None]).all()


def test_ids_need_not_be_positions():
    ids = torch.randperm(1000, generator=rng(2))[:N]
    plain, named = built(), built(train_ids=ids)
    found, *_ = step(plain, 3, [5, 17, 2])
    same, *_ = step(named, 3, ids[[5, 17, 2]].tolist())
    assert torch.equal(found.loss, same.loss)
    stranger = next(i for i in range(1000) if i not in ids.tolist())
    with pytest.raises(CheckError, match=f"sample id {stranger} is none of the 30"):
        step(named, 3, [int(ids[0]), stranger])


def test_resume_is_exact():
    whole = built()
    optimiser = torch.optim.SGD(whole.parameters(), 0.1)
    losses, kept = [], None
    for i in range(6):
        if i == 3:
            stream = io.BytesIO()
            torch.save({"objective": whole.state_dict()}, stream)
            kept = stream.getvalue()
        found, *_ = step(whole, i, [i, i + 6, i + 12])
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
        losses.append(found.loss.detach())
    resumed = built(seed=77)  # other weights, banks and draws, all to be replaced
    resumed.load_state_dict(torch.load(io.BytesIO(kept), weights_only=True)["objective"])
    optimiser = torch.optim.SGD(resumed.parameters(), 0.1)
    for i in range(3, 6):
        found, *_ = step(resumed, i, [i, i + 6, i + 12])
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
        assert torch.equal(found.loss.detach(), losses[i])
    for (k, a), (_, b) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert k.startswith("_extra") or torch.equal(a, b), k


def test_what_does_not_fit_is_named():
    with pytest.raises(UsageError, match="train_labels"):
        objectives.get("crd").build(*SHAPES, classes=3, generator=rng(0))
    with pytest.raises(UsageError, match="of one class"):
        built(labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(UsageError, match="belongs to two"):
        built(train_ids=torch.zeros(N, dtype=torch.long))
    with pytest.raises(UsageError, match="30 train_labels, but 3 train_ids"):
        built(train_ids=torch.arange(3))
    with pytest.raises(UsageError, match="train_labels are"):
        built(labels=torch.zeros(5))
    with pytest.raises(UsageError, match="sample_id"):
        built()(logits(0), student_features=[torch.ones(6, 7)], teacher_features=[torch.ones(6, 5)])
    for params in ({"k": 0}, {"temperature": 0}, {"momentum": 1.0}, {"dim": 0}):
        with pytest.raises(UsageError, match=next(iter(params))):
            objectives.get("crd", **params)
