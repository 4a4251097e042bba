"""γ CE + α KL + β L: weights exact, parts apart, state and modules of the parts."""

import pytest
import torch
from objective_makers import STUDENT, TEACHER, features, logits, rng

from kdstats.errors import CheckError, UsageError
from runners import objectives
from runners.objectives import Total, get, total

Y = torch.tensor([0, 1, 2, 3, 4, 0])
S, T = features(5, STUDENT), features(6, TEACHER)
FEATURES = {"student_features": S, "teacher_features": T}


def test_the_sum_is_exact_and_its_parts_are_told():
    student, teacher = logits(0), logits(1)
    rkd = get("rkd")
    found = Total(0.25, 2.0, 0.5, soft=get("kd", temperature=3.0), other=rkd).evaluate(
        student, teacher, Y, **FEATURES
    )
    ce, kd = get("ce")(student, None, Y), get("kd", temperature=3.0)(student, teacher)
    other = rkd.evaluate(student, teacher, Y, **FEATURES)
    # Powers of two: no rounding but that of the sum.
    assert torch.equal(found.loss, (0.25 * ce + 2.0 * kd) + 0.5 * other.loss)
    assert list(found.parts) == ["ce", "kd", "rkd", "rkd.distance", "rkd.angle"]
    assert torch.equal(found.parts["rkd.angle"], other.parts["angle"])
    assert torch.equal(found.weighted["kd"], 2.0 * kd)
    assert set(found.per_image) == {"ce", "kd"}
    assert torch.equal(found.per_image["kd"].mean(), kd)


def test_gradients_add_up_with_the_weights():
    teacher, grads = logits(1), {}
    for name, loss in {
        "sum": Total(0.1, 0.9),
        "ce": get("ce"),
        "kd": get("kd"),
    }.items():
        student = logits(0).requires_grad_()
        loss(student, teacher, Y).backward()
        grads[name] = student.grad
    torch.testing.assert_close(grads["sum"], 0.1 * grads["ce"] + 0.9 * grads["kd"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("kd", {"kd": 0.9, "ce": 0.1}),
        ("ce", {"ce": 1}),
        ("mix_ce", {"mix_ce": 1}),
        ("std_logits", {"std_logits": 1}),
        ("at", {"ce": 1, "at": 1000}),
        ("sp", {"ce": 1, "sp": 3000}),
        ("cc", {"ce": 1, "cc": 0.02}),
        ("vid", {"ce": 1, "vid": 1}),
        ("rkd", {"ce": 1, "rkd": 1}),
        ("pkt", {"ce": 1, "pkt": 30000}),
        ("fitnet", {"ce": 1, "fitnet": 100}),
        ("nst", {"ce": 1, "nst": 50}),
        ("crd", {"ce": 1, "crd": 0.8}),
        ("dkd", {"ce": 1, "dkd": 1}),
        ("region_consistency", {"ce": 1, "region_consistency": 0.5}),
    ],
)
def test_published_weights(name, weights):
    made = total(name)
    assert {o.name: w for w, o in made._summands} == weights
    assert set(made.objectives) == set(weights)


def test_every_objective_has_its_row():
    mark = test_published_weights.pytestmark[0]
    assert {row[0] for row in mark.args[1]} == set(objectives.names())


def test_weights_and_parameters_can_be_given():
    made = total("crd", alpha=1, beta=0.5, temperature=2.0, student_temperature=3.0, nce_k=7)
    assert str(made) == "1 ce + 1 kd + 0.5 crd"
    assert made.objectives["crd"].k == 7
    assert made.objectives["kd"].teacher_t == 2.0
    assert made.objectives["kd"].student_t == 3.0
    assert made.needs == {"teacher", "labels", "features", "sample_id", "modules"}
    assert total("sp").least == 2
    dkd, kd = get("dkd", temperature=2.0), get("kd", temperature=2.0, student_temperature=1.0)
    assert total(dkd, beta=3).objectives["dkd"] is dkd
    assert total(kd).objectives["kd"] is kd
    for given in ({"temperature": 2.0, "student_temperature": 1.0}, {"kd_T": 2.0, "kd_S": 1.0}):
        made = total("kd", **given).objectives["kd"]
        assert (made.teacher_t, made.student_t) == (2.0, 1.0)
    assert str(total("kd", gamma=0)) == "0.9 kd"
    assert str(total("kd", hard="mix_ce")) == "0.1 mix_ce + 0.9 kd"
    assert str(total("ce", hard="mix_ce")) == "1 mix_ce"
    with pytest.raises(UsageError, match="no cross-entropy with labels named 'at'"):
        total("kd", hard="at")


def test_what_makes_no_sense():
    with pytest.raises(UsageError, match="beta=2"):
        Total(1, 0, 2)
    with pytest.raises(UsageError, match="all 0"):
        Total(0, 0)
    with pytest.raises(UsageError, match="gamma"):
        Total(-1, 1)
    with pytest.raises(UsageError, match="alpha"):
        total("kd", alpha=float("nan"))
    with pytest.raises(UsageError, match="twice: ce, kd, kd"):
        Total(1, 1, 1, other=get("kd"))
    with pytest.raises(UsageError, match="beta"):
        total("kd", beta=1.0)
    with pytest.raises(UsageError, match="no parameter"):
        total("sp", p=2)
    with pytest.raises(UsageError, match="is made already"):
        total(get("dkd"), warmup=2)


def test_modules_state_and_epochs_of_the_parts():
    made = total("dkd")
    made.start_epoch(5)
    assert made.objectives["dkd"].factor == 0.25
    built = Total(1, 0, 100, other=get("fitnet")).build(STUDENT, TEACHER, classes=5, generator=rng(1))
    assert {k.split(".")[1] for k, _ in built.named_parameters()} == {"fitnet"}
    other = Total(1, 0, 100, other=get("fitnet")).build(STUDENT, TEACHER, classes=5, generator=rng(2))
    assert not torch.equal(*(o(logits(0), logits(1), Y, **FEATURES) for o in (built, other)))
    other.load_state_dict(built.state_dict())
    assert torch.equal(*(o(logits(0), logits(1), Y, **FEATURES) for o in (built, other)))
    with pytest.raises(UsageError, match="of the objective kd cannot be loaded into ce"):
        get("ce").load_state_dict(get("kd").state_dict())


def test_a_part_that_is_nan_says_why():
    bad = logits(1)
    bad[3, 2] = float("nan")
    made = Total(0.1, 0.9)
    with pytest.raises(CheckError, match="the loss kd is nan: teacher logits: NaN in rows 3"):
        made(logits(0), bad, Y)
    with pytest.raises(CheckError, match="label 9 in row 5"):
        made(logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 9]))
    made.check = False
    assert bool(made(logits(0), bad, Y).isnan())


def test_a_sum_that_overflows_names_its_parts():
    s = [f * 1e3 for f in S]
    with pytest.raises(CheckError, match=r"weighted parts are ce .*, fitnet inf"):
        Total(1, 0, 3e38, other=get("fitnet")).build(STUDENT, TEACHER, classes=5, generator=rng(1))(
            logits(0), logits(1), Y, student_features=s, teacher_features=[100 * t for t in T]
        )
