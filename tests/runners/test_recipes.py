"""Schedules: where the rate falls, how epochs scale, closed forms against PyTorch's own schedulers."""

import hashlib
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, MultiStepLR

from kdstats.errors import UsageError
from runners import recipes
from runners.recipes.__main__ import main, table

STEPS = 782


def _drops(recipe):
    rates = [recipe.lr_at(epoch * STEPS, STEPS) for epoch in range(recipe.epochs)]
    return [epoch + 1 for epoch in range(1, recipe.epochs) if rates[epoch] < rates[epoch - 1] * 0.5], rates


def _torch_rates(recipe, make, count):
    """The rates that a scheduler of PyTorch gives over ``count`` calls."""
    optimiser = recipe.optimiser(torch.nn.Linear(1, 1))
    scheduler = make(optimiser)
    rates = []
    for _ in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("name", "peak"), [("crd240", 0.05), ("crd240-light", 0.01)])
def test_crd240_falls_first_in_epochs_151_181_211(name, peak):
    drops, rates = _drops(recipes.get(name))
    assert drops == [151, 181, 211]
    assert rates[0] == peak
    assert rates[-1] == pytest.approx(peak / 1000)


def test_four_times_the_epochs_scale_the_milestones():
    longer = recipes.get("crd240").with_epochs(960)
    assert _drops(longer)[0] == [601, 721, 841]
    named = recipes.get("crd960")
    assert replace(longer, name=named.name, source=named.source) == named


def test_imagenet100_falls_first_in_epochs_31_61_91():
    assert _drops(recipes.get("imagenet100"))[0] == [31, 61, 91]


@pytest.mark.parametrize("name", ["crd240", "crd960", "imagenet100"])
def test_steps_are_those_of_pytorch(name):
    recipe = recipes.get(name)
    theirs = _torch_rates(recipe, lambda o: MultiStepLR(o, list(recipe.milestones), 0.1), recipe.epochs)
    assert _drops(recipe)[1] == pytest.approx(theirs, rel=1e-12)


def test_cosine_per_epoch_is_that_of_pytorch():
    recipe = recipes.get("rm-cifar")
    theirs = _torch_rates(recipe, lambda o: CosineAnnealingLR(o, recipe.epochs), recipe.epochs)
    assert _drops(recipe)[1] == pytest.approx(theirs, rel=1e-9)
    assert recipe.lr_at(100 * STEPS, STEPS) == pytest.approx(0.05)  # half-way: half the rate
    assert {recipe.lr_at(7 * STEPS + s, STEPS) for s in range(STEPS)} == {recipe.lr_at(7 * STEPS, STEPS)}


def test_cosine_per_epoch_warms_up_as_the_released_logs_show():
    # The PyramidNet logs of RecursiveMix: 5 warm-up epochs from 0.0417, 0.25 afterwards.
    recipe = replace(recipes.get("rm-cifar"), lr=0.25, epochs=300, warmup=5 / 300)
    rates = [recipe.lr_at(epoch * STEPS, STEPS) for epoch in range(6)]
    assert rates[0] == pytest.approx(0.0417, abs=5e-5)
    assert rates[:5] == pytest.approx([0.25 * e / 6 for e in range(1, 6)])
    assert rates[5] == pytest.approx(0.25 * 0.5 * (1 + math.cos(math.pi * 5 / 300)))


@pytest.mark.parametrize("name", ["digits", "cifar-short", "cifar-gpu-hour"])
def test_cosine_rises_to_its_peak_and_ends_at_zero(name):
    recipe = recipes.get(name)
    total = recipe.epochs * 20
    rise = round(recipe.warmup * total)
    rates = [recipe.lr_at(step, 20) for step in range(total)]
    up = _torch_rates(recipe, lambda o: LambdaLR(o, lambda s: (s + 1) / rise), rise)
    down = _torch_rates(recipe, lambda o: CosineAnnealingLR(o, total - rise), total - rise + 1)
    assert rates == pytest.approx(up + down[1:], rel=1e-6, abs=1e-9)
    assert max(rates) == pytest.approx(recipe.lr)
    assert rates.index(max(rates)) + 1 == rise
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(rate > 0 for rate in rates[:-1])


def test_the_light_students_have_their_own_rate():
    for student in ("MobileNetV2", "ShuffleV1", "ShuffleV2", "mobilenetv2"):
        assert recipes.for_student("crd240", student).name == "crd240-light"
        assert recipes.for_student("crd960", student).lr == 0.01
    assert recipes.for_student("crd240", "resnet20") is recipes.get("crd240")
    assert recipes.for_student("digits", "MobileNetV2") is recipes.get("digits")  # no published light form
    with pytest.raises(UsageError, match="resnet20"):
        recipes.for_student("crd240", "resnt20")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("crd240", "1d8281b8b0693bb9"),
        ("crd240-light", "baf2851e543df3fa"),
        ("crd960", "f0682bb5d714c5fe"),
        ("crd960-light", "07926a7126ef8f98"),
        ("rm-cifar", "4e2eb972bf75afff"),
        ("imagenet100", "4ac19671cddf95d9"),
        ("cifar-short", "973ee90c7c0a0b61"),
        ("cifar-gpu-hour", "ed4d4190c50dd078"),
        ("digits", "408e77a14699d1fe"),
    ],
)
def test_the_digests_of_runs_on_disk_stay(name, digest):
    """A changed default, a new field or another word in a source would orphan every finished run."""
    text = json.dumps(asdict(recipes.get(name)), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_scaled_epochs_say_what_they_did():
    assert recipes.scaling(recipes.get("crd240")) is None
    assert recipes.scaling(recipes.get("digits").with_epochs(3)) == "digits over 3 epochs instead of 30"
    told = recipes.scaling(recipes.get("crd240").with_epochs(24))
    assert told == "crd240 over 24 epochs instead of 240: milestones 150, 180, 210 became 15, 18, 21"
    assert "coincide" in recipes.scaling(recipes.get("crd240").with_epochs(2))


def test_the_table_names_every_recipe_and_its_source(capsys):
    assert main(["--epochs", "24"]) == 0
    shown = capsys.readouterr().out
    for name in recipes.names():
        assert recipes.get(name).source
        assert recipes.get(name).source in shown
        assert f"\n{recipes.get(name).with_epochs(24).name} " in shown
    assert "became 15, 18, 21" in shown
    assert "instead of" not in table([recipes.get("crd240")])


def test_auto_precision_is_resolved_before_it_is_recorded():
    assert recipes.get("cifar-short").on_this_machine().precision in ("float32", "bf16")


def test_wrong_words():
    with pytest.raises(UsageError, match=r"crd240.*python -m runners\.recipes"):
        recipes.get("crd24")
    with pytest.raises(UsageError, match="at least 1 epoch"):
        recipes.get("digits").with_epochs(0)
    digits = recipes.get("digits")
    for wrong, said in (
        ({"schedule": "cosin"}, "cosine"),
        ({"milestones": (20, 10)}, "not in order"),
        ({"warmup": 1.5}, "share"),
        ({"epochs": 0}, "at least 1"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(digits, **wrong)
