"""Names of networks need no torch; what does is loaded when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdstats import models


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_choices_of_images_and_recipes_need_no_torch():
    code = (
        "import sys\n"
        "from kdstats import data, models\n"
        "from runners import recipes\n"
        "assert models.canonical('MOBILENETV2') in models.names()\n"
        "assert recipes.for_student('crd240', 'mobilenetv2').lr == 0.01\n"
        "data.Selection('digits', per_class=4)\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_public_names_are_what_they_were_in_any_order():
    assert dir(models) == sorted(models.__all__)
    # A module of the room must not hide the function of its name.
    code = (
        "import kdstats.models.weights, kdstats.models.guess, kdstats.models.registry, kdstats.models.measure\n"
        "from kdstats import models\n"
        "print(all(callable(getattr(models, name)) for name in models.__all__), models.infer.__module__)"
    )
    assert python(code) == "True kdstats.models.guess"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = models.nonsense
