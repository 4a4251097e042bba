"""What every objective owes: gradients, precision, errors with names; each on pairs of real networks."""

import json

import pytest
import torch
from objective_makers import STUDENT, TEACHER, features, logits, rng, view_of

from kdstats import models, schemes
from kdstats.draws.keys import generator
from kdstats.errors import CheckError, UsageError
from runners import objectives
from runners.objectives.__main__ import main

NAMES = objectives.names()
WITH_FEATURES = [n for n in NAMES if "features" in objectives.objective_class(n).needs]
B, C = 6, 5
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def build(objective, student=STUDENT, teacher=TEACHER, classes=C, seed=3):
    return objective.build(
        student, teacher, classes=classes, generator=rng(seed), train_labels=torch.arange(20) % 4
    )


def ready(name, **params):
    """An objective that has seen a first batch of views, and the arguments of the second."""
    objective = build(objectives.get(name, **params))
    given = arguments(0)
    objective.start_epoch(1)
    objective(**given | {"view": view_of(1.0, LABELS, LABELS)})
    return objective, arguments(10)


def arguments(seed):
    return {
        "student_logits": logits(seed, B, C).requires_grad_(),
        "teacher_logits": logits(seed + 1, B, C).requires_grad_(),
        "labels": LABELS,
        "student_features": features(seed + 2, STUDENT, B, grad=True),
        "teacher_features": features(seed + 3, TEACHER, B, grad=True),
        "sample_id": torch.arange(B),
        "view": view_of(0.6, LABELS, LABELS.flip(0), range(B), True, [[0, 5, 0, 5]]),
    }


PAIRS = [
    ("resnet8x4", "resnet8"),
    ("wrn_16_2", "wrn_16_1"),
    ("vgg8", "MobileNetV2"),
    ("resnet8x4", "ShuffleV1"),
    ("wrn_16_1", "ShuffleV2"),
]


@pytest.fixture(scope="module", params=PAIRS, ids="/".join)
def pair(request):
    """Two batches of recursive views through two networks, the graph of the student kept."""
    torch.manual_seed(0)
    teacher, student = (models.build(name, C, 32) for name in request.param)
    teacher.eval()
    student.eval()  # untrained networks of a small batch are tame only in evaluation mode
    scheme = schemes.get("recursive_mix")
    images = torch.randn(4, 3, 32, 32, generator=rng(1))
    batches = []
    for step in range(2):
        view = scheme.apply(images, LABELS[:4], torch.arange(4), generator=generator(1, step))
        student_logits, student_features = student(view.images, features=True)
        teacher_logits, teacher_features = teacher(view.images, features=True)
        batches.append(
            {
                "student_logits": student_logits,
                "teacher_logits": teacher_logits,
                "student_features": student_features,
                "teacher_features": teacher_features,
                "labels": LABELS[:4],
                "sample_id": torch.arange(4),
                "view": view,
            }
        )
    return student, teacher, batches


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_trains_every_pair(name, pair):
    student, teacher, (first, second) = pair
    shapes = [objectives.shapes_of(first[f"{who}_features"]) for who in ("student", "teacher")]
    objective = build(objectives.get(name), *shapes)
    objective.start_epoch(1)
    objective(**first)
    state = {k: v.clone() for k, v in teacher.state_dict().items()}
    student.zero_grad(set_to_none=True)
    found = objective.evaluate(**second)
    found.loss.backward(retain_graph=True)
    assert found.loss.dtype == torch.float32
    grads = [p.grad for p in student.parameters() if p.grad is not None]
    assert all(bool(g.isfinite().all()) for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(state[k], v) for k, v in teacher.state_dict().items())
    own = list(objective.parameters())
    assert bool(own) == ("modules" in objective.needs)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in own)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_student_and_own_modules_only(name):
    objective, given = ready(name)
    objective(**given).backward()
    assert given["teacher_logits"].grad is None
    assert all(f.grad is None for f in given["teacher_features"])
    moved = [given["student_logits"], *given["student_features"]]
    assert any(t.grad is not None and float(t.grad.abs().sum()) > 0 for t in moved)
    assert all(float(p.grad.abs().sum()) > 0 for p in objective.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_teachers_asked_in_inference_mode(name):
    first, given = ready(name)
    expected = first(**given)
    second, given = ready(name)
    with torch.inference_mode():
        given["teacher_logits"] = given["teacher_logits"] * 1
        given["teacher_features"] = [f * 1 for f in given["teacher_features"]]
    loss = second(**given)
    loss.backward()
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_computed_in_float32(name):
    first, given = ready(name)
    rounded = {
        k: v.detach().bfloat16()
        if isinstance(v, torch.Tensor) and v.is_floating_point()
        else [f.detach().bfloat16() for f in v]
        if isinstance(v, list)
        else v
        for k, v in given.items()
    }
    widened = {
        k: v.float()
        if isinstance(v, torch.Tensor) and v.is_floating_point()
        else [f.float() for f in v]
        if isinstance(v, list)
        else v
        for k, v in rounded.items()
    }
    expected = first(**widened)
    second, _ = ready(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = second(**rounded)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("name", NAMES)
def test_parts_sum_to_the_loss_and_images_average_to_it(name):
    objective, given = ready(name)
    state = objective.state_dict()
    found = objective.evaluate(**given)
    assert float(sum(found.parts.values())) == pytest.approx(float(found.loss.detach()), rel=1e-6)
    assert (found.per_image is None) == (not objective.separable)
    if found.per_image is None:
        with pytest.raises(UsageError, match="no loss per image"):
            objective.per_image(**given)
    else:
        assert found.per_image.shape == (B,)
        torch.testing.assert_close(found.per_image.mean(), found.loss)
        again, _ = ready(name)
        again.load_state_dict(state)
        assert torch.equal(again.per_image(**given), found.per_image)


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_nan_is_named_with_its_place(name):
    objective, given = ready(name)
    bad = [f.detach().clone() for f in given["student_features"]]
    for f in bad:
        f[4].flatten()[:1] = float("nan")
    with pytest.raises(
        CheckError, match=rf"the loss {name} is nan: feature 0 of the student: NaN in rows 4 \(sample ids 4\)"
    ):
        objective(**given | {"student_features": bad})
    objective, given = ready(name)
    objective.check = False
    assert not bool(objective(**given | {"student_features": bad}).isfinite())


def test_infinite_logits_and_broken_parameters_are_named():
    bad = logits(0)
    bad[2, 1] = float("inf")
    with pytest.raises(CheckError, match="teacher logits: infinity in rows 2"):
        objectives.get("kd")(logits(1), bad)
    objective, given = ready("cc")
    with torch.no_grad():
        objective.student.weight[0, 0] = float("nan")
    with pytest.raises(CheckError, match=r"own parameters student\.weight"):
        objective(**given)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"student_logits": torch.ones(5)}, UsageError, r"\[B, C\], not \[5\]"),
        ({"teacher_logits": torch.ones(6, 4)}, UsageError, r"\[6, 5\], the teacher's \[6, 4\]"),
        ({"teacher_logits": None}, UsageError, "teacher's logits"),
        ({"labels": torch.zeros(5, dtype=torch.long)}, UsageError, r"\[6\] classes or \[6, 5\] shares"),
        ({"labels": torch.zeros(6)}, UsageError, "whole numbers"),
        ({"labels": torch.full((6,), 5)}, CheckError, "label 5 in row 0, but the student has classes 0…4"),
        ({"labels": torch.ones(6, 5)}, CheckError, "not a distribution"),
        ({"labels": None, "view": None}, UsageError, "needs labels"),
        ({"sample_id": torch.arange(3)}, UsageError, r"sample ids of shape \[3\]"),
        ({"view": view_of(1.0, [0], [0])}, UsageError, "but 1 views"),
        ({"student_features": features(0, STUDENT, 3)}, UsageError, "feature 0 of the student has 3 rows"),
    ],
)
def test_what_does_not_fit_together_is_named(changes, error, text):
    with pytest.raises(error, match=text):
        objectives.get("dkd")(**arguments(0) | changes)


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_missing_features_are_named(name):
    objective, given = ready(name)
    for who in ("student", "teacher"):
        with pytest.raises(UsageError, match=rf"{name} needs {who}_features"):
            objective(**given | {f"{who}_features": None})


@pytest.mark.parametrize("name", [n for n in NAMES if "modules" in objectives.objective_class(n).needs])
def test_modules_are_built_first_and_for_these_shapes(name):
    with pytest.raises(UsageError, match="call build"):
        objectives.get(name)(**arguments(0))
    objective, given = ready(name)
    wrong = features(0, ((4, 8, 8), (5, 8, 8), (6, 8, 8), (8, 3, 3), (7,)))
    with pytest.raises(UsageError, match=r"built for student features .*7×3×3.*, these are .*8×3×3"):
        objective(**given | {"student_features": wrong})


@pytest.mark.parametrize("name", ["sp", "cc", "rkd", "pkt"])
def test_one_image_cannot_be_compared(name):
    objective = build(objectives.get(name))
    one = {k: v for k, v in arguments(0).items() if k in ("student_logits", "teacher_logits")}
    with pytest.raises(UsageError, match="at least 2, not 1"):
        objective(**{k: v[:1] for k, v in one.items()})
    assert objective.least == 2


def test_names_aliases_and_parameters():
    assert objectives.get("CE").name == "ce"
    assert objectives.get("region-consistency").name == "region_consistency"
    assert objectives.get("hint", layer=1).hint_layer == 1
    for alias, name in objectives.ALIASES.items():
        assert objectives.get(alias).name == name
        assert alias not in NAMES
    with pytest.raises(UsageError, match="'kd'"):
        objectives.get("kdd")
    with pytest.raises(UsageError, match="temprature.*'temperature'"):
        objectives.get("kd", temprature=3)
    with pytest.raises(UsageError, match="no parameters; T was given"):
        objectives.get("sp", T=4)
    with pytest.raises(UsageError, match="twice, once as kd_T"):
        objectives.get("kd", temperature=3, kd_T=3)


def test_the_table_has_a_row_for_each(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert main(["--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == NAMES
    assert all(row["formula"] and row["source"] and row["needs"] for row in rows)
    assert next(r for r in rows if r["name"] == "at")["beta"] == 1000


def test_epochs_count_from_one():
    with pytest.raises(UsageError, match="from 1, not 0"):
        objectives.get("kd").start_epoch(0)
