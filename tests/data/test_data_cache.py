from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kdstats.data import cache, checksums

IMAGES = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
LABELS = np.array([3, 1], dtype=np.int64)
FACTS = {"class_names": ["a", "ö"], "mean": [0.1 + 0.2]}


class Decoder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> cache.Entry:
        self.calls += 1
        return cache.Entry(IMAGES, LABELS, FACTS)


def entry(home: Path) -> Path:
    (found,) = (home / "datasets").iterdir()
    return found


def test_a_hit_equals_the_decoding(own_cache):
    decode = Decoder()
    for _ in range(3):
        found = cache.cached("set", "d" * 64, decode)
        assert np.array_equal(found.images, IMAGES)
        assert np.array_equal(found.labels, LABELS)
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)
        assert found.facts == FACTS
        assert cache.cached_facts("set", "d" * 64) == FACTS
    assert decode.calls == 1
    assert entry(own_cache).name == "set-" + "d" * 16
    cache.cached("set", "e" * 64, decode)
    cache.cached("other", "d" * 64, decode)
    assert decode.calls == 3
    # The name holds only the beginning of the key; the rest counts too.
    cache.cached("set", "d" * 16 + "e" * 48, decode)
    assert decode.calls == 4


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a.npy", b"x")


def scalar(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.uint8(3))


DAMAGE = {
    "bit": lambda p: p.write_bytes(p.read_bytes()[:-1] + bytes([p.read_bytes()[-1] ^ 1])),
    "cut": lambda p: p.write_bytes(p.read_bytes()[: len(p.read_bytes()) // 2]),
    "header": lambda p: p.write_bytes(p.read_bytes()[:60]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("not an array at all, but some text"),
    "zip": zipped,
    "half a zip": lambda p: p.write_bytes(b"PK\x03\x04" + bytes(50)),
    "scalar": scalar,
    "gone": lambda p: p.unlink(),
    "folder": lambda p: (p.unlink(), p.mkdir()),
}


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "facts.json", "sha256"])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_entry_is_decoded_again_and_mended(own_cache, file, damage):
    decode = Decoder()
    cache.cached("set", "d" * 64, decode)
    DAMAGE[damage](entry(own_cache) / file)
    assert file != "facts.json" or cache.cached_facts("set", "d" * 64) is None
    found = cache.cached("set", "d" * 64, decode)
    assert np.array_equal(found.images, IMAGES)
    assert np.array_equal(found.labels, LABELS)
    assert found.facts == FACTS
    assert decode.calls == 2
    cache.cached("set", "d" * 64, decode)
    assert decode.calls == 2, "the entry was not mended"


def test_no_damage_ends_in_a_traceback(own_cache):
    rng = np.random.default_rng(0)
    decode = Decoder()
    cache.cached("set", "d" * 64, decode)
    file = entry(own_cache) / "images.npy"
    good = file.read_bytes()
    for _ in range(300):
        damaged = bytearray(good)
        for at in rng.integers(0, 128, 2):  # the header, where lengths and types stand
            damaged[at] = rng.integers(256)
        (entry(own_cache) / "images.npy").write_bytes(bytes(damaged))
        assert np.array_equal(cache.cached("set", "d" * 64, decode).images, IMAGES)
    assert decode.calls > 200


def test_swapped_or_reshaped_arrays_do_not_pass(own_cache):
    decode = Decoder()
    cache.cached("set", "d" * 64, decode)
    np.save(entry(own_cache) / "images.npy", IMAGES.reshape(2, 3, 2, 8))
    cache.cached("set", "d" * 64, decode)
    assert decode.calls == 2


def test_an_unusable_cache_costs_time_only(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("KDSTATS_HOME", str(blocked))
    assert np.array_equal(cache.cached("set", "d" * 64, Decoder()).images, IMAGES)


def test_a_failed_write_leaves_nothing_behind(own_cache, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    cache.cached("set", "d" * 64, Decoder())
    assert list((own_cache / "datasets").iterdir()) == []


def test_the_blocks_of_a_large_array_all_count(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 16)
    decode = Decoder()
    cache.cached("set", "d" * 64, decode)
    for at in (0, 17, IMAGES.size - 1):
        damaged = IMAGES.copy()
        damaged.flat[at] ^= 1
        np.save(entry(own_cache) / "images.npy", damaged)
        assert np.array_equal(cache.cached("set", "d" * 64, decode).images, IMAGES)
    assert decode.calls == 4


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KDSTATS_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("KDSTATS_HOME")
    assert "kdstats" in cache.cache_folder().parts


def test_digest_is_of_the_contents_in_order(tmp_path):
    import hashlib

    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    assert checksums.digest_files([tmp_path / "a", tmp_path / "b"]) == hashlib.sha256(b"123").hexdigest()
    assert checksums.digest_files([tmp_path / "b", tmp_path / "a"]) == hashlib.sha256(b"312").hexdigest()


_CHILD = """
import sys, time, numpy as np
from kdstats.data import cache
def decode():
    time.sleep(0.2)
    return cache.Entry(np.arange(3000000, dtype=np.uint8).reshape(1000, 3, 10, 100), np.arange(1000))
for _ in range(4):
    found = cache.cached("race", "f" * 64, decode)
    assert found.images.sum() == np.arange(3000000, dtype=np.uint8).sum() and len(found.labels) == 1000
"""


def test_processes_that_cache_at_the_same_time(own_cache):
    environment = {**os.environ, "KDSTATS_HOME": str(own_cache)}
    children = [
        subprocess.Popen([sys.executable, "-c", _CHILD], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors.decode()
    assert [p.name for p in (own_cache / "datasets").iterdir()] == ["race-" + "f" * 16]
    decode = Decoder()
    assert len(cache.cached("race", "f" * 64, decode).labels) == 1000
    assert decode.calls == 0
