"""Control variates of T. stddev: mean zero by counting pairs, and intervals that cover in a world that mixes images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage_mixing import MixingWorld
from benchmarks.coverage_world import softmax
from kdstats.estimators.comparison import compare, probability_lowest
from kdstats.estimators.controls import (
    ALL_ORIGINALS,
    NOTHING,
    Control,
    Drawn,
    Known,
    Pairs,
    controls,
    take_out,
)
from kdstats.estimators.efficient import from_batches
from kdstats.estimators.intervals import Jackknife
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.within_epochs import of_pairs, within_epochs


def moments(classes: int) -> OriginalsMoments:
    return OriginalsMoments(np.full(classes, 0.1), 0.5, False)


def test_covariance_within_epochs_and_without_each_batch():
    rng = np.random.default_rng(0)
    a, b, epoch = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), np.array([0] * 6 + [1] * 4 + [2] * 2)

    def expected(keep: np.ndarray) -> np.ndarray:
        groups = [np.flatnonzero(keep & (epoch == e)) for e in range(3)]
        scatter = sum(((a[g] - a[g].mean(0)) * (b[g] - b[g].mean(0))).sum(0) for g in groups)
        return scatter / sum(len(g) - 1 for g in groups)

    total, left = within_epochs(a, epoch, b)
    np.testing.assert_allclose(total, expected(np.ones(12, bool)))
    for j in range(12):
        np.testing.assert_allclose(left[j], expected(np.arange(12) != j))
    variance, _ = within_epochs(a, epoch)
    np.testing.assert_allclose(variance, within_epochs(a, epoch, a)[0])


def test_the_part_of_pairs_is_counted_pair_by_pair():
    """Every pair of an epoch by hand: those that share an image, less what pairs of different batches have in common."""
    rng = np.random.default_rng(1)
    epoch = np.array([0, 0, 0, 1, 1, 2])
    x, y = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 5, 2))  # four members, five of the other kind
    chosen = rng.random((6, 4, 5)) < 0.3
    products = np.array([(x[j][:, None] * y[j][None])[chosen[j]].sum(0) / 20 for j in range(6)])
    singles = np.array([(y[j] * chosen[j].sum(0)[:, None]).sum(0) / 20 for j in range(6)])

    def by_hand(kept: list[int]) -> np.ndarray:
        total, df = np.zeros(2), 0
        for e in range(3):
            members = [j for j in kept if epoch[j] == e]
            if len(members) < 2:
                continue
            across = np.mean([x[i].mean(0) * singles[j] for i in members for j in members if i != j], axis=0)
            total += (len(members) - 1) * (np.mean([products[j] for j in members], axis=0) - across)
            df += len(members) - 1
        return total / df

    found, left = of_pairs(x.mean(1), products, singles, epoch)
    np.testing.assert_allclose(found, by_hand([0, 1, 2, 3, 4, 5]))
    for j in range(6):
        np.testing.assert_allclose(left[j], by_hand([i for i in range(6) if i != j]))


def test_all_pairs_are_the_whole_covariance():
    rng = np.random.default_rng(2)
    a, b, epoch = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), np.repeat([0, 1, 2], 3)
    whole = of_pairs(a, a * b, b, epoch)
    for found, expected in zip(whole, within_epochs(a, epoch, b), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.simulation
@pytest.mark.parametrize("partners", ["cycle", "first", "sometimes"])
def test_what_is_left_without_the_pairs_is_zero_in_a_finite_training_set(partners):
    """40 images in batches of 8, so that drawing without replacement counts. Views of two images; views that all come
    from one; and views that are mixed half of the time, so that their level hangs on how many images they are made of."""
    rng = np.random.default_rng(3)
    population = rng.dirichlet([3.0, 0.5, 0.5], size=40)
    gaps = []
    for _ in range(3000):
        p = population[rng.permutation(40).reshape(5, 8)]
        other = np.roll(p, 1, 1)
        if partners == "first":
            v = np.repeat(p[:, :1] ** 2, 8, axis=1)
            products, singles = p[:, :1] * v, v
        else:
            acts = rng.random((5, 1, 1)) < (0.5 if partners == "sometimes" else 1)
            v = np.where(acts, 0.3 * p + 0.2 * other**2, p)
            products, singles = (p + acts * other) * v, (1 + acts) * v
        o, zeros = p.mean(1), np.zeros(5, int)
        for kind, both, alone in ((o, p * p, p), (v.mean(1), products, singles)):
            part = of_pairs(o, both.sum(1) / 64, alone.sum(1) / 64, zeros)[0]
            gaps.append((within_epochs(o, zeros, kind)[0] - part, part))
    for found in (np.array(gaps[::2]), np.array(gaps[1::2])):
        gap, part = found[:, 0], found[:, 1].mean(0)
        error = gap.std(0) / math.sqrt(len(gap))
        assert (np.abs(gap.mean(0)) < 4 * error).all()
        assert (error < 0.05 * np.abs(part)).all()


def noise(rng: np.random.Generator, units: int, mean: float = 0.0) -> Jackknife:
    x = rng.normal(size=units) + mean
    return Jackknife.of(float(x.mean()), (x.sum() - x) / (units - 1))


def test_what_controls_explain_is_taken_out():
    rng = np.random.default_rng(4)
    a, b, rest = noise(rng, 50), noise(rng, 50), noise(rng, 50, 3.0)
    pseudo = rest.pseudo + 2 * a.pseudo - 0.5 * b.pseudo
    served = Jackknife(float(pseudo.mean()), float(pseudo.mean()), 0.0, pseudo)
    found = take_out([Control("a", a), Control("b", b), Control("twice a", a)], served, None)
    design = np.stack([np.ones(50), a.pseudo, b.pseudo], 1)
    solution, squares, *_ = np.linalg.lstsq(design, pseudo)
    assert found.pseudo.mean() == pytest.approx(solution[0])
    assert found.slopes[0] + found.slopes[2] == pytest.approx(solution[1])
    assert found.slopes[1] == pytest.approx(solution[2])
    assert found.rank == 2
    # Residual variance on 47 degrees of freedom, and what two estimated slopes add to the variance of a mean.
    assert found.pseudo.var(ddof=1) == pytest.approx(float(squares[0]) / 47 * (1 + 2 / 46))


def test_a_law_known_from_few_draws_is_uncertain():
    rng = np.random.default_rng(5)
    values = rng.random((60, 1))
    column = Control("λ", Jackknife.of(float(values.mean()), (values.sum() - values[:, 0]) / 59), drawn=True)
    served = Jackknife.of(
        float(values.mean()), (values.sum() - values[:, 0]) / 59 + rng.normal(size=60) / 500
    )
    many, few = (
        take_out([column], served, Drawn(values, np.zeros(1), np.array([[1 / 12]]), draws))
        for draws in (10**12, 60)
    )
    np.testing.assert_array_equal(many.pseudo, few.pseudo)
    assert many.law_se < 1e-5
    assert few.law_se == pytest.approx(abs(few.slopes[0]) / math.sqrt(12 * 60))
    assert take_out([replace(column, drawn=False)], served, None).law_se == 0


@pytest.mark.simulation
def test_schemes_that_share_their_draws_are_compared_as_surely_as_their_laws_are_known():
    """Two mixings with the same law of views and the same λ: what is left of their difference is mostly the error of
    the laws, which each has taken from draws of its own."""
    rng, world = np.random.default_rng(14), MixingWorld.of(3200, 6)
    hits, lowest = [], []
    for _ in range(300):
        a = world.probe(rng, 80)
        b = replace(a, v=a.v + 1e-4 * rng.normal(size=a.v.shape))
        found = {
            name: from_batches(x.o, x.v, x.epoch, world.layout(), moments(6), known=x.known(rng, 2400))
            for name, x in (("a", a), ("b", b))
        }
        gap = compare("a", found["a"], "b", found["b"])
        hits.append(gap.relative_low <= 0 <= gap.relative_high)
        lowest.append(probability_lowest(found, rng, draws=500)["a"])
    assert 0.91 <= np.mean(hits) <= 0.98
    assert np.mean([p < 0.01 or p > 0.99 for p in lowest]) < 0.06
    same = compare("a", found["a"], "a", found["a"])
    assert (same.relative_low, same.relative_high, same.p) == (0, 0, 1)


def test_biases_of_controls_are_taken_off_the_bias():
    rng = np.random.default_rng(6)
    a, rest = noise(rng, 40), noise(rng, 40)
    shifted = replace(a, value=a.value - 0.25)
    served = Jackknife(rest.value - 0.1, rest.corrected, rest.se, rest.pseudo + 2 * a.pseudo)
    found = take_out([Control("a", shifted)], served, None)
    assert found.bias == pytest.approx(0.1 - found.slopes[0] * 0.25)


def test_a_control_that_is_not_zero_is_refuted():
    rng = np.random.default_rng(7)
    assert not Control("a", noise(rng, 80, 0.4)).refuted
    assert Control("a", noise(rng, 80, 2.0)).refuted
    covariance = np.array([[1 / 12, 1 / 12], [1 / 12, 4 / 45]])
    for shift, wrong in ((0.0, False), (0.35, True)):
        u = rng.random(80) + shift
        law = Drawn(np.stack([u, u**2], 1), np.array([1 / 2, 1 / 3]), covariance, 10**6)
        assert law.refuted is wrong
        # A law from as few draws as these could well be wrong by that much.
        assert not replace(law, draws=4).refuted
    constant = Drawn(np.full((80, 2), 0.5), np.full(2, 0.5), np.zeros((2, 2)), 1000)
    assert not constant.refuted


@pytest.mark.simulation
def test_each_control_narrows_the_interval():
    world, rng = MixingWorld.of(6400, 10), np.random.default_rng(8)
    batches = world.probe(rng, 100)
    known = batches.known(rng, 3000)
    sets = [
        NOTHING,
        Known(known.originals),
        Known(known.originals, known.views),
        known,
    ]
    found = [
        from_batches(batches.o, batches.v, batches.epoch, world.layout(), moments(10), 0.5, k) for k in sets
    ]
    widths = [f.half_width(0.95) for f in found]
    assert widths == sorted(widths, reverse=True)
    assert widths[3] < 0.45 * widths[0]
    assert [len(f.controls) for f in found] == [0, 1, 2, 4]
    assert [f.df for f in found] == [99, 98, 97, 95]
    assert not any(f.notes for f in found)


def test_fewer_than_sixty_units_are_served_by_the_exact_control_alone():
    world, rng = MixingWorld.of(6400, 10), np.random.default_rng(9)
    batches = world.probe(rng, 60)
    known = batches.known(rng, 2000)
    exact = OriginalsMoments(softmax(world.z).var(0, ddof=1), 0.9, True)
    found = from_batches(batches.o, batches.v, batches.epoch, world.layout(), exact, 0.5, known)
    assert found.controls == (ALL_ORIGINALS,)
    batches = world.probe(rng, 61)
    known = batches.known(rng, 2000)
    found = from_batches(batches.o, batches.v, batches.epoch, world.layout(), exact, 0.5, known)
    assert len(found.controls) == 5
    assert found.controls[-1] == ALL_ORIGINALS
    assert found.control_slope != 0


@pytest.mark.parametrize("which", ["views", "drawn", "squares"])
def test_views_that_depend_on_more_than_they_say_are_noticed(which):
    world, rng = MixingWorld.of(6400, 10), np.random.default_rng(10)
    batches = world.probe(rng, 200)
    known = batches.known(rng, 6000)
    if which == "views":  # every view has a fifth of the mean of its batch in it
        views = 0.8 * batches.v + 0.2 * batches.o
        products = 0.8 * known.views.products + 0.2 * (batches.o**2) * 2 / 64
        known = replace(known, views=Pairs(products, 2 * views / 64))
    else:  # λ² alone is within what chance does to it, but not beside its λ
        views, shift = batches.v, np.array([0.3, 0.3]) if which == "drawn" else np.array([0.0, 0.06])
        known = replace(known, drawn=replace(known.drawn, mean=known.drawn.mean + shift))
    found = from_batches(batches.o, views, batches.epoch, world.layout(), moments(10), 0.5, known)
    names = [note.split("'")[1] for note in found.notes]
    assert names == (["views and other originals"] if which == "views" else ["λ^1", "λ^2"])
    assert not set(names) & set(found.controls)
    assert all("schemes check" in note for note in found.notes)
    assert found.estimate(0.95, "m", "d").notes[: len(names)] == found.notes


def test_identity_follows_its_originals():
    """Views equal to the originals: what is left is the spread of the single originals, counted image by image."""
    world, rng = MixingWorld.of(6400, 10), np.random.default_rng(11)
    batches = world.probe(rng, 100)
    layout = world.layout()
    known = Known(batches.own, batches.own)
    found = from_batches(batches.o, batches.o, batches.epoch, layout, moments(10), 0.5, known)
    plain = from_batches(batches.o, batches.o, batches.epoch, layout, moments(10))
    same, _ = of_pairs(batches.o, batches.own.products, batches.own.singles, batches.epoch)
    assert found.value == pytest.approx(np.sqrt(layout.per_batch * same).mean(), rel=0.003)
    assert found.half_width(0.95) < 0.25 * plain.half_width(0.95)


@pytest.mark.simulation
@pytest.mark.parametrize(("classes", "soft", "units"), [(10, 0.5, 70), (10, 0.1, 120), (40, 0.5, 70)])
def test_value_and_coverage_in_a_world_that_mixes(classes, soft, units):
    world = MixingWorld.of(12_800, classes, soft)
    truth, layout, rng = world.truth(20_000), world.layout(), np.random.default_rng(12)
    found = []
    for _ in range(250):
        batches = world.probe(rng, units)
        known = batches.known(rng, 30 * units)
        found.append(from_batches(batches.o, batches.v, batches.epoch, layout, moments(classes), 0.5, known))
    gaps = np.array([f.centre - math.log(truth) for f in found])
    widths = np.array([f.half_width(0.95) for f in found])
    assert not any(f.notes for f in found)
    assert 0.92 <= (np.abs(gaps) <= widths).mean() <= 0.99
    assert abs(gaps.mean()) < 0.25 * widths.mean()


def test_what_controls_are_made_of():
    world, rng = MixingWorld.of(640, 4), np.random.default_rng(13)
    b = world.probe(rng, 30)
    known = b.known(rng, 1000)
    served = within_epochs(0.5 * (b.o + b.v), b.epoch)
    exact = np.full(4, 0.02)
    found = {c.name: c for c in controls(b.o, b.v, b.epoch, known, exact, served)}
    assert list(found) == ["originals of a batch", "views and other originals", "λ^1", "λ^2", ALL_ORIGINALS]
    level = math.log(np.sqrt(within_epochs(b.o, b.epoch)[0]).mean())
    same = math.log(np.sqrt(of_pairs(b.o, b.own.products, b.own.singles, b.epoch)[0]).mean())
    assert found["originals of a batch"].found.value == pytest.approx(level - same)
    assert found[ALL_ORIGINALS].found.value == pytest.approx(same - math.log(math.sqrt(0.02)))
    gap = within_epochs(b.o, b.epoch, b.v)[0] - of_pairs(b.o, b.linked.products, b.linked.singles, b.epoch)[0]
    sd = np.sqrt(served[0])
    assert found["views and other originals"].found.value == pytest.approx((gap / 2 / sd).mean() / sd.mean())
    assert found["λ^2"].found.value == pytest.approx((b.lam**2).mean() - known.drawn.mean[1])
    assert [c.drawn for c in found.values()] == [False, False, True, True, False]
    alone = controls(b.o, b.v, b.epoch, NOTHING, exact, served)
    assert alone[0].found.value == pytest.approx(level - math.log(math.sqrt(0.02)))
