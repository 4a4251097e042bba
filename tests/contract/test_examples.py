"""Every example in a docstring of the library says what it really gives."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import kdstats

ROOT = Path(kdstats.__file__).parent
MODULES = sorted(
    ".".join(("kdstats", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert found.failed == 0


def test_there_are_examples():
    assert len(MODULES) >= 20
