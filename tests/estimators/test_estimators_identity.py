"""Variance components: planted truth, brute-force mean squares and jackknife, invariances, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.identity import SHARED, components_of, variance_components
from tests.estimators.planted import PLANTED, layout


def flat(table: Crossed) -> dict[str, np.ndarray]:
    i, e, v = (x.ravel() for x in np.indices(table.values.shape))
    out = {"values": table.values.ravel(), "image": i, "epoch": e, "view": v}
    return out if table.batch is None else out | {"batch": table.batch[i, e]}


def pairs(table: Crossed, same: str) -> float:
    """Covariance of two losses by its definition: the mean product of deviations over all pairs of that kind."""
    n, epochs, views = table.values.shape
    z = table.values - table.values.mean(axis=0)
    total, count = 0.0, 0
    for e, f in itertools.product(range(epochs), repeat=2):
        for v, w in itertools.product(range(views), repeat=2):
            kind = {
                (True, False): "same_step",
                (False, True): "other_epoch",
                (False, False): "other_view_and_epoch",
            }
            if kind.get((e == f, v == w)) == same:
                total, count = total + z[:, e, v] @ z[:, f, w] / (n - 1), count + 1
    return total / count


@pytest.mark.parametrize("shape", [(25, 3, 2, 5), (30, 4, 3, 6)])
def test_covariances_are_mean_products_of_pairs(shape):
    table = layout(0, *shape, known=False)
    found = components_of(table)
    for kind in ("same_step", "other_epoch", "other_view_and_epoch"):
        assert found.covariances[kind].value == pytest.approx(pairs(table, kind), rel=1e-10), kind
    z = table.values - table.values.mean(axis=0)
    assert found.total.value == pytest.approx((z**2).sum() / (shape[0] - 1) / shape[1] / shape[2], rel=1e-10)


def test_epochs_alone_are_one_way_analyses():
    """One epoch, two views: the intraclass correlation of the textbook."""
    table = layout(1, 40, 1, 2, 8, known=False)
    y = table.values[:, 0] - table.values[:, 0].mean(axis=0)
    between = 2 * y.mean(axis=1).var(ddof=1)
    within = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum() / 39
    found = components_of(table)
    assert found.components["residual"].value == pytest.approx(within, rel=1e-12)
    assert found.components["image"].value == pytest.approx((between - within) / 2, rel=1e-12)
    assert found.correlations["same_step"].value == pytest.approx(
        (between - within) / (between + within), rel=1e-12
    )
    assert set(found.components) == {"image", "residual"}
    assert "one epoch" in found.joined[0]


def test_delete_one_image_jackknife_is_brute_force():
    table = layout(2, 14, 3, 2, 4, known=False)
    found = components_of(table)
    left = [components_of(Crossed(np.delete(table.values, i, axis=0), None)) for i in range(14)]
    for get in (
        lambda f: f.components["image"],
        lambda f: f.components["image_epoch"],
        lambda f: f.total,
        lambda f: f.covariances["same_step"],
        lambda f: f.correlations["other_epoch"],
    ):
        values = np.array([get(one).value for one in left])
        se = np.sqrt(13 / 14 * ((values - values.mean()) ** 2).sum())
        assert get(found).se == pytest.approx(se, rel=1e-8)


def test_planted_components_are_found_without_bias():
    names = {}
    for seed in range(60):
        for name, estimate in components_of(layout(seed, 120, 4, 2, 12)).components.items():
            names.setdefault(name, []).append(estimate.value)
    del names["epoch"]
    assert set(names) == set(PLANTED)
    for name, values in names.items():
        error = np.std(values, ddof=1) / len(values) ** 0.5
        assert abs(np.mean(values) - PLANTED[name]) < 3.5 * error, name


@pytest.mark.simulation
@pytest.mark.parametrize(("epochs", "views"), [(4, 2), (1, 2), (4, 1)])
def test_intervals_cover(epochs, views):
    """120 replications here; 2,000 in ``benchmarks/coverage_covariance.py``."""
    hits: dict[str, list[bool]] = {}
    total = sum(PLANTED.values())
    for seed in range(120):
        found = components_of(layout(10_000 + seed, 120, epochs, views, 10))
        for kind, estimate in found.covariances.items():
            true = sum(PLANTED[name] for name in SHARED[kind])
            hits.setdefault(f"cov {kind}", []).append(estimate.low <= true <= estimate.high)
            low, high = found.correlations[kind].low, found.correlations[kind].high
            hits.setdefault(f"corr {kind}", []).append(low <= true / total <= high)
        hits.setdefault("total", []).append(found.total.low <= total <= found.total.high)
    for name, found_ in hits.items():
        assert np.mean(found_) > 0.88, name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-50, 50))
def test_order_shift_and_scale(seed, scale, shift):
    table = layout(seed % 1000, 20, 3, 2, 5)
    rows = flat(table)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows["values"]))
    moved = {k: v[order] for k, v in rows.items()} | {"values": scale * rows["values"][order] + shift}
    # Names of images and batches mean nothing; a batch of another epoch may be called the same.
    moved["image"] = rng.permutation(20)[moved["image"]] * 7 + 3
    a, b = variance_components(**rows), variance_components(**moved)
    for name in a.components:
        x, y = a.components[name], b.components[name]
        assert y.value == pytest.approx(scale**2 * x.value, rel=1e-6, abs=1e-8 * scale**2), name
    for kind in a.correlations:
        assert b.correlations[kind].value == pytest.approx(a.correlations[kind].value, rel=1e-6, abs=1e-8)


def test_the_shift_of_a_view_and_of_an_epoch_is_no_component():
    table = layout(3, 30, 3, 2, 5)
    moved = Crossed(table.values + np.array([0.0, 100.0]) + np.array([0, 5, -7])[None, :, None], table.batch)
    a, b = components_of(table), components_of(moved)
    for name in set(a.components) - {"epoch"}:
        assert b.components[name].value == pytest.approx(a.components[name].value, rel=1e-8, abs=1e-10), name
    assert b.components["epoch"].value > 10


def test_identical_views_have_correlation_one():
    table = layout(4, 50, 3, 1, 5)
    twice = Crossed(np.repeat(table.values, 2, axis=2), table.batch)
    found = components_of(twice)
    assert found.correlations["same_step"].value == pytest.approx(1.0)
    for name in ("view", "batch_view", "residual"):
        assert found.components[name].value == pytest.approx(0.0, abs=1e-12), name
    one = components_of(table)
    assert found.correlations["other_epoch"].value == pytest.approx(
        one.correlations["other_epoch"].value, rel=1e-9
    )


def test_images_that_are_not_complete_are_left_out():
    table = layout(5, 30, 3, 2, 5)
    rows = flat(table)
    whole = variance_components(**rows)
    assert whole.dropped == 0
    extra = {k: np.concatenate([v, v[:1]]) for k, v in rows.items()}  # image 0 twice
    missing = {k: v[1:] for k, v in rows.items()}
    rest = components_of(Crossed(table.values[1:], None))
    for given_ in (extra, missing):
        found = variance_components(**{k: v for k, v in given_.items() if k != "batch"})
        assert (found.dropped, found.images) == (1, 29)
        assert found.components["image"].value == pytest.approx(rest.components["image"].value, rel=1e-12)


def test_refusals():
    table = layout(6, 20, 2, 2, 5)
    rows = flat(table)
    with pytest.raises(UsageError, match="at least 10 images, not 9"):
        components_of(Crossed(table.values[:9], None))
    with pytest.raises(UsageError, match="appears once"):
        variance_components(np.arange(20.0), image=np.arange(20))
    with pytest.raises(UsageError, match="'anova'"):
        variance_components(**rows, method="anvoa")
    with pytest.raises(UsageError, match="batch of shape"):
        variance_components(**(rows | {"batch": rows["batch"][1:]}))
    with pytest.raises(UsageError, match="different batches"):
        variance_components(**(rows | {"batch": np.arange(len(rows["values"]))}))
    with pytest.raises(UsageError, match="too few to tell batches"):
        variance_components(**(rows | {"batch": np.zeros(len(rows["values"]))}))
    bad = rows["values"].copy()
    bad[7] = np.nan
    with pytest.raises(CheckError, match="image 1, epoch 1, view 1 is NaN"):
        variance_components(**(rows | {"values": bad}))
    with pytest.raises(CheckError, match="equal"):
        variance_components(**(rows | {"values": np.full(80, 0.1)}))


def test_few_units_say_so():
    found = components_of(layout(7, 20, 3, 2, 5))
    notes = " ".join(found.components["batch"].notes)
    assert "20 images" in notes
    assert "12 batches" in notes
    assert "trend" in found.components["epoch"].notes[0]
    assert "100 batches" in components_of(layout(7, 120, 10, 2, 12)).components["batch"].notes[0]
    assert components_of(layout(7, 120, 16, 2, 12)).components["image"].notes == ()
