"""The identity of a run: its digest, whatever the way there."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, replace

import pytest

from kdstats.teacher.network import Network
from runners import recipes
from runners.run_spec import _LATER, RunSpec
from runners.study import grid as plan
from runners.study_file import StudyFile
from runners.training import teaching

BASE = RunSpec(
    "digits", None, "0" * 64, "resnet8", "t", "resnet8", "1" * 64, "lenet8", "cutmix", 0, recipes.get("digits")
)  # fmt: skip
OTHERS = {
    "recipe": [recipes.get(name) for name in recipes.names()] + [recipes.get("crd240").with_epochs(7)],
    "teaching": [teaching.get("ema"), replace(teaching.get("dual"), then=("cutmix", "mixup"), decay=1)],
    "objective_params": [(("a", 1), ("b", 2.5)), (("rates", [1, [2.0, 3]]), ("by", {"x": (1, 2)}))],
    "scheme": ["pick(mixup,runs=3)"],
    "seed": [7],
    "data": ["/elsewhere"],
    "teacher_weights": ["/other.safetensors"],
    "temperature": [4, 2.5],
    "alpha_views": [0.0, 0.9],
    "student_temperature": [1.0],
    "val_split": [0.25],
    "img_size": [16],
    "classes": ["20"],
    "per_class": [40],
    "targets": ["labels"],
    "originals": ["replaced"],
    "passes": ["joint"],
    "determinism": ["strict"],
    "channels_last": [False, 1],
    "compile": ["default"],
    "fold_teacher": [True],
    "log_every": [3],
    "log_dtype": [None],  # a field that is always there, whatever it holds
}


def by_definition(spec):
    """``resolved`` and ``digest`` over a deep copy of all fields."""
    found = asdict(spec)
    del found["data"], found["teacher_weights"]
    kept = {k: v for k, v in found.items() if k not in _LATER or getattr(spec, k) != _LATER[k]}
    return kept, hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def test_the_digest_is_that_of_all_fields():
    singles = [(field, value) for field, values in OTHERS.items() for value in values]
    specs = [BASE, *(replace(BASE, **{field: value}) for field, value in singles)]
    specs += [replace(BASE, **dict(two)) for two in itertools.combinations(singles, 2)]
    assert len(specs) > 600
    for spec in specs:
        resolved, digest = by_definition(spec)
        assert spec.resolved() == resolved
        assert list(spec.resolved()) == list(resolved)  # run.json keeps the order
        assert spec.digest == digest
    # What is equal in Python need not be the same number on paper.
    whole = replace(BASE, recipe=replace(BASE.recipe, momentum=0))
    broken = replace(BASE, recipe=replace(BASE.recipe, momentum=0.0))
    assert whole == broken
    assert (whole.digest, broken.digest) == (by_definition(whole)[1], by_definition(broken)[1])
    assert whole.digest != broken.digest


def test_what_is_resolved_belongs_to_who_asked():
    spec = replace(BASE, teaching=teaching.get("ema"), objective_params=(("rates", [1, 2]),))
    before = spec.digest
    found = spec.resolved()
    found["recipe"]["lr"] = 9.0
    found["teaching"]["decay"] = 0.5
    found["objective_params"][0][1].append(3)
    found["scheme"] = "x"
    assert replace(spec).digest == before == by_definition(spec)[1]


def test_a_recipe_is_made_once_for_a_pair_and_every_run_has_its_own_fields(monkeypatch):
    study = StudyFile.model_validate(
        {
            "study": {"name": "x", "per_class": 20},
            "grid": {
                "pairs": ["resnet8/lenet8", "resnet20/MobileNetV2"],
                "schemes": ["identity", "cutmix"],
                "seeds": list(range(5)),
            },
            "train": {"recipe": "crd240", "epochs": 3},
            "kd": {"objective": "crd", "params": {"nce_k": 64}},
            "variant": [{"name": "a"}, {"name": "b", "kd": {"gamma": 0.5}, "grid": {"seeds": [3, 9]}}],
        }
    )

    class Images:
        digest = "2" * 64

    def network(name):
        found = object.__new__(Network)
        for field, value in {"source": f"/{name}", "arch": name, "sha256": name * 8}.items():
            object.__setattr__(found, field, value)
        return found

    made = []
    monkeypatch.setattr(
        plan, "recipe_of", lambda arm, student: made.append(student) or recipe_of(arm, student)
    )
    runs = plan.make_runs(study, Images(), {"resnet8": network("resnet8")})
    assert made == ["lenet8", "MobileNetV2"] * 2
    found = [(name, spec.seed, spec.teacher, spec.student, spec.scheme) for name, spec in runs]
    assert found == [
        (name, seed, *pair.split("/"), scheme)
        for seed in (0, 1, 2, 3, 4, 9)
        for name, seeds in (("a", range(5)), ("b", (3, 9)))
        if seed in seeds
        for pair in study.grid.pairs
        for scheme in study.grid.schemes
    ]
    for name, spec in runs:
        known = spec.teacher == "resnet8"
        assert spec.recipe == recipe_of(study, spec.student)
        assert spec.recipe.lr == (0.05 if spec.student == "lenet8" else 0.01)
        assert (spec.dataset_sha256, spec.teacher_sha256) == ("2" * 64, "resnet8" * 8 if known else "")
        assert (spec.teacher_weights, spec.teacher_arch) == (
            ("/resnet8", "resnet8") if known else ("", spec.student)
        )
        assert (spec.gamma, spec.per_class) == (0.5 if name == "b" else 1.0, 20)
        assert spec.objective_params == (("nce_k", 64),)
    assert len({spec.digest for _, spec in runs}) == len(runs)


recipe_of = plan.recipe_of


@pytest.mark.parametrize("field", sorted(set(_LATER)))
def test_a_later_field_at_its_default_leaves_the_digest(field):
    assert field not in BASE.resolved()
    assert replace(BASE, **{field: _LATER[field]}).digest == BASE.digest
