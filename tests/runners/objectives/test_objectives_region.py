"""Region consistency: RoIAlign by its definition, heads, history, and real views of recursive_mix."""

import math

import numpy as np
import pytest
import torch
from objective_makers import f64, logits, rng, softmax, view_of

from kdstats import models, schemes
from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from runners import objectives

SHAPES = [(2, 8, 8), (3, 8, 8), (3,)]


def region(maps, box, side):
    """Mean of bilinear samples on a regular grid in the continuous box, pixel centres at whole numbers."""
    d, h, w = maps.shape
    top, bottom, left, right = (edge * h / side - 0.5 for edge in box)
    rows, columns = math.ceil(bottom - top), math.ceil(right - left)
    total = np.zeros(d)
    for i in range(rows):
        for j in range(columns):
            y = min(max(top + (i + 0.5) * (bottom - top) / rows, 0), h - 1)
            x = min(max(left + (j + 0.5) * (right - left) / columns, 0), w - 1)
            y0, x0 = min(int(y), h - 2), min(int(x), w - 2)
            fy, fx = y - y0, x - x0
            total += (1 - fy) * ((1 - fx) * maps[:, y0, x0] + fx * maps[:, y0, x0 + 1])
            total += fy * ((1 - fx) * maps[:, y0 + 1, x0] + fx * maps[:, y0 + 1, x0 + 1])
    return total / max(rows * columns, 1)


def built(**params):
    return objectives.get("region_consistency", **params).build(SHAPES, [], classes=5, generator=rng(3))


@pytest.mark.parametrize("target", ["student", "teacher"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_loss_is_its_definition(target, per):
    side, objective = 32, built(target=target)
    before, now, teacher_before = logits(0), logits(1), logits(2)
    labels = [0, 1, 2, 3, 4, 0]
    objective.start_epoch(1)
    first = objective.evaluate(
        before, teacher_before, view=view_of(1.0, labels, labels), student_features=maps_of(1)
    )
    assert float(first.loss) == 0
    boxes = [[3, 20, 5, 29]] if per == "batch" else [[3, 20, 5, 29], [0, 5, 0, 7], [10, 32, 9, 32]] * 2
    area = [(b - a) * (d - c) for a, b, c, d in boxes]
    lam = 1 - torch.tensor(area, dtype=torch.float64) / side**2
    partner = [0, 1, 2, 3, 4, 5]
    view = view_of(lam.expand(6) if per == "batch" else lam, labels, labels, partner, True, boxes, side)
    features = maps_of(2)
    found = objective.evaluate(now, logits(3), view=view, student_features=features)
    w, b = (f64(p) for p in objective.parameters())
    p = softmax(f64(before if target == "student" else teacher_before))
    expected = []
    for n in range(6):
        i = 0 if per == "batch" else n
        pooled = region(f64(features[-2])[n], boxes[i], side)
        log_q = np.log(softmax((w @ pooled + b)[None]))[0]
        expected.append((1 - float(lam[i])) * -(p[n] * log_q).sum())
    np.testing.assert_allclose(f64(found.per_image), expected, rtol=1e-4)


def maps_of(seed):
    gen = rng(seed)
    maps = [torch.randn(6, *shape, generator=gen) for shape in SHAPES[:2]]
    return [*maps, maps[-1].mean((2, 3))]


def test_history_must_have_been_seen_and_is_kept_for_a_resume():
    objective, other = built(), built()
    labels = [0] * 6
    view = view_of(0.5, labels, labels, range(6), True, [[0, 23, 0, 22]], 32)
    with pytest.raises(UsageError, match="batch before"):
        objective(logits(0), view=view, student_features=maps_of(1))
    objective.start_epoch(1)
    objective(logits(0), view=view_of(1.0, labels, labels), student_features=maps_of(1))
    other.load_state_dict(objective.state_dict())
    losses = [o(logits(1), view=view, student_features=maps_of(2)) for o in (objective, other)]
    assert torch.equal(*losses)
    objective.start_epoch(2)
    with pytest.raises(UsageError, match="batch before"):
        objective(logits(0), view=view, student_features=maps_of(1))


def test_other_mixing_schemes_and_heads_that_do_not_fit_are_named():
    labels = [0] * 6
    with pytest.raises(UsageError, match="not of cutmix"):
        built()(logits(0), view=view_of(0.5, labels, labels), student_features=maps_of(1))
    with pytest.raises(UsageError, match="needs view"):
        built()(logits(0), student_features=maps_of(1))
    with pytest.raises(UsageError, match="'shared'"):
        objectives.get("region_consistency", head="share")
    shared = objectives.get("region_consistency", head="shared")
    with pytest.raises(UsageError, match="head="):
        shared.build(SHAPES, [], classes=5, generator=rng(0))
    with pytest.raises(UsageError, match="reads 9 numbers, its last map has 3"):
        shared.build([*SHAPES[:2], (9,)], [], classes=5, generator=rng(0), head=torch.nn.Linear(9, 5))


@pytest.mark.parametrize(("arch", "fits"), [("resnet8", True), ("vgg8", True), ("wrn_16_1", False)])
def test_shared_head_on_real_views(arch, fits):
    torch.manual_seed(0)
    student = models.build(arch, 5, 32)
    head = student.get_submodule(student.HEAD)
    scheme = schemes.get("recursive_mix")
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    objective = objectives.get("region_consistency", head="shared")
    for step in range(2):
        view = scheme.apply(images, labels, generator=generator(1, step))
        out, features = student(view.images, features=True)
        if step == 0:
            shapes = objectives.shapes_of(features)
            objective.build(shapes, shapes, classes=5, generator=rng(0), head=head)
            assert not list(objective.parameters())  # the head is the student's
        if step == 1 and not fits:
            with pytest.raises(UsageError, match="does not read the mean of its last map"):
                objective(out, view=view, student_features=features)
            return
        loss = objective(out, view=view, student_features=features)
        if step == 0:
            before = out.detach()
    loss.backward()
    assert float(head.weight.grad.abs().sum()) > 0
    box = view.draw.params["box"][0].tolist()
    pooled = np.stack([region(m, box, 32) for m in f64(features[-2])])
    log_q = np.log(softmax(pooled @ f64(head.weight).T + f64(head.bias)))
    expected = (1 - f64(view.lam)) * -(softmax(f64(before)) * log_q).sum(1)
    assert float(loss.detach()) == pytest.approx(expected.mean(), rel=1e-4)


def test_whole_map_is_its_mean():
    """A box over the whole view averages the map, up to the border that bilinear samples share."""
    objective = built()
    features = maps_of(4)
    features[-2] = features[-2].mean((2, 3), keepdim=True).expand(-1, -1, 8, 8).clone()
    labels = [0] * 6
    objective(logits(0), view=view_of(1.0, labels, labels), student_features=features)
    view = view_of(0.0, labels, labels, range(6), True, [[0, 32, 0, 32]], 32)
    found = objective.evaluate(logits(1), view=view, student_features=features)
    w, b = (f64(p) for p in objective.parameters())
    log_q = np.log(softmax(f64(features[-1]) @ w.T + b))
    np.testing.assert_allclose(f64(found.per_image), -(softmax(f64(logits(0))) * log_q).sum(1), rtol=1e-5)
