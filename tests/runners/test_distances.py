"""Distances of two networks against their definitions in numpy, and the properties of CKA."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, rel_entr
from torch import nn

from kdstats import models
from kdstats.errors import CheckError, UsageError
from runners.training.distances import answer_distances, linear_cka, parameter_distance

RNG = np.random.default_rng


def _network(seed, name="lenet8"):
    torch.manual_seed(seed)
    return models.build(name, 10, 8, 1)


def test_parameters_against_numpy():
    t, s = _network(0), _network(1)
    a, b = (
        np.concatenate([p.detach().numpy().astype(np.float64).ravel() for p in n.parameters()])
        for n in (t, s)
    )
    found = parameter_distance(t, s)
    assert found.l2 == pytest.approx(np.linalg.norm(b - a), rel=1e-12)
    assert found.relative == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-12)
    assert found.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-10)


def test_a_network_has_no_distance_from_itself_however_wrapped():
    t = _network(0)
    same = parameter_distance(t, nn.parallel.DataParallel(_network(0)))
    assert (same.l2, same.relative) == (0, 0)
    assert same.cosine == pytest.approx(1, abs=1e-12)
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    assert all((values == 0).all() for values in answer_distances(logits, logits).values())
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)


def test_other_architectures_are_refused_by_name():
    with pytest.raises(UsageError, match=r"one architecture only: bn1.bias is \(8,\) in the teacher"):
        parameter_distance(_network(0), _network(0, "resnet8"))
    with pytest.raises(UsageError, match=r"bias is \(3,\) in the teacher and absent in the student"):
        parameter_distance(nn.Linear(4, 3), nn.Linear(4, 3, bias=False))
    with pytest.raises(UsageError, match=r"weight is \(3, 4\) in the teacher and \(3, 5\) in the student"):
        parameter_distance(nn.Linear(4, 3), nn.Linear(5, 3))


@given(
    t=arrays(np.float64, (6, 5), elements=st.floats(-30, 30)),
    s=arrays(np.float64, (6, 5), elements=st.floats(-30, 30)),
)
def test_answers_against_numpy(t, s):
    found = answer_distances(torch.tensor(t), torch.tensor(s))
    p, q = np.exp(log_softmax(t, axis=1)), np.exp(log_softmax(s, axis=1))
    forward, backward = rel_entr(p, q).sum(1), rel_entr(q, p).sum(1)
    np.testing.assert_allclose(found["kl"], forward, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["symmetric_kl"], forward + backward, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["probability_l2"], np.sqrt(((p - q) ** 2).sum(1)), rtol=1e-9, atol=1e-12)
    other = log_softmax(t, axis=1).argmax(1) != log_softmax(s, axis=1).argmax(1)
    tie = [len(np.unique(log_softmax(z, axis=1)[i])) < 5 for i in range(6) for z in (t, s)]
    if not any(tie):  # rounding may break a tie either way
        np.testing.assert_array_equal(found["disagreement"], other)


def test_a_certain_answer_gives_a_finite_distance():
    found = answer_distances(torch.tensor([[900.0, 0.0]]), torch.tensor([[0.0, 900.0]]))
    assert float(found["kl"]) == pytest.approx(900)
    assert float(found["symmetric_kl"]) == pytest.approx(1800)
    assert float(found["probability_l2"]) == pytest.approx(np.sqrt(2))
    assert float(found["disagreement"]) == 1


def _hsic(x, y):
    """Hilbert–Schmidt form of CKA, from Gram matrices with the centring matrix: another formula for the same."""
    h = np.eye(len(x)) - 1 / len(x)
    k, m = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


@pytest.mark.parametrize(("n", "d", "e"), [(40, 6, 9), (12, 30, 5), (12, 5, 30), (2, 3, 3)])
def test_cka_against_its_other_formula(n, d, e):
    x, y = RNG(0).normal(size=(n, d)) + 3, RNG(1).normal(size=(n, e))
    y[:, :3] += x[:, :3]
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(_hsic(x, y), rel=1e-10)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5), n=st.sampled_from([8, 40])
)
def test_cka_is_blind_to_rotation_scale_and_shift(seed, scale, shift, n):
    rng = RNG(seed)
    x, y = rng.normal(size=(n, 10)), rng.normal(size=(n, 6))
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    before = linear_cka(torch.tensor(x), torch.tensor(y))
    after = linear_cka(torch.tensor(scale * x @ rotation + shift), torch.tensor(y))
    assert after == pytest.approx(before, rel=1e-8)
    assert linear_cka(torch.tensor(y), torch.tensor(x)) == pytest.approx(before, rel=1e-10)
    assert 0 <= before <= 1
    assert linear_cka(torch.tensor(x), torch.tensor(scale * x @ rotation)) == pytest.approx(1, rel=1e-9)


def test_cka_is_not_blind_to_other_linear_maps_or_to_order():
    x = RNG(0).normal(size=(200, 4))
    stretched = x * np.array([1, 1, 1, 30])
    assert linear_cka(torch.tensor(x), torch.tensor(stretched)) < 0.7
    assert linear_cka(torch.tensor(x), torch.tensor(x[::-1].copy())) < 0.2


def test_orthogonal_features_have_no_cka():
    t = 2 * np.pi * np.arange(16) / 16
    x, y = np.stack([np.cos(t), np.sin(t)], 1), np.stack([np.cos(2 * t), np.sin(2 * t)], 1)
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(0, abs=1e-14)


def _with(value, network):
    with torch.no_grad():
        next(network.parameters()).fill_(value)
    return network


def _zero(network):
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: parameter_distance(_network(0), _with(NAN, _network(1))), CheckError, "NaN"),
        (lambda: parameter_distance(_zero(_network(0)), _network(1)), CheckError, "are 0"),
        (
            lambda: answer_distances(torch.ones(2, 3), torch.full((2, 3), NAN)),
            CheckError,
            "of the student is NaN",
        ),
        (lambda: answer_distances(torch.ones(2, 3), torch.ones(2, 4)), UsageError, "alike"),
        (lambda: answer_distances(torch.ones(0, 3), torch.ones(0, 3)), UsageError, "alike"),
        (lambda: linear_cka(torch.ones(5, 3), torch.randn(5, 3)), CheckError, "first network are the same"),
        (
            lambda: linear_cka(torch.randn(5, 3), 1e6 * torch.ones(5, 3)),
            CheckError,
            "second network are the same",
        ),
        (lambda: linear_cka(torch.randn(5, 3), torch.full((5, 3), NAN)), CheckError, "second network is NaN"),
        (lambda: linear_cka(torch.randn(1, 3), torch.randn(1, 3)), UsageError, "two or more"),
        (lambda: linear_cka(torch.randn(5, 3), torch.randn(4, 3)), UsageError, "two or more"),
    ],
)
def test_what_has_no_meaning_is_refused(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
