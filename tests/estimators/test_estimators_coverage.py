"""Counted coverage of 95 % intervals. 1,000 replications have a standard error of 0.007, so 0.93 … 0.97 is ±3."""

from __future__ import annotations

import numpy as np
import pytest

from kdstats import Comoments, ce_covariance, t_stddev

pytestmark = pytest.mark.simulation
RUNS = 1000


def mean_sd_of(kind: str, classes: int, rng: np.random.Generator):
    """A sampler of ``[K, C]`` pools and the T. stddev of its law."""
    q = np.full(classes, 1 / classes) if kind != "unbalanced" else 1 / np.arange(2, classes + 2)
    q = q / q.sum()
    if kind == "dirichlet":
        return lambda k: rng.dirichlet(400 * q, size=k), np.sqrt(q * (1 - q) / 401).mean()
    return lambda k: rng.multinomial(320, q, size=k) / 320, np.sqrt(q * (1 - q) / 320).mean()


@pytest.mark.parametrize("kind", ["dirichlet", "multinomial", "unbalanced"])
@pytest.mark.parametrize(("k", "classes"), [(20, 10), (50, 10), (100, 10), (20, 100), (100, 100)])
def test_t_stddev(kind, k, classes):
    sample, truth = mean_sd_of(kind, classes, np.random.default_rng(k + classes))
    found = [t_stddev(sample(k)) for _ in range(RUNS)]
    assert 0.93 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.97
    # And the standard error is the spread of the value.
    assert np.mean([f.se for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("k", [30, 100])
def test_planted_equicorrelation(k, rho):
    rng = np.random.default_rng(int(100 * rho) + k)
    n = 20
    truth = {
        "mean_variance": 4.0,
        "mean_covariance": 4 * rho,
        "mean_correlation": rho,
        "risk_variance": 4 / n + (n - 1) / n * 4 * rho,
        "iid_risk_variance": 4 / n,
        "design_effect": 1 + (n - 1) * rho,
    }
    hits = dict.fromkeys(truth, 0)
    for _ in range(RUNS):
        u = 9 + 2 * (np.sqrt(rho) * rng.normal(size=(k, 1)) + np.sqrt(1 - rho) * rng.normal(size=(k, n)))
        found = ce_covariance(u)
        for name, value in truth.items():
            hits[name] += getattr(found, name).low <= value <= getattr(found, name).high
    for name, count in hits.items():
        assert 0.925 <= count / RUNS <= 0.975, name


def test_streaming_intervals():
    rng = np.random.default_rng(5)
    hits = dict.fromkeys(("mean_variance", "mean_covariance", "risk_variance", "design_effect"), 0)
    truth = dict(zip(hits, (1.0, 0.1, 1 / 10 + 0.09, 1.9), strict=True))
    for _ in range(250):
        state = Comoments()
        state.update(5 + np.sqrt(0.1) * rng.normal(size=(320, 1)) + np.sqrt(0.9) * rng.normal(size=(320, 10)))
        found = state.compute()
        for name in hits:
            hits[name] += getattr(found, name).low <= truth[name] <= getattr(found, name).high
    for name, count in hits.items():
        assert 0.91 <= count / 250 <= 0.985, name
