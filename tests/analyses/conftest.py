"""Studies with a known truth, and a shortcut to load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import make_study

from analyses.study import Study, load_study


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Study]:
    """A maker of loaded studies; see :func:`synthetic_study.make_study`."""

    def make(name: str = "study", **options: Any) -> Study:
        return load_study(make_study(tmp_path / name, **options), seed=0)

    return make


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that is in order; copied, never changed."""
    root = tmp_path_factory.mktemp("plain") / "s"
    return make_study(root, schemes=("identity", "flip", "mixup", "cutmix"), epochs=4, curves=True)
