"""Archives that are damaged, or made to harm whoever opens them."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_makers import encoded, picture, tarred, tiny, zipped

from kdstats import data
from kdstats.data.sources import archives
from kdstats.data.sources.archives import Archive
from kdstats.errors import MissingError

IMAGE = encoded(picture(0, (64, 64)))
PLACE = "tiny-imagenet-200/train/n01/images/n01_7.JPEG"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tiny(tmp_path_factory.mktemp("source") / "tiny")


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar_with(source: Path, path: Path, info: tarfile.TarInfo, content: bytes = IMAGE) -> Path:
    """The good archive and one member more."""
    tarred(source, path)
    with tarfile.open(path, "a") as archive:
        if info.isreg():
            info.size = len(content)
        archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def zip_with(source: Path, path: Path, name: str, content: bytes = IMAGE, mode: int = 0o100644) -> Path:
    zipped(source, path)
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, content)
    return path


def refused(path: Path, message: str, split: str = "train") -> None:
    with pytest.raises(MissingError, match=message) as caught:
        data.load("tiny-imagenet", split, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../evil.JPEG", "/etc/evil.JPEG", "a/../../b", "tiny-imagenet-200/..", "C:/x", "a\\b"]
)
def test_names_that_lead_out(tmp_path, own_cache, source, name):
    refused(tar_with(source, tmp_path / "t.tar", member(name)), "a name that leads out of the archive")
    refused(zip_with(source, tmp_path / "t.zip", name), "a name that leads out of the archive")
    assert not list(tmp_path.rglob("evil*"))


def test_names_that_cannot_be_printed(tmp_path, own_cache, source):
    refused(tar_with(source, tmp_path / "t.tar", member("a\nb")), r"a\\nb: the name is not printable")
    path = zip_with(source, tmp_path / "t.zip", "aXb.JPEG")
    path.write_bytes(path.read_bytes().replace(b"aXb.JPEG", b"a\0b.JPEG"))
    refused(path, r"a\\x00b.JPEG: the name is not printable")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_not_followed(tmp_path, own_cache, source, kind):
    secret = tmp_path / "secret.png"
    secret.write_bytes(IMAGE)
    for target in (str(secret), "n01_0.JPEG"):
        info = member(PLACE, type=kind, linkname=target)
        refused(tar_with(source, tmp_path / "t.tar", info), "n01_7.JPEG is a link; links inside archives")
        path = zip_with(source, tmp_path / "t.zip", PLACE, target.encode(), 0o120777)
        refused(path, "n01_7.JPEG is a link; links inside archives")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path, own_cache, source, kind):
    refused(
        tar_with(source, tmp_path / "t.tar", member(PLACE, type=kind)), "neither a plain file nor a folder"
    )


def test_members_that_promise_too_much(tmp_path, own_cache, source):
    """A zip of a few kilobytes whose member would be 60 MB; and one that is small but says it is not."""
    path = zip_with(source, tmp_path / "t.zip", PLACE, b"")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny-imagenet-200/train/n01/images/bomb.JPEG", bytes(60_000_000))
    assert path.stat().st_size < 500_000
    refused(path, "bomb.JPEG holds 60 MB by its own account; nothing over 50 MB is read")
    liar = tarred(source, tmp_path / "t.tar")
    info = member(PLACE)
    info.size = 3 << 40
    liar.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + liar.read_bytes())
    refused(liar, "n01_7.JPEG holds 3,298,535 MB by its own account")


def test_members_that_hold_more_than_they_promise(tmp_path, own_cache, source):
    """The header says 1,000 bytes, the deflated stream holds 40 MB."""
    path = tmp_path / "t.zip"
    zipped(source, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PLACE, bytes(40_000_000))
    blob = path.read_bytes()
    assert blob.count(struct.pack("<I", 40_000_000)) == 2
    path.write_bytes(blob.replace(struct.pack("<I", 40_000_000), struct.pack("<I", 1_000)))
    with Archive(path) as tree, pytest.raises(MissingError, match="n01_7.JPEG cannot be read: Bad CRC-32"):
        tree.read(PLACE)
    refused(path, "n01_7.JPEG cannot be read: Bad CRC-32")


def test_all_members_together(tmp_path, own_cache, source, monkeypatch):
    monkeypatch.setattr(archives, "TOTAL_LIMIT", 100_000)
    for path in (zipped(source, tmp_path / "t.zip"), tarred(source, tmp_path / "t.tar")):
        refused(path, "promises more than 0 GiB; it is no data set of small images")


def test_two_members_of_one_name(tmp_path, own_cache, source):
    twice = "tiny-imagenet-200/train/n01/images/n01_1.JPEG"
    refused(
        tar_with(source, tmp_path / "t.tar", member(twice)),
        "n01_1.JPEG: the archive holds two files of this name",
    )
    refused(tar_with(source, tmp_path / "t.tar", member("./" + twice)), "two files of this name")
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zip_with(source, tmp_path / "t.zip", twice)
    refused(path, "n01_1.JPEG: the archive holds two files of this name")


def test_archives_in_archives(tmp_path, own_cache, source):
    inner = zipped(source, tmp_path / "inner.zip")
    for name in ("tiny-imagenet-200.zip", "download/tiny.tar.gz"):
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
            archive.write(inner, name)
        refused(tmp_path / "t.zip", f"holds another archive, {name.split('/')[-1]}; unpack the outer one")


def test_encrypted_and_oddly_packed_members(tmp_path, own_cache, source):
    path = zipped(source, tmp_path / "t.zip")
    blob = bytearray(path.read_bytes())
    at = blob.index(b"PK\x01\x02")
    blob[at + 8] |= 1
    path.write_bytes(blob)
    refused(path, "is encrypted; unpack the archive yourself")
    for packing, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr(PLACE, IMAGE)
        refused(path, f"is packed by {name}; only stored and deflated members are read")


def test_what_is_no_archive(tmp_path, own_cache):
    for blob in (b"", b"hello", bytes(2000), b"PK\x03\x04" + bytes(100), b"PK\x05\x06" + bytes(5)):
        for name in ("t.zip", "t.tar"):
            (tmp_path / name).write_bytes(blob)
            refused(
                tmp_path / name,
                rf"{name} (is not a readable|is cut short|: ?no train|.*no train)|no train/ in",
            )


@pytest.mark.parametrize("size", [-512, -1024, -1536])
def test_a_negative_size_does_not_turn_the_reader_in_circles(tmp_path, own_cache, source, size):
    """CVE-2025-8194: the library comes back to the same header for ever."""
    blob = bytearray(tarred(source, tmp_path / "t.tar").read_bytes())
    at = blob.index(b"tiny-imagenet-200/words.txt\0")
    assert at == 1024, "the first member, after a header with its time"
    blob[at + 124 : at + 136] = size.to_bytes(12, "big", signed=True)
    blob[at + 148 : at + 156] = b" " * 8
    blob[at + 148 : at + 156] = b"%06o\0 " % sum(blob[at : at + 512])
    (tmp_path / "t.tar").write_bytes(blob)
    refused(tmp_path / "t.tar", "words.txt has a damaged header")


def test_damaged_archives_never_end_in_a_traceback(tmp_path, own_cache, source):
    rng = np.random.default_rng(0)
    for name, make in (("t.zip", zipped), ("t.tar", tarred)):
        good = make(source, tmp_path / name).read_bytes()
        refusals = 0
        for i in range(60):
            damaged = bytearray(good[: rng.integers(1, len(good))] if i % 3 == 0 else good)
            for at in rng.integers(0, len(damaged), 30):
                damaged[at] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged)
            try:
                data.load("tiny-imagenet", "train", tmp_path / name)
            except MissingError as error:
                assert str(tmp_path / name) in str(error)
                refusals += 1
        assert refusals > 20, name


@pytest.mark.parametrize("make", [zipped, tarred])
def test_threads_read_side_by_side(tmp_path, source, make, request):
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    path = make(source, tmp_path / ("t.zip" if make is zipped else "t.tar"))
    with Archive(path) as tree:
        at = "tiny-imagenet-200/val/images"
        names = [f"{at}/{name}" for name in tree.files(at)] * 30
        assert len(names) == 270
        with ThreadPoolExecutor(8) as pool:
            for name, blob in zip(names, pool.map(tree.read, names), strict=True):
                assert blob == (source / "val" / "images" / name.rsplit("/", 1)[1]).read_bytes()
        with pytest.raises(MissingError, match=r"no nothing in .*t\.(zip|tar)"):
            tree.read("nothing")
        assert tree.folders("") == ["tiny-imagenet-200"]
        assert tree.folders("no/where") == tree.files("no/where") == []
