"""The objectives against their formulas in float64."""

import numpy as np
import pytest
import torch

from kdstats.errors import UsageError
from runners import objectives


def _logits(seed, shape=(6, 5)):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def _softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize(("t_teacher", "t_student"), [(4.0, None), (2.0, 5.0), (1.0, 1.0)])
def test_kd_is_t_squared_times_kl(t_teacher, t_student):
    student, teacher = _logits(0), _logits(1)
    loss = objectives.get("kd", temperature=t_teacher, student_temperature=t_student)(student, teacher, None)
    t_s = t_student or t_teacher
    p = _softmax(teacher.double().numpy() / t_teacher)
    q = _softmax(student.double().numpy() / t_s)
    assert float(loss) == pytest.approx(t_s**2 * (p * np.log(p / q)).sum(1).mean(), rel=1e-6)


def test_kd_is_zero_for_equal_networks_and_moves_the_student_only():
    teacher = _logits(1).requires_grad_()
    student = _logits(1).requires_grad_()
    loss = objectives.get("kd")(student, teacher, None)
    assert abs(float(loss.detach())) < 1e-6
    other = _logits(2).requires_grad_()
    objectives.get("kd")(other, teacher, None).backward()
    assert teacher.grad is None
    assert float(other.grad.abs().sum()) > 0


def test_ce_is_mean_negative_log_likelihood():
    student, labels = _logits(0), torch.tensor([0, 1, 2, 3, 4, 0])
    p = _softmax(student.double().numpy())
    expected = -np.log(p[np.arange(6), labels.numpy()]).mean()
    assert float(objectives.get("ce")(student, None, labels)) == pytest.approx(expected, rel=1e-6)


def test_names_and_parameters_are_checked():
    with pytest.raises(UsageError, match="'kd'"):
        objectives.get("kdd")
    with pytest.raises(UsageError, match="temprature"):
        objectives.get("kd", temprature=3)
    with pytest.raises(UsageError, match="positive"):
        objectives.get("kd", temperature=0)
