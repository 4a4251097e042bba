"""Schedules: where the rate falls, and how epochs scale."""

import pytest

from kdstats.errors import UsageError
from runners import recipes

STEPS = 782


def _drops(recipe):
    rates = [recipe.lr_at(epoch * STEPS, STEPS) for epoch in range(recipe.epochs)]
    return [epoch + 1 for epoch in range(1, recipe.epochs) if rates[epoch] < rates[epoch - 1] * 0.5], rates


def test_crd240_falls_first_in_epochs_151_181_211():
    drops, rates = _drops(recipes.get("crd240"))
    assert drops == [151, 181, 211]
    assert rates[0] == 0.05
    assert rates[-1] == pytest.approx(5e-5)


def test_four_times_the_epochs_scale_the_milestones():
    drops, _ = _drops(recipes.get("crd240").with_epochs(960))
    assert drops == [601, 721, 841]


def test_cosine_rises_to_its_peak_and_ends_at_zero():
    recipe = recipes.get("digits")
    rates = [recipe.lr_at(step, 20) for step in range(recipe.epochs * 20)]
    assert max(rates) == pytest.approx(recipe.lr)
    assert rates.index(max(rates)) + 1 == round(recipe.warmup * len(rates))
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(rate > 0 for rate in rates[:-1])


def test_auto_precision_is_resolved_before_it_is_recorded():
    assert recipes.get("cifar-short").on_this_machine().precision in ("float32", "bf16")


def test_wrong_words():
    with pytest.raises(UsageError, match="crd240"):
        recipes.get("crd24")
    with pytest.raises(UsageError, match="at least 1 epoch"):
        recipes.get("digits").with_epochs(0)
