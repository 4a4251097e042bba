"""The benchmarks follow the code: each can be imported, and each program stands in their README."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_in_step_with_the_code(name):
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "main"):
        readme = (FOLDER / "README.md").read_text(encoding="utf-8")
        assert f"benchmarks.{name} " in readme or f"benchmarks/{name}.py " in readme
