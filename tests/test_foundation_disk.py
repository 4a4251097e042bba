"""Room on a disk, also where nothing is yet."""

import shutil
from pathlib import Path

import pytest

from kdstats.disk import free_bytes


def test_a_folder_that_is_to_be_made_has_the_room_of_the_one_above(tmp_path: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: asked.append(path) or shutil._ntuple_diskusage(9, 2, 7)
    )
    assert free_bytes(tmp_path / "not" / "yet") == free_bytes(tmp_path) == 7
    assert asked == [tmp_path, tmp_path]
    monkeypatch.chdir(tmp_path)
    assert free_bytes(Path("not yet")) == 7
    assert asked[-1] == tmp_path


def test_a_disk_that_tells_nothing(tmp_path: Path, monkeypatch):
    def silent(path: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(shutil, "disk_usage", silent)
    assert free_bytes(tmp_path) is None


def test_a_real_one(tmp_path: Path):
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
