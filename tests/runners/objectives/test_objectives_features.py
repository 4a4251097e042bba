"""The objectives on features against their defining formulas in float64, written out in numpy."""

import numpy as np
import pytest
import torch
from objective_makers import STUDENT, TEACHER, f64, features, logits, rng, same_size

from kdstats.errors import UsageError
from runners import objectives

MID = [(1, 1), (2, 2), (3, 3)]  # f[1:-1], the longer list cut


def evaluate(objective, student, teacher, **more):
    b = len(student[0])
    return objective.evaluate(
        logits(0, b), logits(1, b), None, student_features=student, teacher_features=teacher, **more
    )


def built(name, student=STUDENT, teacher=TEACHER, **params):
    return objectives.get(name, **params).build(student, teacher, classes=5, generator=rng(3))


def pairs(student, teacher):
    return [same_size(f64(student[i]), f64(teacher[j])) for i, j in MID]


@pytest.mark.parametrize("p", [2, 3])
def test_at(p):
    s, t = features(5, STUDENT), features(6, TEACHER)
    expected = 0.0
    for a, b in pairs(s, t):
        maps = []
        for x in (a, b):
            v = (np.abs(x) ** p).mean(1).reshape(len(x), -1)
            maps.append(v / np.sqrt((v**2).sum(1, keepdims=True)))
        expected += ((maps[0] - maps[1]) ** 2).mean()
    found = evaluate(objectives.get("at", p=p), s, t)
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)
    assert found.per_image.shape == (6,)


def test_sp():
    s, t = features(5, STUDENT), features(6, TEACHER)
    grams = []
    for x in (f64(s[-2]), f64(t[-2])):
        flat = x.reshape(6, -1)
        g = np.array([[(flat[i] * flat[j]).sum() for j in range(6)] for i in range(6)])
        grams.append(g / np.linalg.norm(g, axis=1, keepdims=True))
    expected = np.linalg.norm(grams[0] - grams[1], "fro") ** 2 / 36
    found = evaluate(objectives.get("sp"), s, t)
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)
    assert found.per_image is None


def test_pkt():
    s, t = features(5, STUDENT), features(6, TEACHER)
    probabilities = []
    for x in (f64(s[-1]), f64(t[-1])):
        cos = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in x] for a in x])
        probabilities.append((cos + 1) / 2 / ((cos + 1) / 2).sum(1, keepdims=True))
    q, p = probabilities
    expected = (p * np.log((p + 1e-7) / (q + 1e-7))).mean()
    assert float(evaluate(objectives.get("pkt"), s, t).loss) == pytest.approx(expected, rel=1e-4)


def rkd_oracle(s, t):
    def smooth(d):
        return np.where(np.abs(d) < 1, 0.5 * d**2, np.abs(d) - 0.5)

    b = len(s)
    distances, angles = [], []
    for x in (s, t):
        d = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(b)] for i in range(b)])
        distances.append(d / d[d > 0].mean())
        a = np.zeros((b, b, b))
        for k in range(b):
            for i in range(b):
                for j in range(b):
                    if k not in (i, j):
                        e, f = x[i] - x[k], x[j] - x[k]
                        a[k, i, j] = e @ f / np.linalg.norm(e) / np.linalg.norm(f)
        angles.append(a)
    return 25 * smooth(distances[0] - distances[1]).mean(), 50 * smooth(angles[0] - angles[1]).mean()


def test_rkd():
    s, t = features(5, STUDENT), features(6, TEACHER)
    s[-1][0] *= 30  # far away, so that both branches of the smooth L1 loss are met
    distance, angle = rkd_oracle(f64(s[-1]), f64(t[-1]))
    found = evaluate(objectives.get("rkd"), s, t)
    assert float(found.parts["distance"]) == pytest.approx(distance, rel=1e-5)
    assert float(found.parts["angle"]) == pytest.approx(angle, rel=1e-5)


def test_rkd_with_equal_images_has_finite_gradients():
    s = [torch.ones(3, 4, requires_grad=True)]
    loss = evaluate(objectives.get("rkd"), s, [torch.randn(3, 4, generator=rng(0))]).loss
    loss.backward()
    assert bool(s[0].grad.isfinite().all())


def test_nst():
    s, t = features(5, STUDENT), features(6, TEACHER)
    expected = np.zeros(6)
    for a, b in pairs(s, t):
        for n in range(6):
            rows = []
            for x in (a[n], b[n]):
                flat = x.reshape(len(x), -1)
                rows.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
            u, v = rows
            k = lambda x, y: np.mean([(i @ j) ** 2 for i in x for j in y])  # noqa: E731
            expected[n] += k(v, v) + k(u, u) - 2 * k(u, v)
    found = evaluate(objectives.get("nst"), s, t)
    np.testing.assert_allclose(f64(found.per_image), expected, rtol=1e-4)
    assert float(evaluate(objectives.get("nst"), s, s).loss) == pytest.approx(0, abs=1e-6)


def test_cc():
    s, t = features(5, STUDENT), features(6, TEACHER)
    objective = built("cc", dim=8)
    w_s, b_s, w_t, b_t = (f64(p) for p in objective.parameters())
    assert w_s.shape == (8, 7)
    assert w_t.shape == (8, 11)
    delta = np.abs(f64(s[-1]) @ w_s.T + b_s - f64(t[-1]) @ w_t.T - b_t)
    expected = np.mean([(delta[i] * delta[i + 1]).sum() for i in range(5)])
    assert float(evaluate(objective, s, t).loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_vid():
    s, t = features(5, STUDENT), features(6, TEACHER)
    objective = built("vid", variance=2.0)
    state = {k: f64(v) for k, v in objective.named_parameters()}
    expected = np.zeros(6)
    for layer, (a, b) in enumerate(pairs(s, t)):
        for conv in (0, 2, 4):
            a = np.einsum("oc,bchw->bohw", state[f"layers.{layer}.mean.{conv}.weight"][:, :, 0, 0], a)
            a = np.maximum(a, 0) if conv < 4 else a
        variance = np.log1p(np.exp(state[f"layers.{layer}.log_scale"])) + 1e-5
        assert variance == pytest.approx(2.0, rel=1e-6)
        variance = variance[None, :, None, None]
        expected += (0.5 * ((a - b) ** 2 / variance + np.log(variance))).mean((1, 2, 3))
    found = evaluate(objective, s, t)
    np.testing.assert_allclose(f64(found.per_image), expected, rtol=1e-5)


def convolution(x, w, bias, stride, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    k, rows = w.shape[2], (x.shape[2] - w.shape[2]) // stride + 1
    out = np.empty((len(x), len(w), rows, rows))
    for i in range(rows):
        for j in range(rows):
            patch = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, :, i, j] = np.einsum("bcij,ocij->bo", patch, w) + bias
    return out


def transposed(x, w, bias):
    """Every input pixel adds its kernel to the output: 4×4, stride 2, one border row cut."""
    b, _, h, _ = x.shape
    out = np.zeros((b, w.shape[1], 2 * h + 2, 2 * h + 2))
    for i in range(h):
        for j in range(h):
            out[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("bc,coij->boij", x[:, :, i, j], w)
    return out[:, :, 1:-1, 1:-1] + bias[None, :, None, None]


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 4), (4, 8), (6, 6), (7, 4)])
def test_fitnet(student_side, teacher_side):
    shapes = [(3, student_side, student_side)], [(5, teacher_side, teacher_side)]
    objective = objectives.get("fitnet", hint_layer=0).build(*shapes, classes=5, generator=rng(2))
    s, t = features(5, shapes[0]), features(6, shapes[1])
    w, bias, *norm = (f64(p) for p in objective.parameters())
    assert [p.shape for p in (bias, *norm)] == [(5,)] * 3
    if student_side == 2 * teacher_side:
        out = convolution(f64(s[0]), w, bias, 2, 1)
    elif 2 * student_side == teacher_side:
        out = transposed(f64(s[0]), w, bias)
    else:
        out = convolution(f64(s[0]), w, bias, 1, 0)
    mean, var = out.mean((0, 2, 3), keepdims=True), out.var((0, 2, 3), keepdims=True)
    guess = np.maximum((out - mean) / np.sqrt(var + 1e-5), 0)
    expected = ((guess - f64(t[0])) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(f64(evaluate(objective, s, t).per_image), expected, rtol=1e-4)


def test_fitnet_names_hints_that_do_not_fit():
    with pytest.raises(UsageError, match="no feature 7"):
        built("fitnet", hint_layer=7)
    with pytest.raises(UsageError, match="3×3 is smaller than the teacher's 4×4"):
        built("fitnet", hint_layer=3)
    with pytest.raises(UsageError, match="a hint is a map"):
        built("fitnet", hint_layer=4)


def test_networks_without_maps_are_named():
    for name in ("at", "nst"):
        with pytest.raises(UsageError, match="between stem and pooled vector"):
            evaluate(objectives.get(name), features(0, [(4, 8, 8), (4,)]), features(1, TEACHER))
    with pytest.raises(UsageError, match="the student has no feature -2; it has 1: 0: 4"):
        evaluate(objectives.get("sp"), features(0, [(4,)]), features(1, TEACHER))
    with pytest.raises(UsageError, match="compares maps"):
        evaluate(objectives.get("at"), features(0, [(4,)] * 5), features(1, TEACHER))
    with pytest.raises(UsageError, match="between stem and pooled vector"):
        built("vid", student=[(4, 8, 8), (4,)])


def test_building_is_a_function_of_the_generator_and_leaves_the_global_one_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    made = [built(name) for name in ("vid", "vid")]
    assert torch.equal(torch.rand(3), expected)
    first, second = (m.state_dict() for m in made)
    assert all(torch.equal(first[k], second[k]) for k in first if not k.startswith("_extra"))
    other = objectives.get("vid").build(STUDENT, TEACHER, classes=5, generator=rng(4))
    key = "layers.0.mean.0.weight"
    assert not torch.equal(first[key], other.state_dict()[key])
