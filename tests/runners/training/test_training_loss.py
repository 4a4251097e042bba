"""What a step's loss is made of, against the formula; every objective under every kind of scheme."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_run import World, rows
from torch import Tensor

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import CheckError, UsageError
from kdstats.schemes import PixelSpace
from runners import objectives
from runners.moving_teachers import MovingTeachers
from runners.training.ranks import ALONE
from runners.training.setup import batch_of, prepare
from runners.training.step import sides
from runners.training.student_loss import Side, StudentLoss
from runners.training.teaching import TEACHINGS

B, C = 12, 10


def kl(teacher: Tensor, student: Tensor, t: float = 4.0) -> Tensor:
    p, q = (x.double() / t for x in (teacher, student))
    return t * t * (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1)


@pytest.fixture
def step():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, C, (B,), generator=g)
    x = torch.randn(B, 1, 8, 8, generator=g)
    view = schemes.get("mixup", space=PixelSpace((0.0,), (1.0,))).apply(
        x, labels, torch.arange(B), generator=generator(1, "view")
    )
    logits = [torch.randn(B, C, generator=g) for _ in range(4)]
    return Side(logits[0], logits[1]), Side(logits[2], logits[3]), view, labels


def of(world: World, step, **changes):
    originals, views, view, labels = step
    loss = StudentLoss(world.with_(scheme="mixup", **changes), C)
    kept = originals if changes.get("originals", "kept") == "kept" else None
    return loss.of(kept, views, view, labels, torch.arange(B), slice(0, B), originals.teacher)


def test_the_published_loss(world, step):
    x, v, _, labels = step
    found = of(world, step, gamma=0.1, alpha=0.9)
    expected = 0.1 * F.cross_entropy(x.student.double(), labels) + 0.9 * (
        kl(x.teacher, x.student).mean() + kl(v.teacher, v.student).mean()
    )
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-6)
    torch.testing.assert_close(found.originals.double(), kl(x.teacher, x.student), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.views.double(), kl(v.teacher, v.student), rtol=1e-5, atol=1e-6)


def test_weights_and_temperatures_are_where_they_belong(world, step):
    x, v, _, labels = step
    found = of(world, step, gamma=0.3, alpha=0.5, alpha_views=0.2, temperature=2.0)
    expected = (
        0.3 * F.cross_entropy(x.student.double(), labels)
        + 0.5 * kl(x.teacher, x.student, 2.0).mean()
        + 0.2 * kl(v.teacher, v.student, 2.0).mean()
    )
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-6)


def mixed(view, values: Tensor) -> Tensor:
    lam = view.lam.double()[:, None]
    return lam * values[view.index] + (1 - lam) * values[view.partner_index]


@pytest.mark.parametrize("targets", ["interpolated", "labels"])
def test_other_targets_of_the_views(world, step, targets):
    x, v, view, labels = step
    found = of(world, step, targets=targets, gamma=0.0, alpha=1.0)
    if targets == "labels":
        shares = mixed(view, F.one_hot(labels, C).double())
        own = -(shares * v.student.double().log_softmax(1)).sum(1)
    else:
        own = kl(mixed(view, x.teacher.double()), v.student)
    expected = kl(x.teacher, x.student).mean() + own.mean()
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-6)


def test_replaced_originals_leave_the_views_alone_with_mixed_labels(world, step):
    _, v, view, labels = step
    found = of(world, step, originals="replaced", gamma=0.4, alpha=0.6)
    shares = mixed(view, F.one_hot(labels, C).double())
    ce = -(shares * v.student.double().log_softmax(1)).sum(1)
    assert float(found.loss) == pytest.approx(
        float(0.4 * ce.mean() + 0.6 * kl(v.teacher, v.student).mean()), rel=1e-6
    )
    assert found.originals is None


def test_replaced_originals_with_the_mixed_answers_of_the_teacher(world, step):
    x, v, view, _ = step
    found = of(world, step, originals="replaced", targets="interpolated", gamma=0.0, alpha=1.0)
    expected = kl(mixed(view, x.teacher.double()), v.student).mean()
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-6)


def parameters() -> Iterator[tuple[str, str, object]]:
    """Every parameter of every objective, at its default."""
    for name in objectives.names():
        for key, value in inspect.signature(objectives.objective_class(name)).parameters.items():
            if value.default is not inspect.Parameter.empty:
                yield name, key, value.default


@pytest.mark.parametrize(("name", "key", "value"), list(parameters()))
def test_every_parameter_of_every_objective_can_be_set(world, name, key, value):
    spec = world.with_(
        objective=name, objective_params=((key, value),), beta=0.0 if name in ("kd", "ce", "mix_ce") else 1.0,
        originals="replaced",
    )  # fmt: skip
    if name == "kd":
        with pytest.raises(UsageError, match="is the run's own temperature"):
            StudentLoss(spec, C)
    else:
        StudentLoss(spec, C)


def test_what_is_about_views_is_refused_beside_originals(world):
    with pytest.raises(UsageError, match="is about views"):
        StudentLoss(world.with_(objective="region_consistency", beta=1.0, alpha=0.5), C)
    with pytest.raises(UsageError, match="targets = 'labels' changes nothing"):
        StudentLoss(world.with_(originals="replaced", targets="labels"), C)


def test_views_that_nothing_is_learned_from_are_refused(world):
    with pytest.raises(UsageError, match="would not be learned from: the objective crd has α = 0"):
        StudentLoss(world.with_(objective="crd", gamma=1.0, alpha=0.0, beta=0.8), C)
    StudentLoss(world.with_(objective="crd", gamma=1.0, alpha=0.0, beta=0.8, alpha_views=0.5), C)
    with pytest.raises(UsageError, match="there are none"):
        StudentLoss(world.with_(originals="replaced", alpha_views=0.5), C)


SCHEMES = (
    "identity", "crop_flip", "cutout", "autoaugment", "mixup", "cutmix", "cutmix_pick_teacher",
    "cutmix_pick_student", "recursive_mix",
)  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("objective", objectives.names())
def test_every_objective_under_every_scheme_takes_two_steps(world, tmp_path, objective, scheme):
    published = objectives.objective_class(objective).weights
    replaced = objective in ("mix_ce", "std_logits", "region_consistency", "ce")
    spec = world.with_(
        scheme=scheme,
        objective=objective,
        objective_params=(("k", 16),) if objective == "crd" else (),
        gamma=published.gamma,
        alpha=published.alpha,
        beta=published.beta,
        alpha_views=None if replaced else 0.5,
        originals="replaced" if replaced else "kept",
        student="resnet8",
        recipe=replace(world.spec.recipe, batch_size=16, epochs=1),
    )
    if objective == "region_consistency" and scheme != "recursive_mix":
        with pytest.raises(UsageError, match="it needs recursive_mix"):
            prepare(spec, world.train.head(32), world.teacher, ALONE)
        return
    run = prepare(spec, world.train.head(32), world.teacher, ALONE)
    before = {k: v.clone() for k, v in run.student.state_dict().items()}
    teacher = {k: v.clone() for k, v in world.teacher.model.state_dict().items()}
    run.loss.start_epoch(1)
    for number, (pixels, labels, ids) in enumerate(world.train.batches(torch.arange(32).split(16))):
        run.asking.next_step()
        x = batch_of(pixels, world.train, spec)
        view = run.scheme(spec).apply(
            x,
            labels,
            ids,
            generator=generator(0, "view", number),
            teacher=run.asking.logits,
            student=lambda images: run.student(images).detach(),
        )
        originals, views = sides(run, spec, x, view)
        found = run.loss.of(originals, views, view, labels, ids, slice(0, 16), run.asking(x)[0])
        run.optimiser.zero_grad()
        found.loss.backward()
        run.optimiser.step()
        assert bool(found.loss.isfinite())
    after = run.student.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.equal(v, teacher[k]) for k, v in world.teacher.model.state_dict().items())
    assert all(p.grad is None for p in world.teacher.model.parameters())


def test_replaced_originals_are_not_recorded(world, tmp_path):
    spec = world.with_(originals="replaced", scheme="mixup")
    found = rows(world.run(tmp_path, spec))
    assert set(found["view"]) == {1}
    assert len(found["view"]) == 2 * len(world.train)


def test_a_teacher_is_asked_once_about_equal_images(world, tmp_path, monkeypatch):
    asked = []
    network = world.teacher
    real = type(network).logits
    monkeypatch.setattr(type(network), "logits", lambda self, x: asked.append(len(x)) or real(self, x))
    counts = {}
    for scheme in ("identity", "cutmix"):
        asked.clear()
        world.run(tmp_path, world.with_(scheme=scheme))
        counts[scheme] = sum(asked)
    assert counts["cutmix"] == 2 * counts["identity"] == 4 * len(world.train)


def test_joint_passes_share_one_batch_of_batchnorm(world, tmp_path):
    outcomes = {}
    for passes in ("two", "joint"):
        spec = world.with_(passes=passes, scheme="identity")
        outcomes[passes] = rows(world.run(tmp_path, spec))["s_ce"][: len(world.train)]
    # Equal halves have the statistics of either half: under identity the first epoch's losses are the same numbers.
    assert outcomes["joint"] == pytest.approx(outcomes["two"], rel=2e-2)
    assert (outcomes["joint"] != outcomes["two"]).any()


def test_the_teacher_answers_in_float32_whatever_the_student_trains_in(world):
    spec = world.with_(recipe=replace(world.spec.recipe, precision="bf16"), scheme="cutmix")
    run = prepare(spec, world.train.head(32), world.teacher, ALONE)
    pixels, labels, ids = next(world.train.batches([torch.arange(16)]))
    x = batch_of(pixels, world.train, spec)
    view = run.scheme(spec).apply(x, labels, ids, generator=generator(0, "view"))
    originals, views = sides(run, spec, x, view)
    assert torch.equal(originals.teacher, world.teacher.logits(x))
    assert torch.equal(views.teacher, world.teacher.logits(view.images))
    assert originals.student.dtype == torch.bfloat16


def test_joint_passes_give_the_objective_the_maps_of_the_originals(world):
    spec = world.with_(passes="joint", objective="at", beta=1.0, student="resnet8")
    run = prepare(spec, world.train.head(32), world.teacher, ALONE)
    run.student.eval()
    pixels, labels, ids = next(world.train.batches([torch.arange(16)]))
    x = batch_of(pixels, world.train, spec)
    view = run.scheme(spec).apply(x, labels, ids, generator=generator(0, "view"))
    originals, views = sides(run, spec, x, view)
    logits, maps = run.student(x, features=True)
    torch.testing.assert_close(originals.student, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(views.student, run.student(view.images), rtol=1e-4, atol=1e-5)
    for found, expected in zip(originals.student_features, maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_mean_teacher_is_the_mean_of_the_students_it_saw(world, tmp_path, monkeypatch):
    """decay near 1 with warm-up: the plain mean of the weights after every step."""
    seen, last = [], {}
    real = MovingTeachers.after_step

    def after_step(self, student, step):
        seen.append({k: v.detach().clone() for k, v in student.named_parameters()})
        real(self, student, step)
        last.update({k: v.detach().clone() for k, v in self.models[0].named_parameters()})

    monkeypatch.setattr(MovingTeachers, "after_step", after_step)
    world.run(tmp_path, world.with_(teaching=replace(TEACHINGS["ema"], decay=0.9999)))
    assert len(seen) == 12
    for key, value in last.items():
        torch.testing.assert_close(value, torch.stack([s[key] for s in seen]).mean(0), rtol=1e-4, atol=1e-5)


def test_every_shift_has_its_scheme(world, tmp_path, monkeypatch):
    used = []
    for cls in (type(schemes.get("cutout")), type(schemes.get("mixup"))):
        real = cls.apply
        monkeypatch.setattr(
            cls, "apply", lambda self, *a, _real=real, **k: used.append(self.name) or _real(self, *a, **k)
        )
    teaching = replace(TEACHINGS["dual"], period=4, unit="step", then=("cutout",))
    world.run(tmp_path, world.with_(scheme="mixup", teaching=teaching))
    assert used == ["mixup"] * 4 + ["cutout"] * 4 + ["mixup"] * 4


def test_a_loss_that_is_nan_names_epoch_and_run(world, tmp_path):
    spec = world.with_(recipe=replace(world.spec.recipe, lr=1e25, warmup=0.0))
    with pytest.raises(CheckError, match="epoch"):
        world.run(tmp_path, spec)
