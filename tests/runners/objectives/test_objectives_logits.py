"""The objectives on logits against their formulas in float64."""

import numpy as np
import pytest
import torch
from objective_makers import f64, logits, softmax, view_of

from kdstats.errors import CheckError, UsageError
from runners import objectives


@pytest.mark.parametrize(("t_teacher", "t_student"), [(4.0, None), (2.0, 5.0), (1.0, 1.0)])
def test_kd_is_t_squared_times_kl(t_teacher, t_student):
    student, teacher = logits(0), logits(1)
    loss = objectives.get("kd", temperature=t_teacher, student_temperature=t_student)(student, teacher, None)
    t_s = t_student or t_teacher
    p, q = softmax(f64(teacher) / t_teacher), softmax(f64(student) / t_s)
    assert float(loss) == pytest.approx(t_s**2 * (p * np.log(p / q)).sum(1).mean(), rel=1e-6)
    published = objectives.get("kd", kd_T=t_teacher, kd_S=t_s)
    assert torch.equal(published(student, teacher), loss)


def test_kd_is_zero_for_equal_networks_and_moves_the_student_only():
    teacher = logits(1).requires_grad_()
    student = logits(1).requires_grad_()
    loss = objectives.get("kd")(student, teacher, None)
    assert abs(float(loss.detach())) < 1e-6
    other = logits(2).requires_grad_()
    objectives.get("kd")(other, teacher, None).backward()
    assert teacher.grad is None
    assert float(other.grad.abs().sum()) > 0


def test_ce_is_mean_negative_log_likelihood_of_classes_or_shares():
    student, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 0])
    p = softmax(f64(student))
    expected = -np.log(p[np.arange(6), labels.numpy()]).mean()
    assert float(objectives.get("ce")(student, None, labels)) == pytest.approx(expected, rel=1e-6)
    shares = torch.full((6, 5), 0.1) + 0.5 * torch.eye(5)[labels]
    expected = -(f64(shares) * np.log(p)).sum(1).mean()
    assert float(objectives.get("ce")(student, None, shares)) == pytest.approx(expected, rel=1e-6)


def test_mix_ce_mixes_two_cross_entropies():
    student, y, partner = logits(0), [0, 1, 2, 3, 4, 0], [1, 1, 0, 4, 2, 3]
    lam = torch.tensor([0.3, 1.0, 0.0, 0.5, 0.9, 0.75])
    log_p = np.log(softmax(f64(student)))
    rows = np.arange(6)
    expected = -(f64(lam) * log_p[rows, y] + (1 - f64(lam)) * log_p[rows, partner])
    objective = objectives.get("mix_ce")
    found = objective.evaluate(student, None, None, view=view_of(lam, y, partner))
    np.testing.assert_allclose(f64(found.per_image), expected, rtol=1e-6)
    assert float(found.loss) == pytest.approx(expected.mean(), rel=1e-6)


def test_mix_ce_fuses_the_labels_of_recursive_views():
    first, second, third = logits(0), logits(1), logits(2)
    objective = objectives.get("mix_ce")
    objective.start_epoch(1)
    objective(first, view=view_of(1.0, [0, 1, 2, 3, 4, 0], [0] * 6))
    middle = view_of(0.6, [1, 1, 1, 2, 2, 2], [0] * 6, partner=[0, 1, 2, 3, 4, 5], recursive=True)
    last = view_of(0.75, [3, 3, 3, 4], [0] * 4, partner=[3, 2, 1, 0], recursive=True)
    eye = np.eye(5)
    fused = 0.6 * eye[[1, 1, 1, 2, 2, 2]] + 0.4 * eye[[0, 1, 2, 3, 4, 0]]
    expected = -(fused * np.log(softmax(f64(second)))).sum(1)
    np.testing.assert_allclose(f64(objective.per_image(second, view=middle)), expected, rtol=1e-6)
    saved = objective.state_dict()
    fused = 0.75 * eye[[3, 3, 3, 4]] + 0.25 * fused[[3, 2, 1, 0]]
    expected = -(fused * np.log(softmax(f64(third[:4])))).sum(1)
    np.testing.assert_allclose(f64(objective.per_image(third[:4], view=last)), expected, rtol=1e-6)
    resumed = objectives.get("mix_ce")
    resumed.load_state_dict(saved)
    resumed.start_epoch(1)  # saying the same epoch again forgets nothing
    np.testing.assert_allclose(f64(resumed.per_image(third[:4], view=last)), expected, rtol=1e-6)
    resumed.start_epoch(2)
    with pytest.raises(UsageError, match="batch before"):
        resumed(third[:4], view=last)


def std_logits_oracle(version, student, teacher, shares, gamma, alpha, temperature, scale):
    s, t = f64(student), f64(teacher)
    sigma = lambda z: np.sqrt(((z - z.mean(1, keepdims=True)) ** 2).sum(1, keepdims=True) / (z.shape[1] - 1))  # noqa: E731
    if version == "v1":
        p, q, factor = softmax(t / temperature), softmax(s / temperature), temperature**2
    else:
        p, q, factor = softmax(t / sigma(t)), softmax(s / sigma(s)), scale**2
    hard = softmax(scale * s / sigma(s)) if version == "v2" else softmax(s)
    ce = -(shares * np.log(hard)).sum(1).mean()
    return gamma * ce, alpha * factor * (p * np.log(p / q)).sum(1).mean()


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_std_logits_in_its_three_versions(version, scale):
    student, teacher = logits(0), logits(1)
    y, partner, lam = [0, 1, 2, 3, 4, 0], [1, 1, 0, 4, 2, 3], 0.3
    shares = lam * np.eye(5)[y] + (1 - lam) * np.eye(5)[partner]
    objective = objectives.get("std_logits", version=version, temperature=3.0, scale_T=scale)
    found = objective.evaluate(student, teacher, view=view_of(lam, y, partner))
    ce, kl = std_logits_oracle(version, student, teacher, shares, 0.1, 0.9, 3.0, scale)
    assert float(found.parts["ce"]) == pytest.approx(ce, rel=1e-5)
    assert float(found.parts["kl"]) == pytest.approx(kl, rel=1e-5)
    assert float(found.loss) == pytest.approx(ce + kl, rel=1e-5)


def test_std_logits_gradient_flows_through_the_deviation():
    """Rescaled logits do not change when all are multiplied, so the gradient is orthogonal to them."""
    student = logits(0).requires_grad_()
    objectives.get("std_logits")(student, logits(1), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
    along = (student.grad * student.detach()).sum(1).abs()
    assert float(along.max()) < 1e-6
    assert float(student.grad.abs().max()) > 1e-3


def dkd_oracle(student, teacher, y, target, non_target, temperature):
    tckd, nckd = [], []
    for s, t, k in zip(f64(student) / temperature, f64(teacher) / temperature, y, strict=True):
        p, q = softmax(t), softmax(s)
        b_t, b_s = np.array([p[k], 1 - p[k]]), np.array([q[k], 1 - q[k]])
        tckd.append((b_t * np.log(b_t / b_s)).sum())
        p, q = np.delete(p, k), np.delete(q, k)
        p, q = p / p.sum(), q / q.sum()
        nckd.append((p * np.log(p / q)).sum())
    return temperature**2 * target * np.mean(tckd), temperature**2 * non_target * np.mean(nckd)


@pytest.mark.parametrize(("target", "non_target", "temperature"), [(1.0, 8.0, 4.0), (2.0, 0.5, 1.0)])
def test_dkd_splits_target_and_others(target, non_target, temperature):
    student, teacher, y = logits(0), logits(1), [0, 1, 2, 3, 4, 0]
    objective = objectives.get("dkd", alpha=target, beta=non_target, temperature=temperature)
    found = objective.evaluate(student, teacher, torch.tensor(y))
    first, second = dkd_oracle(student, teacher, y, target, non_target, temperature)
    assert float(found.parts["target"]) == pytest.approx(first, rel=1e-5)
    assert float(found.parts["non_target"]) == pytest.approx(second, rel=1e-5)


def test_dkd_with_the_teachers_own_weights_is_kd():
    """KL(p_t ‖ p_s) = KL(b_t ‖ b_s) + (1 − p_t[y]) KL(q_t ‖ q_s), image by image."""
    student, teacher, y = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 0])
    for row in range(6):
        s, t, k = student[row : row + 1], teacher[row : row + 1], y[row : row + 1]
        weight = float(1 - (t / 4).softmax(1)[0, k])
        dkd = objectives.get("dkd", target=1.0, non_target=weight)
        assert float(dkd(s, t, k)) == pytest.approx(float(objectives.get("kd")(s, t)), rel=1e-5)


def test_dkd_warms_up_over_epochs_and_takes_the_larger_share_as_its_class():
    student, teacher, y = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 0])
    objective = objectives.get("dkd", warmup=20)
    full = float(objective(student, teacher, y))
    for epoch, factor in ((1, 0.05), (10, 0.5), (20, 1.0), (30, 1.0)):
        objective.start_epoch(epoch)
        assert float(objective(student, teacher, y)) == pytest.approx(factor * full, rel=1e-6)
    again = objectives.get("dkd", warmup=20)
    objective.start_epoch(10)
    again.load_state_dict(objective.state_dict())
    assert float(again(student, teacher, y)) == pytest.approx(0.5 * full, rel=1e-6)
    view = view_of([0.6, 0.5, 0.4, 1, 0, 0.2], [0, 1, 4, 3, 2, 2], [1, 3, 2, 0, 4, 0])
    again.start_epoch(99)
    assert float(again(student, teacher, view=view)) == pytest.approx(full, rel=1e-6)


def test_extreme_logits_stay_finite():
    student, teacher = torch.zeros(2, 3), torch.tensor([[200.0, 0, -200], [-300, 300, 0]])
    y = torch.tensor([0, 1])
    for name in ("kd", "ce", "dkd"):
        for a, b in ((student, teacher), (teacher, student), (teacher, teacher)):
            leaf = a.clone().requires_grad_()
            objectives.get(name, **({"temperature": 1.0} if name != "ce" else {}))(leaf, b, y).backward()
            assert bool(leaf.grad.isfinite().all())


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("kd", {"temperature": 0}),
        ("kd", {"temperature": float("nan")}),
        ("kd", {"temperature": "hot"}),
        ("dkd", {"temperature": -1}),
        ("dkd", {"warmup": -1}),
        ("std_logits", {"scale": 0}),
        ("std_logits", {"version": "v4"}),
        ("std_logits", {"gamma": -0.1}),
        ("fitnet", {"hint_layer": 1.5}),
        ("vid", {"variance": 1e-6}),
        ("rkd", {"angle": float("inf")}),
        ("at", {"p": 0}),
        ("cc", {"dim": 2.5}),
    ],
)
def test_parameters_that_make_no_sense(name, params):
    with pytest.raises(UsageError, match=f"{next(iter(params))}|kind of value|'v1'"):
        objectives.get(name, **params)


def test_equal_logits_of_an_image_are_named_by_std_logits():
    student = logits(0)
    student[2] = 1.5
    with pytest.raises(CheckError, match="std_logits is nan"):
        objectives.get("std_logits")(student, logits(1), torch.tensor([0, 1, 2, 3, 4, 0]))
