"""Networks that a file of others names: weights files and architectures of the registry, nothing that runs or fetches."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kdstats.errors import MissingError
from kdstats.teacher.load import shipped_path
from kdstats.teacher.sources import refuse_foreign

WEIGHTS = str(shipped_path())


def refuse(source: str, arch: str | None = None) -> None:
    refuse_foreign(source, arch, "study.json", "pass --trust", "teacher")


def passes(source: str, arch: str | None) -> bool:
    try:
        refuse(source, arch)
    except MissingError:
        return False
    return True


@pytest.mark.parametrize("arch", [None, "resnet8", "torchvision:resnet18"])
def test_weights_of_a_known_architecture_pass(arch: str | None) -> None:
    assert passes(WEIGHTS, arch)
    assert not passes(f"{WEIGHTS}.gone", arch)


@pytest.mark.parametrize(
    "source", ["foreign_bait:make", "torchvision:resnet18", "timm:resnet18.a1", "hf-hub:a/b", "os:system"]
)
def test_code_and_addresses_are_refused_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "foreign_bait.py").write_text("def make(): ...")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        MissingError, match=rf"study\.json names a teacher by code or address, {source}.*--trust"
    ):
        refuse(source)
    assert "foreign_bait" not in sys.modules


@pytest.mark.parametrize("arch", ["foreign_bait:make", "hf-hub:a/b", "nonsense", "os:system", ""])
def test_an_architecture_that_is_none_of_the_registry_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    (tmp_path / "foreign_bait.py").write_text("def make(): ...")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match=r"study\.json"):
        refuse(WEIGHTS, arch)
    assert "foreign_bait" not in sys.modules


@pytest.mark.parametrize(
    "source", ["pipe", "endless", "folder", "absent", "", "a\0b", "pkg/module.py:make", "tim:x"]
)
def test_what_is_no_weights_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("endless").symlink_to("/dev/zero")
    Path("folder").mkdir()
    with pytest.raises(MissingError):
        refuse(source, "resnet8")
