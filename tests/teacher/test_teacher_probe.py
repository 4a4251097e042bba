from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdstats import data, schemes
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import view_generator
from kdstats.errors import CheckError, UsageError
from kdstats.schemes import PixelSpace
from kdstats.teacher.device import pick_device
from kdstats.teacher.evaluate import evaluate_da
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from kdstats.teacher.probe import Probe

CPU = torch.device("cpu")


def shipped() -> Network:
    return load_network(None, None, data.load("digits"), CPU)


def probe(
    names: list[str], network: Network | None = None, student: Network | None = None, draws: str = "batch"
) -> Probe:
    train = data.load("digits")
    space = PixelSpace(train.mean, train.std)
    running = {n: schemes.get(n, draws=draws, space=space) for n in names}
    return Probe(train, running, network or shipped(), student, StandardAugmentation("crop1"), 64, seed=0)


def advance(made: Probe, steps: int, *, drop_last: bool = True) -> None:
    batches = made.batches(drop_last=drop_last)
    for _ in range(steps):
        made.step(*next(batches))


class Poisoned(nn.Module):
    """NaN (or infinity) for one image, recognised by its pixels."""

    def __init__(
        self, inner: nn.Module, victim: Callable[[Tensor], Tensor], value: float = float("nan")
    ) -> None:
        super().__init__()
        self.inner, self.victim, self.value = inner, victim, value

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x).clone()
        out[self.victim(x)] = self.value
        return out


def poisoned(value: float = float("nan")) -> tuple[Network, int]:
    """A teacher that fails on one digit of the training set whatever the crop does to it; and that digit's id."""
    train, good = data.load("digits"), shipped()
    totals = train.images.flatten(1).long().sum(1)
    row = int(totals.argmax())  # the brightest digit: the test asks for nearly its brightness
    mean, std = train.mean[0], train.std[0]
    limit = float(totals[row]) - 1

    def victim(x: Tensor) -> Tensor:
        return ((x * std + mean) * 255).flatten(1).sum(1) > limit

    network = Network(Poisoned(good.model, victim, value), "poisoned", "resnet8", "", "poisoned")
    return network, row


def test_a_probe_leaves_the_teacher_as_it_was():
    network = shipped()
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    made = probe(["cutmix_pick_teacher", "autoaugment"], network)
    advance(made, 3)
    made.spread(100, 50)
    after = network.model.state_dict()
    assert any("running_mean" in k for k in before)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not network.model.training
    assert not any(p.requires_grad for p in network.model.parameters())


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize("name", ["cutmix_pick_teacher", "cutmix_pick_dissimilarity"])
def test_remembered_scores_are_those_of_a_fresh_pass(name, draws):
    made = probe([name], draws=draws)
    advance(made, 4)
    network = shipped()
    batches = made.batches(drop_last=True)
    for j in range(4):
        epoch, step, originals = next(batches)
        view = made.schemes[name].apply(
            made.images.normalise(originals.images),
            originals.labels,
            originals.sample_id,
            generator=view_generator(0, draws, epoch, step),
            teacher=network.logits,
        )
        fresh = torch.softmax(network.logits(view.images), 1).double().mean(0).numpy()
        np.testing.assert_allclose(made.tallies[name].means[j], fresh, atol=1e-6)
    # Pools of 2 · 64 were scored once (and the 64 originals where the criterion looks at them), never again.
    per_step = 128 + (64 if name.endswith("dissimilarity") else 0)
    assert made.tallies[name].forwards == 4 * per_step


def test_picking_by_a_student_asks_the_teacher_about_the_picked_only():
    made = probe(["cutmix_pick_student"], student=shipped())
    advance(made, 2)
    assert made.tallies["cutmix_pick_student"].forwards == 2 * 64


def test_batches_are_epochs_without_replacement():
    made = probe(["identity"])
    made.batch_size = 300
    for drop_last, sizes in ((False, [300] * 4 + [80]), (True, [300] * 4)):
        batches = made.batches(drop_last=drop_last)
        for epoch in range(2):
            seen = [next(batches) for _ in sizes]
            assert [len(batch.images) for _, _, batch in seen] == sizes
            assert [e for e, _, _ in seen] == [epoch] * len(sizes)
            assert [s for _, s, _ in seen] == list(range(len(sizes)))
            everything = torch.cat([batch.sample_id for _, _, batch in seen])
            assert len(everything.unique()) == len(everything)


@pytest.mark.parametrize("name", ["flip", "cutmix", "mixup", "same", "cutmix_pick_teacher"])
def test_products_are_those_of_views_and_the_originals_that_they_are_made_of(name):
    made = probe([name])
    advance(made, 3)
    network, tally = shipped(), made.tallies[name]
    batches = made.batches(drop_last=True)
    for j in range(3):
        epoch, step, originals = next(batches)
        x = made.images.normalise(originals.images)
        view = made.schemes[name].apply(
            x,
            originals.labels,
            originals.sample_id,
            generator=view_generator(0, "batch", epoch, step),
            teacher=network.logits,
        )
        o, v = (torch.softmax(network.logits(images), 1).double().numpy() for images in (x, view.images))
        np.testing.assert_allclose(made.squares[j], (o * o).sum(0) / 64**2, rtol=1e-5)
        if name == "cutmix_pick_teacher":  # views hang on all that they were picked from
            assert tally.shares[j][0] != pytest.approx(float(view.lam.mean()))
            continue
        pairs = {(int(i), k) for k, i in enumerate(view.index)}
        pairs |= {(int(i), k) for k, i in enumerate(view.partner_index)}
        np.testing.assert_allclose(tally.singles[j], sum(v[k] for _, k in pairs) / 64**2, rtol=1e-4)
        expected = sum(o[i] * v[k] for i, k in pairs) / 64**2
        np.testing.assert_allclose(tally.products[j], expected, rtol=1e-4, atol=1e-9)
        if tally.law is not None:
            assert tally.shares[j] == pytest.approx([view.lam.mean().item(), (view.lam**2).mean().item()])
    assert (tally.law is not None) == ("mix" in name)
    assert len(tally.shares) == (3 if tally.law is not None else 0)
    assert len(tally.products) == (0 if name == "cutmix_pick_teacher" else 3)


def test_the_published_protocol_keeps_nothing_for_controls():
    made = probe(["cutmix"])
    plain = Probe(made.images, made.schemes, shipped(), None, made.base, 64, seed=0, controls=False)
    for one in (made, plain):
        advance(one, 2)
    kept = [
        (len(p.squares), len(t.products), len(t.singles), len(t.shares))
        for p in (made, plain)
        for t in p.tallies.values()
    ]
    assert kept == [(2, 2, 2, 2), (0, 0, 0, 0)]
    np.testing.assert_array_equal(made.tallies["cutmix"].means, plain.tallies["cutmix"].means)


def test_spread_against_all_images():
    made = probe(["identity"])
    found = made.spread(1280, 1280)
    network, p = shipped(), {}
    for epoch in (-1, -2):
        pixels = next(made.images.batches([torch.arange(1280)], made.base, 0, epoch)).images
        x = made.images.normalise(pixels)
        p[epoch] = torch.softmax(network.logits(x), 1).double().numpy()
    np.testing.assert_allclose(found.total, p[-1].var(0, ddof=1), rtol=1e-5)
    linked = np.mean([np.cov(p[-1][:, c], p[-2][:, c])[0, 1] for c in range(10)])
    assert found.between == pytest.approx(linked / np.mean([p[e].var(0, ddof=1).mean() for e in p]), rel=1e-4)
    assert found.exact
    assert not made.spread(1279, 100).exact
    assert made.forwards == 2560 + 1379


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_that_produces_nan_is_named_with_the_sample(value):
    network, row = poisoned(value)
    train = data.load("digits")
    made = probe(["flip"], network)
    made.base = StandardAugmentation("none")
    sample = int(train.sample_id[row])
    with pytest.raises(CheckError, match=rf"NaN or infinite for samples \[{sample}\]"):
        advance(made, 20)
    # The pass over the originals looks too: there the sample must not vanish in a mean.
    with pytest.raises(CheckError, match=rf"samples \[{sample}\]"):
        made.spread(1280, 100)


def test_nan_on_views_is_found_as_well():
    good = shipped()
    network = Network(Poisoned(good.model, lambda x: x.flatten(1).std(1) < 0.3), "p", "resnet8", "", "p")
    made = probe(["cutmix"], network)

    class Flat(schemes.Scheme):
        def _draw(self, images, sample_id, gen):
            return schemes.Draw(self.name)

        def _render(self, images, draw):
            return torch.zeros_like(images)

    made.schemes = made.active = {"cutmix": Flat("cutmix")}
    with pytest.raises(CheckError, match="64 in a batch"):
        advance(made, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 257}, "fewer than one pool"),
        ({"batch_size": 5000}, "fewer than one pool"),
        ({"batch_size": 1}, "at least 2 images"),
        ({"pools": 4}, "at least 5 pools"),
        ({"tol": 0}, "tolerance"),
        ({"confidence": 95}, "confidence"),
        ({"protocol": "wang2021"}, "'wang2022'"),
        ({"draws": "images"}, "granularity"),
        ({"base": "crop"}, "standard augmentation"),
        ({"dataset": "digit"}, "'digits'"),
        ({"data_path": "/nowhere"}, "embedded"),
        ({"device": "tpu9"}, "device"),
        ({"scheme": "cutmx"}, "'cutmix'"),
        ({"scheme": []}, "name a scheme"),
        ({"scheme": "cutmix_pick_student"}, "--student"),
        ({"all_schemes": True}, "not both"),
    ],
)
def test_senseless_options(options, message):
    with pytest.raises(UsageError, match=message):
        evaluate_da(**{"scheme": "cutmix", **options})


def test_largest_batch_that_fits():
    found = evaluate_da("cutmix", batch_size=256, pools=5)
    assert len(found.epoch) == 25
    assert found.results[0].t_stddev.low > 0


def test_all_schemes_skip_what_needs_a_student_and_say_so():
    found = evaluate_da(all_schemes=True, protocol="wang2022", pools=5)
    needy = {"cutmix_pick_student", "cutmix_pick_kl"}
    assert set(found.skipped) == needy
    assert all("--student" in why for why in found.skipped.values())
    assert {r.scheme for r in found.results} == set(schemes.names()) - needy
    ranking = [r.t_stddev.value for r in found.ranking()]
    assert ranking == sorted(ranking)
    assert len(found.frame()) == len(schemes.names()) - 2
    assert found.ranking()[-1].scheme == "same"


def test_devices():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="no device cuda:99"):
        pick_device("cuda:99")


@pytest.mark.parametrize(
    "name",
    [
        "cutmix_pick_teacher",
        "cutmix_pick_dissimilarity",
        "cutmix_pick_student",
        "cutmix_pick_kl(n_pick=20)",
        "pick(pick(cutmix,n_pick=32))",
        "pick(cutmix_pick_teacher,criterion=student)",
        "pick(pick(cutmix,n_pick=100,runs=3),runs=3,n_pick=20)",
        "crop_flip+cutmix_pick_teacher",
        "recursive_mix",
        "flip",
        "grayscale",
        "same",
    ],
)
def test_what_is_tallied_is_what_the_teacher_says_of_the_views(name):
    """Answers are reused within a step; they must be those of the very views that are tallied."""
    teacher, student = shipped(), shipped()
    made = probe([name, "cutmix_pick_teacher", "flip"], teacher, student)
    seen: list[Tensor] = []
    scheme = made.schemes[name]
    original = scheme.apply

    def watched(*args, **kwargs):
        batch = original(*args, **kwargs)
        seen.append(batch.images)
        return batch

    scheme.apply = watched
    advance(made, 4)
    for views, mean in zip(seen, made.tallies[name].means, strict=True):
        fresh = teacher.logits(views).softmax(1).double().mean(0).numpy()
        np.testing.assert_allclose(mean, fresh, atol=1e-6)


def test_nothing_is_asked_twice_in_a_step():
    class Counting(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.images = inner, 0

        def forward(self, x: Tensor) -> Tensor:
            self.images += len(x)
            return self.inner(x)

    good = shipped()
    counting = Counting(good.model)
    network = Network(counting, "counting", "resnet8", "", "counting")
    made = probe(["cutmix_pick_teacher", "cutmix_pick_dissimilarity", "grayscale", "cutmix(p=0)"], network)
    advance(made, 3)
    assert counting.images == 3 * (64 + 128)  # the originals, and one pool for both criteria
    assert made.tallies["cutmix_pick_dissimilarity"].forwards == 3 * (128 + 64)
