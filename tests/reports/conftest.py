"""The studies with a known truth, and one page built from each kind, shared by the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# The maker of studies belongs to the analyses; tests are no package, so its folder is named here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analyses"))

from synthetic_study import make_study

from reports.build import build
from reports.page import Page


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    """The page of a complete study with a planted association, two questions answered and one refused on it."""
    root = make_study(tmp_path_factory.mktemp("whole") / "study")
    return build(root, ask=["best_and_last,overhead", "picking"])


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., tuple[Page, Path]]:
    """A maker of pages; options as for :func:`synthetic_study.make_study`."""

    def make(name: str = "study", **options: Any) -> tuple[Page, Path]:
        return build(make_study(tmp_path / name, **{"curves": False, **options}))

    return make
