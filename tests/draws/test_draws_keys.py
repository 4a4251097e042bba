from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from kdstats.draws.keys import epoch_order, generator, integers, sample_uniforms, uniforms, view_generator


def test_sample_uniforms_are_uniform():
    ids = torch.arange(20_000)
    for key in (0, 1, 2**62 + 12345):
        u = sample_uniforms(key, ids, 4).numpy()
        assert u.shape == (20_000, 4)
        assert (u >= 0).all()
        assert (u < 1).all()
        for column in u.T:
            assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_sample_uniforms_of_neighbours_are_unrelated():
    n = 20_000
    u = sample_uniforms(77, torch.arange(n + 3), 5).numpy()
    bound = 4.5 / math.sqrt(n)
    for lag in (1, 2, 3):
        for a in range(5):
            for b in range(5):
                assert abs(np.corrcoef(u[:n, a], u[lag : n + lag, b])[0, 1]) < bound
    columns = np.corrcoef(u[:n].T)
    assert np.abs(columns[~np.eye(5, dtype=bool)]).max() < bound
    # Nor do keys that follow one another give related numbers.
    v = sample_uniforms(78, torch.arange(n), 5).numpy()
    assert np.abs([np.corrcoef(u[:n, c], v[:, c])[0, 1] for c in range(5)]).max() < bound
    assert len(np.unique(u)) == u.size
    # Joint law of neighbours on a 10 × 10 grid, not only their correlation.
    cells = np.histogram2d(u[:n, 0], u[1 : n + 1, 0], bins=10, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4


def test_sample_uniforms_depend_on_key_id_and_column_alone():
    ids = torch.tensor([5, 2**40, 0, 5, 9])
    u = sample_uniforms(3, ids, 4)
    assert torch.equal(u[0], u[3])
    assert torch.equal(sample_uniforms(3, ids.flip(0), 4), u.flip(0))
    assert torch.equal(sample_uniforms(3, ids[2:3], 2), u[2:3, :2])
    assert not torch.equal(sample_uniforms(4, ids, 4), u)


def test_granularity():
    ids = torch.arange(6)
    assert uniforms("batch", ids, 3, generator(0)).shape == (1, 3)
    assert uniforms("sample", ids, 3, generator(0)).shape == (6, 3)
    # Two draws from one generator differ, though the ids are the same.
    gen = generator(0)
    assert not torch.equal(uniforms("sample", ids, 3, gen), uniforms("sample", ids, 3, gen))


def test_generators_are_functions_of_their_path():
    def first(*path: int | str) -> float:
        return float(torch.rand((), generator=generator(*path), dtype=torch.float64))

    assert first(0, "view", 1, 2) == first(0, "view", 1, 2)
    others = [
        first(1, "view", 1, 2),
        first(0, "base", 1, 2),
        first(0, "view", 12),
        first(0, "view", 2, 1),
        first(0, "view1", 2),
    ]
    assert len({first(0, "view", 1, 2), *others}) == 6
    values = [first(0, "view", e, s) for e in range(40) for s in range(50)]
    assert stats.kstest(values, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.1


def test_view_generators():
    def first(draws: str, epoch: int, step: int, purpose: str = "view") -> float:
        return float(
            torch.rand((), generator=view_generator(0, draws, epoch, step, purpose), dtype=torch.float64)
        )

    assert first("sample", 1, 0) == first("sample", 1, 9)
    assert first("sample", 1, 0) != first("sample", 2, 0)
    assert first("batch", 1, 0) != first("batch", 1, 9)
    assert first("batch", 1, 0) != first("batch", 1, 0, "other")


def test_epoch_orders():
    a, b = epoch_order(0, 0, 500), epoch_order(0, 1, 500)
    assert torch.equal(a, epoch_order(0, 0, 500))
    assert not torch.equal(a, b)
    assert not torch.equal(a, epoch_order(1, 0, 500))
    assert torch.equal(a.sort().values, torch.arange(500))


def test_integers_cover_both_ends():
    u = torch.tensor([0.0, 0.124, 0.126, 0.5, 0.999999999999999999, 1 - 2**-53], dtype=torch.float64)
    assert integers(u, -3, 4).tolist() == [-3, -3, -2, 1, 4, 4]
    assert integers(u, 5, 5).tolist() == [5] * 6


def test_sample_uniforms_are_splitmix64_in_plain_integers():
    """A stored draw key must give the same views in every version: the bits, not only their law, are the contract."""
    mask = 2**64 - 1

    def finalise(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    key, ids = 2**62 + 987654321, [0, 1, 59999, 2**40 + 3]
    expected = [
        [
            (
                finalise(
                    (finalise((i + key * 0x9E3779B97F4A7C15) & mask) + (c + 1) * 0xD1B54A32D192ED03) & mask
                )
                >> 11
            )
            * 2.0**-53
            for c in range(3)
        ]
        for i in ids
    ]
    assert sample_uniforms(key, torch.tensor(ids), 3).tolist() == expected
