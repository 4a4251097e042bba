"""The named recipes, each default with its source."""

from __future__ import annotations

from dataclasses import replace

from kdstats import models
from kdstats.errors import unknown
from runners.recipes.recipe import Recipe

# RepDistiller, Good-DA-in-KD and MIX-KD give these students a rate of 0.01 instead of 0.05.
LIGHT_STUDENTS = ("MobileNetV2", "ShuffleV1", "ShuffleV2")
_LIGHT = "-light"

_CRD240 = Recipe(
    "crd240",
    epochs=240,
    batch_size=64,
    lr=0.05,
    weight_decay=5e-4,
    schedule="step",
    milestones=(150, 180, 210),
    source="RepDistiller / Good-DA-in-KD defaults (lr 0.01 for MobileNetV2 and ShuffleNets there)",
)
_CRD960 = replace(
    _CRD240,
    name="crd960",
    epochs=960,
    milestones=(600, 720, 840),
    source="Good-DA-in-KD, --epoch_factor 4 (lr 0.01 for MobileNetV2 and ShuffleNets there)",
)
_LIGHT_SOURCE = "RepDistiller / Good-DA-in-KD: the rate for MobileNetV2, ShuffleV1 and ShuffleV2"

_RECIPES = {
    recipe.name: recipe
    for recipe in (
        _CRD240,
        replace(_CRD240, name="crd240-light", lr=0.01, source=_LIGHT_SOURCE),
        _CRD960,
        replace(_CRD960, name="crd960-light", lr=0.01, source=f"{_LIGHT_SOURCE}, --epoch_factor 4"),
        Recipe(
            "rm-cifar",
            epochs=200,
            batch_size=128,
            lr=0.1,
            weight_decay=5e-4,
            schedule="cosine-epoch",
            warmup=0.0,
            source="RecursiveMix, defaults of its released code (CIFAR-100, resnet18)",
        ),
        Recipe(
            "imagenet100",
            epochs=100,
            batch_size=256,
            lr=0.1,
            weight_decay=1e-4,
            schedule="step",
            milestones=(30, 60, 90),
            source="Wang et al. 2022, ImageNet; weight decay is the field's custom, the paper's was not found",
        ),
        Recipe(
            "cifar-short",
            epochs=8,
            batch_size=128,
            lr=0.2,
            weight_decay=5e-4,
            nesterov=True,
            precision="auto",
            source="one-cycle style short schedule for CPUs, chosen here: not a published recipe",
        ),
        Recipe(
            "cifar-gpu-hour",
            epochs=60,
            batch_size=128,
            lr=0.2,
            weight_decay=5e-4,
            nesterov=True,
            precision="bf16",
            source="cifar-short over a quarter of crd240's epochs, for about an hour of one GPU, chosen here: "
            "not a published recipe, its time not measured",
        ),
        Recipe(
            "digits",
            epochs=30,
            batch_size=64,
            lr=0.1,
            weight_decay=5e-4,
            nesterov=True,
            source="short schedule for the embedded digits, chosen here: not a published recipe",
        ),
    )
}


def get(name: str) -> Recipe:
    """A recipe by name; raises ``UsageError`` with the nearest names when there is none."""
    if name not in _RECIPES:
        raise unknown("recipe", name, _RECIPES, "`python -m runners.recipes` lists them.")
    return _RECIPES[name]


def names() -> list[str]:
    """All recipe names."""
    return list(_RECIPES)


def for_student(name: str, student: str) -> Recipe:
    """The recipe ``name`` as published for ``student``: its ``-light`` form for the networks that have one.

    >>> for_student("crd240", "MobileNetV2").lr, for_student("crd240", "resnet20").lr
    (0.01, 0.05)

    Raises:
        UsageError: No such recipe or network.
    """
    recipe = get(name)
    light = f"{name}{_LIGHT}"
    return _RECIPES[light] if models.canonical(student) in LIGHT_STUDENTS and light in _RECIPES else recipe


def scaling(recipe: Recipe) -> str | None:
    """What :meth:`Recipe.with_epochs` changed, in words; None for a recipe as it stands in the catalogue.

    >>> scaling(get("crd240").with_epochs(24))
    'crd240 over 24 epochs instead of 240: milestones 150, 180, 210 became 15, 18, 21'
    """
    base, at, _ = recipe.name.partition("@")
    if not at or base not in _RECIPES:
        return None
    told = f"{base} over {recipe.epochs} epochs instead of {_RECIPES[base].epochs}"
    if recipe.milestones:
        before, after = (", ".join(map(str, r.milestones)) for r in (_RECIPES[base], recipe))
        told += f": milestones {before} became {after}"
        lost = sum(m >= recipe.epochs for m in recipe.milestones)
        if lost or len(set(recipe.milestones)) < len(recipe.milestones):
            told += ", some of which coincide or are never passed"
    return told
