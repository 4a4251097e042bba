from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kdstats import data
from kdstats.data import cache, shelf
from kdstats.errors import MissingError

ENTRY = cache.Entry(np.zeros((2, 3, 4, 4), np.uint8), np.array([0, 1]), {"a": 1})


def fill(name: str, letter: str = "d") -> Path:
    cache.cached(name, letter * 64, lambda: ENTRY)
    return cache.datasets_folder() / f"{name}-{letter * 16}"


def test_what_is_there(own_cache):
    assert shelf.shelved(data.names()) == []
    fill("cifar100-train")
    fill("tiny-imagenet-test-32px")
    fill("cifar10-test")
    found = shelf.shelved(data.names())
    assert [(e.dataset, e.split, e.img_size, e.complete) for e in found] == [
        ("cifar10", "test", None, True),
        ("cifar100", "train", None, True),
        ("tiny-imagenet", "test", 32, True),
    ]
    for entry in found:
        assert entry.bytes == sum(f.stat().st_size for f in entry.path.iterdir()) > 0
    assert [e.dataset for e in shelf.shelved(["cifar100"])] == ["cifar100"]


def test_names_are_those_of_the_entries(own_cache):
    for dataset in data.names():
        for split in ("train", "test"):
            for size in (None, 8, 128):
                fill(shelf.entry_name(dataset, split, size))
    assert len(shelf.shelved(data.names())) == 6 * len(data.names())


def test_clearing_one_data_set_or_all(own_cache):
    kept = fill("cifar10-train")
    fill("cifar100-train")
    fill("cifar100-test", "e")
    done = shelf.clear(["cifar100"])
    assert [e.split for e in done.removed] == ["test", "train"]
    assert done.left == ()
    assert list(cache.datasets_folder().iterdir()) == [kept]
    assert len(shelf.clear(data.names()).removed) == 1
    assert list(cache.datasets_folder().iterdir()) == []
    assert shelf.clear(data.names()) == shelf.Cleared((), ())


def test_what_a_killed_process_left_is_cleared_too(own_cache):
    fill("cifar100-train")
    half = cache.datasets_folder() / f".cifar100-train-{'d' * 16}.x1y2z3ab"
    half.mkdir()
    (half / "images.npy").write_bytes(b"half")
    assert [e.complete for e in shelf.shelved(["cifar100"])] == [True, False]
    assert len(shelf.clear(["cifar100"]).removed) == 2
    assert not half.exists()


def test_only_what_is_ours_is_removed(own_cache, tmp_path):
    """Foreign names, foreign files in our folders, and links of every kind stay, and so does what they lead to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "images.npy").write_bytes(b"mine")
    folder = fill("cifar100-train").parent
    ours = fill("cifar100-test")
    foreign = [folder / "notes", folder / "cifar100-train-backup", folder / f"other-train-{'d' * 16}"]
    for path in foreign:
        path.mkdir()
        (path / "images.npy").write_bytes(b"x")
    (folder / "README.txt").write_text("hello")
    stranger = fill("cifar100-train", "e") / "thesis.tex"
    stranger.write_text("x")
    linked = folder / f"cifar100-train-{'a' * 16}"
    linked.symlink_to(precious)
    inside = fill("cifar100-train", "b") / "facts.json"
    inside.unlink()
    inside.symlink_to(precious / "images.npy")
    nested = fill("cifar100-train", "c")
    (nested / "sha256").unlink()
    (nested / "sha256").mkdir()
    file = folder / f"cifar100-test-{'f' * 16}"
    file.write_bytes(b"x")
    done = shelf.clear(["cifar100"])
    assert {e.path.name for e in done.removed} == {f"cifar100-train-{'d' * 16}", ours.name}
    assert dict(done.left) == {
        file: "a link or not a folder",
        linked: "a link or not a folder",
        inside.parent: "holds 'facts.json', which is not kdstats's",
        nested: "holds 'sha256', which is not kdstats's",
        stranger.parent: "holds 'thesis.tex', which is not kdstats's",
    }
    assert (precious / "images.npy").read_bytes() == b"mine"
    assert stranger.read_text() == "x"
    assert all(path.exists() for path in foreign)
    assert len(list(stranger.parent.iterdir())) == 5, "nothing of a folder that stays is removed"


def test_a_cache_that_is_itself_a_link_is_not_cleared(own_cache, tmp_path):
    real = tmp_path / "elsewhere"
    real.mkdir()
    own_cache.mkdir()
    (own_cache / "datasets").symlink_to(real)
    fill("cifar100-train")
    assert len(shelf.shelved(["cifar100"])) == 1
    with pytest.raises(MissingError, match="datasets is a link and is not followed"):
        shelf.clear(["cifar100"])
    assert len(list(real.iterdir())) == 1


def test_a_cache_that_cannot_be_read(own_cache):
    own_cache.mkdir()
    (own_cache / "datasets").write_text("a file")
    with pytest.raises(MissingError, match="datasets cannot be read: Not a directory"):
        shelf.shelved(["cifar100"])


def test_an_entry_that_cannot_be_removed_is_named(own_cache, monkeypatch):
    fill("cifar100-train")

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", denied)
    done = shelf.clear(["cifar100"])
    assert done.removed == ()
    assert [reason for _, reason in done.left] == ["Permission denied"]


def test_a_cleared_set_is_decoded_again(own_cache):
    fill("cifar100-train")
    shelf.clear(["cifar100"])
    calls = []
    cache.cached("cifar100-train", "d" * 64, lambda: calls.append(1) or ENTRY)
    assert calls == [1]
