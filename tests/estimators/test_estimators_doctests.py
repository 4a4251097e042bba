from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import kdstats.estimators

MODULES = [m.name for m in pkgutil.iter_modules(kdstats.estimators.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"kdstats.estimators.{name}")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [
        e
        for name in MODULES
        for t in finder.find(importlib.import_module(f"kdstats.estimators.{name}"))
        for e in t.examples
    ]
    assert len(found) >= 10
