"""The card as a study's driver writes it: a recipe of a student's own is told by student, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyses.study.card import Card, read_card
from kdstats import data
from kdstats.records.paths import StudyPaths
from runners import recipes
from runners.study.folder import write_card
from runners.study_file import StudyFile


def written(root: Path, pairs: list[str], **sections: object) -> Card:
    """The card of a study of ``pairs`` before its first run."""
    study = StudyFile.model_validate(
        {"study": {"name": "s"}, "grid": {"pairs": pairs}, "train": {"recipe": "crd240"}} | sections
    )
    sets = data.load("digits", "train"), data.load("digits", "test")
    write_card(study, StudyPaths(root), sets, [], {}, [], {}, {}, folders=0)
    return read_card(root / "study.json")


def test_students_with_a_recipe_of_their_own_are_told_apart(tmp_path: Path) -> None:
    pairs = ["vgg13/vgg8", "vgg13/MobileNetV2", "resnet50/MobileNetV2", "resnet32x4/ShuffleV2"]
    recipe = written(tmp_path, pairs).recipe
    assert recipe["lr"] == {"vgg8": 0.05, "MobileNetV2": 0.01, "ShuffleV2": 0.01}
    assert set(recipe["name"]) == {"vgg8", "MobileNetV2", "ShuffleV2"}
    # What all of them share is one value, as it is for a single student.
    assert (recipe["epochs"], recipe["batch_size"], recipe["momentum"]) == (240, 64, 0.9)
    assert recipe["milestones"] == [150, 180, 210]


@pytest.mark.parametrize(("student", "lr"), [("vgg8", 0.05), ("MobileNetV2", 0.01)])
def test_one_student_has_plain_values(tmp_path: Path, student: str, lr: float) -> None:
    recipe = written(tmp_path, [f"vgg13/{student}", f"resnet50/{student}"]).recipe
    expected = recipes.for_student("crd240", student)
    assert (recipe["name"], recipe["lr"]) == (expected.name, lr)
    assert not any(isinstance(value, dict) for value in recipe.values())


def test_students_of_variants_are_told_apart_too(tmp_path: Path) -> None:
    variant = [
        {"name": "both", "grid": {"pairs": ["vgg13/vgg8", "vgg13/MobileNetV2"]}},
        {"name": "heavy", "train": {"epochs": 24}},
    ]
    card = written(tmp_path, ["vgg13/vgg8"], variant=variant)
    assert card.recipe["lr"] == {"vgg8": 0.05, "MobileNetV2": 0.01}
    arms = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["variants"]
    assert arms["both"]["recipe"]["lr"] == card.recipe["lr"]
    assert (arms["heavy"]["recipe"]["lr"], arms["heavy"]["recipe"]["epochs"]) == (0.05, 24)
