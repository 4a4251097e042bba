"""Teachers averaged from the student: the rule, whose turn it is, BatchNorm, exact continuation."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdstats import models
from kdstats.errors import UsageError
from runners.moving_teachers import Averaging, MovingTeachers, ShiftSchedule
from runners.objectives.kd import KD
from runners.training.checkpoint import load_state, save_state
from runners.training.teaching import TEACHINGS

STEPS = 5


class Small(nn.Module):
    """A linear map, BatchNorm and dropout, in float64 so that oracles can be exact."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 4)
        )
        self.double()

    def forward(self, images):
        return self.body(images)


def dual_teacher(student, steps, *, schemes):
    """As ``--teaching dual --then`` makes them."""
    first, *then = schemes
    return replace(TEACHINGS["dual"], then=tuple(then)).make(student, first, steps)


def ema_teacher(student, steps, *, scheme="identity", **changes):
    """As ``--teaching ema`` makes it."""
    return replace(TEACHINGS["ema"], **changes).make(student, scheme, steps)


def _student(seed=0):
    torch.manual_seed(seed)
    return Small()


def _images(seed):
    return torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _wander(student, seed):
    """A step of some optimiser: every parameter and buffer moves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        for buffer in student.buffers():
            buffer.add_(2)


def _flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()


def _same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def _run(teachers, student, epochs, first=0):
    """Trains along; returns each update's (epoch, step, teacher, student's weights after it)."""
    history = []
    for epoch in range(first, epochs):
        teachers.before_epoch(epoch)
        for step in range(STEPS):
            place = epoch * STEPS + step
            turn = teachers.shift.teacher
            teachers.logits(_images(place))
            _wander(student, place)
            teachers.after_step(student, step)
            history.append((epoch, step, turn, _flat(student)))
    return history


def test_the_weight_of_the_past():
    rule = Averaging(0.99)
    for i, expected in (
        (0, 0),
        (1, 1 / 2),
        (2, 2 / 3),
        (98, 98 / 99),
        (99, 0.99),
        (100, 0.99),
        (10**6, 0.99),
    ):
        assert rule.weight_at(i) == pytest.approx(expected, abs=1e-15)
    assert Averaging(0.9, warmup=False).weight_at(0) == 0.9


def test_dual_teacher_follows_the_published_rule():
    student = _student()
    teachers = dual_teacher(student, STEPS, schemes=("cutmix", "mixup"))
    expected = [_flat(student)] * 2
    for epoch, step, turn, weights in _run(teachers, student, 4):
        assert turn == epoch % 2
        a = min(1 - 1 / (step + 1), 0.99)  # the iteration inside the epoch
        expected[turn] = a * expected[turn] + (1 - a) * weights
    for model, wanted in zip(teachers.models, expected, strict=True):
        np.testing.assert_allclose(_flat(model), wanted, rtol=1e-12, atol=1e-12)


def test_within_a_short_shift_the_teacher_is_the_mean_of_the_student():
    student = _student()
    teachers = dual_teacher(student, STEPS, schemes=("cutmix", "mixup"))
    history = _run(teachers, student, 3)
    for turn, epoch in ((0, 2), (1, 1)):
        mean = np.mean([weights for e, _, _, weights in history if e == epoch], axis=0)
        np.testing.assert_allclose(_flat(teachers.models[turn]), mean, rtol=1e-12)


def test_a_single_average_over_the_whole_run():
    student = _student()
    teachers = ema_teacher(student, STEPS, decay=0.7, scheme="cutmix")
    expected = _flat(student)
    for i, (_, _, turn, weights) in enumerate(_run(teachers, student, 4)):
        assert turn == 0
        a = min(1 - 1 / (i + 1), 0.7)  # counted over the run
        expected = a * expected + (1 - a) * weights
    np.testing.assert_allclose(_flat(teachers.models[0]), expected, rtol=1e-12)


def test_the_first_update_of_a_shift_copies_whatever_was_there():
    student = _student()
    teachers = dual_teacher(student, STEPS, schemes=("cutmix", "mixup"))
    with torch.no_grad():
        for parameter in teachers.models[1].parameters():
            parameter.fill_(float("nan"))
    teachers.before_epoch(1)
    _wander(student, 3)
    teachers.after_step(student, 0)
    assert np.array_equal(_flat(teachers.models[1]), _flat(student))


def test_who_rests_is_not_touched():
    student = _student()
    teachers = dual_teacher(student, STEPS, schemes=("cutmix", "mixup"))
    _run(teachers, student, 1)
    assert teachers.latest is teachers.models[0]
    rested = copy.deepcopy(teachers.models[0])
    _run(teachers, student, 2, first=1)
    assert teachers.latest is teachers.models[1]
    assert _same(teachers.models[0], rested)
    assert not _same(teachers.models[1], rested)


@given(
    steps=st.integers(1, 6),
    teachers=st.integers(1, 4),
    period=st.integers(1, 5),
    unit=st.sampled_from(["epoch", "step"]),
    restart=st.sampled_from(["shift", "never"]),
    count=st.integers(1, 3),
)
def test_the_schedule_is_what_counting_gives(steps, teachers, period, unit, restart, count):
    names = ("cutmix", "mixup", "flip")[:count]
    schedule = ShiftSchedule(steps, teachers, names, period, unit, restart)
    shift, updates, length = 0, [0] * teachers, period * (steps if unit == "epoch" else 1)
    for place in range(40):
        if place and place % length == 0:
            shift += 1
            if restart == "shift":
                updates = [0] * teachers
        found = schedule.at(*divmod(place, steps))
        turn = shift % teachers
        assert (found.index, found.teacher, found.scheme) == (shift, turn, names[shift % count])
        assert found.iteration == updates[turn]
        updates[turn] += 1


def test_published_shifts_change_with_the_epoch():
    schedule = ShiftSchedule(100, teachers=2, schemes=("cutmix", "autoaugment"))
    turns = [
        (schedule.at(e, 0).teacher, schedule.at(e, 99).scheme, schedule.at(e, 99).iteration) for e in range(4)
    ]
    assert turns == [(0, "cutmix", 99), (1, "autoaugment", 99)] * 2


def _batchnorm(network):
    return network.body[1]


def test_own_buffers_follow_the_teachers_batches_alone():
    student = _student()
    teachers = MovingTeachers(student, ShiftSchedule(STEPS), Averaging(0.9, buffers="own"))
    teacher = teachers.models[0]
    mean = np.zeros(3)
    teachers.before_epoch(0)
    for step in range(STEPS):
        x = _images(step)
        with torch.no_grad():
            inner = teacher.body[0](x).numpy()
        mean = 0.9 * mean + 0.1 * inner.mean(axis=(0, 2, 3))  # BatchNorm's momentum 0.1
        teachers.logits(x)
        _wander(student, step)
        teachers.after_step(student, step)
        np.testing.assert_allclose(_batchnorm(teacher).running_mean.numpy(), mean, rtol=1e-10, atol=1e-12)
    assert int(_batchnorm(teacher).num_batches_tracked) == STEPS
    # Batches are normalised by themselves whatever the statistics, and dropout does not act.
    before = teacher(_images(1))
    _batchnorm(teacher).running_mean.add_(100)
    assert torch.equal(teacher(_images(1)), before)


@pytest.mark.parametrize("buffers", ["averaged", "copied"])
def test_other_buffers_come_from_the_student(buffers):
    student = _student()
    teachers = MovingTeachers(student, ShiftSchedule(STEPS), Averaging(0.6, buffers=buffers))
    assert not any(module.training for module in teachers.models[0].modules())
    expected = _batchnorm(student).running_var.clone().numpy()
    teachers.before_epoch(0)
    for step in range(STEPS):
        teachers.logits(_images(step))  # does not move them
        _wander(student, step)
        teachers.after_step(student, step)
        a = min(1 - 1 / (step + 1), 0.6) if buffers == "averaged" else 0.0
        expected = a * expected + (1 - a) * _batchnorm(student).running_var.numpy()
    own = _batchnorm(teachers.models[0])
    np.testing.assert_allclose(own.running_var.numpy(), expected, rtol=1e-12)
    assert int(own.num_batches_tracked) == int(_batchnorm(student).num_batches_tracked) == 2 * STEPS


def test_gradients_reach_the_student_only():
    student = _student()
    teachers = ema_teacher(student, STEPS)
    images = _images(1)
    answers = teachers.logits(images)
    assert answers.dtype == torch.float32
    assert not answers.requires_grad
    KD(4.0)(student(images), answers, None).backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teachers.models[0].parameters())


@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("buffers", ["own", "averaged"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, unit, buffers):
    def new():
        student = models.build("lenet8", 10, 8, 1)
        schedule = ShiftSchedule(STEPS, 3, ("cutmix", "mixup"), 2, unit)
        return student, MovingTeachers(student, schedule, Averaging(0.8, buffers=buffers))

    def along(student, teachers, places):
        for place in places:
            epoch, step = divmod(place, STEPS)
            if step == 0 or place == places[0]:
                teachers.before_epoch(epoch, step)
            x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(place))
            answers.append(teachers.logits(x))
            _wander(student, place)
            teachers.after_step(student, step)

    torch.manual_seed(0)
    student, teachers = new()
    answers = []
    along(student, teachers, range(23))
    whole, weights = answers, [copy.deepcopy(m) for m in teachers.models]

    torch.manual_seed(0)
    student, teachers = new()
    answers = []
    along(student, teachers, range(13))
    state = {"identity": "x", "student": student.state_dict(), "teachers": teachers.state_dict()}
    save_state(tmp_path / "state.pt", state)
    torch.manual_seed(1)  # another beginning: everything must come from the state
    student, teachers = new()
    state = load_state(tmp_path / "state.pt", "x")
    student.load_state_dict(state["student"])
    teachers.load_state_dict(state["teachers"])
    assert teachers.shift.index == teachers.schedule.at(2, 3).index
    along(student, teachers, range(13, 23))
    assert len(answers) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(answers, whole, strict=True))
    assert all(_same(a, b) for a, b in zip(teachers.models, weights, strict=True))


def test_wrong_use_is_named():
    student = _student()
    teachers = ema_teacher(student, 2)
    with pytest.raises(UsageError, match="waits for step 0 of epoch 0, not step 1"):
        teachers.after_step(student, 1)
    other = Small()
    other.body[0] = nn.Conv2d(2, 3, 1)
    with pytest.raises(UsageError, match=r"not the network.*tensor 0 has the shape \(3, 2, 1, 1\)"):
        teachers.after_step(other, 0)
    with pytest.raises(UsageError, match=r"not the network.*1 tensors instead of"):
        teachers.after_step(nn.Linear(2, 2, bias=False), 0)
    teachers.after_step(student, 0)
    teachers.after_step(student, 1)
    with pytest.raises(UsageError, match="before_epoch"):
        teachers.logits(_images(0))
    with pytest.raises(UsageError, match="an epoch has 2 steps"):
        teachers.before_epoch(1, 2)
    other = ema_teacher(student, 2, decay=0.5)
    with pytest.raises(UsageError, match=r"decay = 0.999, this run has 0.5"):
        other.load_state_dict(teachers.state_dict())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Averaging(1.0), r"\[0, 1\)"),
        (lambda: Averaging(float("nan")), r"\[0, 1\)"),
        (lambda: Averaging(buffers="copy"), "copied"),
        (lambda: ShiftSchedule(0), "steps_per_epoch"),
        (lambda: ShiftSchedule(5, teachers=True), "teachers"),
        (lambda: ShiftSchedule(5, period=0), "period"),
        (lambda: ShiftSchedule(5, unit="epochs"), "epoch"),
        (lambda: ShiftSchedule(5, restart="epoch"), "restart"),
        (lambda: ShiftSchedule(5, schemes=()), "at least one"),
        (lambda: ShiftSchedule(5, schemes=("cutmx",)), "cutmix"),
    ],
)
def test_senseless_settings_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()
