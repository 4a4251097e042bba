"""REML: the dense likelihood, statsmodels' MixedLM, and the closed form where they must agree."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from kdstats.errors import UsageError
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.identity import components_of
from kdstats.estimators.identity_reml import Likelihood
from tests.estimators.planted import layout


def dense(table: Crossed, names: list[str], theta: np.ndarray) -> float:
    """Minus twice the restricted log-likelihood from the full covariance matrix, up to a constant."""
    _, epochs, views = table.values.shape
    i, e, v = np.indices(table.values.shape).reshape(3, -1)
    b = 10_000 * e + (0 if table.batch is None else table.batch[i, e])
    labels = {
        "image": i,
        "view": i * views + v,
        "image_epoch": i * epochs + e,
        "batch": b,
        "batch_view": b * views + v,
        "residual": np.arange(len(i)),
    }
    cov = sum(t * np.equal.outer(labels[name], labels[name]) for name, t in zip(names, theta, strict=True))
    x = np.equal.outer(e * views + v, np.arange(epochs * views)).astype(float)
    inverse = np.linalg.inv(cov)
    inner = x.T @ inverse @ x
    y = table.values.ravel()
    rest = y - x @ np.linalg.solve(inner, x.T @ inverse @ y)
    return float(np.linalg.slogdet(cov)[1] + np.linalg.slogdet(inner)[1] + rest @ inverse @ rest)


@pytest.mark.parametrize("shape", [(15, 3, 2, 4), (12, 2, 3, 5), (20, 1, 2, 4), (20, 4, 1, 6)])
@pytest.mark.parametrize("known", [True, False])
def test_likelihood_is_the_dense_one(shape, known):
    table = layout(0, *shape, known=known)
    likelihood = Likelihood(table)
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(4):
        theta = rng.uniform(0.1, 1, len(likelihood.names))
        gaps.append(likelihood(theta) - dense(table, likelihood.names, theta))
    assert np.ptp(gaps) < 1e-8


@pytest.mark.parametrize("shape", [(60, 4, 2, 10), (80, 1, 2, 10), (60, 5, 1, 10)])
def test_without_batches_reml_is_the_closed_form(shape):
    """In a balanced layout with positive estimates the two are equal (Searle et al. 1992, section 4.8)."""
    table = layout(2, *shape, known=False)
    a, b = components_of(table), components_of(table, method="reml")
    assert min(e.value for name, e in a.components.items() if name != "epoch") > 0
    for name in set(a.components) - {"epoch"}:
        assert b.components[name].value == pytest.approx(a.components[name].value, rel=1e-4), name
    for kind, found in b.correlations.items():
        assert found.value == pytest.approx(a.correlations[kind].value, rel=1e-4), kind
        assert found.low < found.value < found.high


def test_the_optimum_is_statsmodels():
    """One epoch, two views, crossed with batches through variance components."""
    import statsmodels.formula.api as smf

    table = layout(3, 40, 1, 2, 5)
    shape = table.values.shape
    i, _, v = (x.ravel() for x in np.indices(shape))
    b = table.batch[i, 0]
    frame = pd.DataFrame({"y": table.values.ravel(), "i": i, "v": v, "b": b, "bv": b * 2 + v, "one": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = smf.mixedlm(
            "y ~ C(v)",
            frame,
            groups="one",
            vc_formula={"batch": "0 + C(b)", "batch_view": "0 + C(bv)", "image": "0 + C(i)"},
        ).fit(reml=True, method="powell")
    theirs = dict(zip(sorted(["batch", "batch_view", "image"]), fit.vcomp, strict=True)) | {
        "residual": fit.scale
    }
    found = components_of(table, method="reml").components
    ours = {name: found[name].value for name in theirs}
    likelihood = Likelihood(table)
    best = likelihood(np.array([ours[name] for name in likelihood.names]))
    # Theirs stops a little before the top; ours may not lie below it.
    assert best <= likelihood(np.array([theirs[name] for name in likelihood.names])) + 1e-6
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=0.02, abs=0.01), name


def test_a_component_on_its_boundary_is_zero_without_interval():
    for seed in range(20):
        table = layout(seed, 40, 1, 2, 5)
        closed = components_of(table).components
        if closed["batch"].value < -0.02:
            break
    found = components_of(table, method="reml").components["batch"]
    assert found.value == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(found.low)
    assert "boundary" in found.notes[-1]


def test_refusals_and_notes():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="at most 1,500 batches, not 1,600"):
        components_of(Crossed(rng.normal(size=(3200, 1, 2)), np.arange(3200)[:, None] // 2), method="reml")
    found = components_of(layout(4, 40, 3, 2, 8), method="reml")
    assert found.method == "reml"
    assert "normal theory" in found.components["image"].notes[0]
