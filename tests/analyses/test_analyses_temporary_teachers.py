"""Moving teachers beside a fixed one: what is compared, and why not where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings_study import noisy, write_study

from analyses import temporary_teachers
from analyses.study import Study, load_study

EMA = {"teachers": 1, "period": 1, "unit": "epoch", "restart": "never", "decay": 0.99, "then": []}
DUAL = EMA | {"teachers": 2, "restart": "shift"}


def taught(
    tmp: Path, name: str, level: float, teaching: dict[str, object] | None, **changes: object
) -> Study:
    moving = (
        {} if teaching is None else {"teaching": teaching, "teacher_arch": "lenet8", "teacher_sha256": ""}
    )
    root = write_study(
        tmp / name,
        loss=noisy({"cutmix": level}, 0.005, rng=len(name)),
        schemes=("cutmix",),
        seeds=range(4),
        pair="resnet8/lenet8" if teaching is None else "self/lenet8",
        changes={**moving, **changes},
    )
    return load_study(root, seed=0)


@pytest.fixture
def moving(tmp_path: Path) -> tuple[Study, Study]:
    return taught(tmp_path, "ema", 0.5, EMA), taught(tmp_path, "dual", 0.4, DUAL)


def test_a_fixed_teacher_with_the_same_loss_is_compared(tmp_path: Path, moving: tuple[Study, Study]) -> None:
    result = temporary_teachers.run(*moving, taught(tmp_path, "fixed", 0.3, None))
    assert set(result.table["level"]) == {
        "fixed teacher resnet8",
        "1 lasting average",
        "2 temporary averages",
    }
    assert "fixed teacher resnet8 has the lowest mean test loss of 3" in result.findings[0]
    assert "fixed teacher resnet8 by −0.2" in result.findings[1]
    assert not any("not compared" in text for text in result.findings)


def test_why_a_fixed_teacher_is_not_compared_is_said(tmp_path: Path, moving: tuple[Study, Study]) -> None:
    alone = temporary_teachers.run(*moving)
    assert "A fixed teacher is not among these runs" in alone.findings[-1]
    unlike = taught(tmp_path, "unlike", 0.3, None, temperature=1.0, gamma=0.5)
    beside = temporary_teachers.run(*moving, unlike)
    assert "its runs differ in gamma and temperature, and a difference" in beside.findings[-1]
    assert set(beside.table["level"]) == {"1 lasting average", "2 temporary averages"}
    unanswered = temporary_teachers.run(unlike)
    assert not unanswered.answered
    assert len(unanswered.findings) == 1
