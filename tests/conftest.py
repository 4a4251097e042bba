"""Fixtures for the whole tree: a cache of our own, and the real data where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``KDSTATS_HOME`` is one temporary folder per session: nothing of the user's is read, decoding happens once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDSTATS_HOME", str(tmp_path_factory.mktemp("kdstats-home")))
        patch.delenv("KDSTATS_DATA", raising=False)
        patch.delenv("KDSTATS_TRACEBACK", raising=False)
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    home = tmp_path / "home"
    monkeypatch.setenv("KDSTATS_HOME", str(home))
    return home


def _real(name: str) -> Path:
    found = _DATA / name
    if not found.exists():
        if os.environ.get("KDSTATS_REQUIRE_DATA") == "1":
            pytest.fail(f"KDSTATS_REQUIRE_DATA=1, but there is no {found}")
        pytest.skip(f"needs the real data at {found}")
    return found


@pytest.fixture(scope="session")
def cifar100_folder() -> Path:
    """The hub's Parquet files of CIFAR-100; tests that use it carry the marker ``data``."""
    return _real("cifar100")


@pytest.fixture(scope="session")
def tiny_imagenet_tar() -> Path:
    """Twenty classes of Tiny ImageNet in the original layout; tests that use it carry the marker ``data``."""
    return _real("tiny-imagenet-200-sample.tar")
