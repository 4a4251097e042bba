from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import WNIDS, encoded, picture, refolder, seed_of, tarred, tiny, zipped
from PIL import Image

from kdstats import data
from kdstats.data import ImageSet
from kdstats.errors import MissingError


def identical(a: ImageSet, b: ImageSet) -> None:
    for field in ("images", "labels", "sample_id"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field
    for field in ("name", "split", "class_names", "mean", "std", "base", "digest", "notes"):
        assert getattr(a, field) == getattr(b, field), field


def forms(source: Path, at: Path) -> dict[str, Path]:
    """The same set in every form, with and without the first folder level."""
    sorted_ = refolder(source, at / "sorted")
    (at / "above").mkdir()
    shutil.copytree(source, at / "above" / "tiny-imagenet-200")
    (at / "store").mkdir()
    shutil.copytree(sorted_, at / "flat")
    for folder in (at / "flat" / "train").iterdir():
        for file in (folder / "images").iterdir():
            file.rename(folder / file.name)
        (folder / "images").rmdir()
    return {
        "unpacked": source,
        "with the first level": at / "above",
        "sorted into class folders": sorted_,
        "sorted, with images/ in each": refolder(source, at / "inner", inner=True),
        "one level in train as well": at / "flat",
        "zip": zipped(source, at / "a.zip"),
        "zip, stored, no first level": zipped(source, at / "b.ZIP", top="", deflate=False),
        "zip of the sorted": zipped(sorted_, at / "c.zip", top="my-copy/"),
        "tar": tarred(source, at / "a.tar"),
        "tar with ./": tarred(source, at / "b.tar", top="./"),
        "tar of the sorted": tarred(sorted_, at / "c.tar", top=""),
        "a folder with the archive": zipped(source, at / "store" / "tiny-imagenet-200.zip").parent,
    }


def test_every_form_gives_the_same_set(tmp_path, own_cache):
    source = tiny(tmp_path / "source")
    for split in ("train", "test"):
        first = data.load("tiny-imagenet", split, source)
        s = 0 if split == "train" else 1
        for image, label in zip(first.images, first.labels, strict=True):
            assert any(
                np.array_equal(image.numpy(), picture(seed_of(s, int(label), i), (64, 64)).transpose(2, 0, 1))
                for i in range(9)
            )
        assert first.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        # The classes stand in the order of their wnids; equal words are told apart.
        assert first.class_names == ("crane (n01)", "ox", "crane (n10)")
        assert (first.base, first.mean, first.std) == (
            "crop8+flip",
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
        )
        assert first.notes == ("3 of the full set's 200 classes",)
        found = forms(source, tmp_path / split) if (tmp_path / split).mkdir() is None else {}
        for path in found.values():
            for _ in range(2):  # decoded, then from the cache
                identical(data.load("Tiny_ImageNet", split, path), first)


def test_validation_images_stand_in_the_order_of_class_and_name(tmp_path, own_cache):
    root = tiny(tmp_path / "d", count=4)
    labels = dict(
        line.split("\t")[:2] for line in (root / "val" / "val_annotations.txt").read_text().splitlines()
    )
    order = sorted(labels, key=lambda name: (labels[name], name))
    assert order != sorted(labels)
    test = data.load("tiny-imagenet", "test", root)
    for i, name in enumerate(order):
        pixels = np.asarray(Image.open(root / "val" / "images" / name)).transpose(2, 0, 1)
        assert np.array_equal(test.images[i].numpy(), pixels)
        assert sorted(WNIDS)[int(test.labels[i])] == labels[name]


def test_without_lists_of_names(tmp_path, own_cache):
    root = tiny(tmp_path / "d")
    digest = data.load("tiny-imagenet", "train", root).digest
    (root / "words.txt").write_text("n01\tcrane\n\nn10\t\n")
    assert data.load("tiny-imagenet", "train", root).class_names == ("crane", "n02", "n10")
    (root / "words.txt").unlink()
    (root / "wnids.txt").unlink()
    shutil.rmtree(root / "test")
    found = data.load("tiny-imagenet", "train", root)
    assert found.class_names == ("n01", "n02", "n10")
    assert found.digest == digest


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def ann(root: Path) -> Path:
    return root / "val" / "val_annotations.txt"


def half_sorted(root: Path) -> None:
    (root / "val" / "n01").mkdir()
    (root / "val" / "images" / "val_0.JPEG").rename(root / "val" / "n01" / "val_0.JPEG")


BAD = {
    "absent image": (
        lambda r: (r / "val/images/val_3.JPEG").unlink(),
        "val_annotations.txt names val_3.JPEG, which is not in images/",
    ),
    "image without a line": (
        lambda r: edit(ann(r), ann(r).read_text().splitlines()[4] + "\n", ""),
        "val_4.JPEG has no line in val_annotations",
    ),
    "unknown wnid": (
        lambda r: edit(ann(r), "val_2.JPEG\tn10", "val_2.JPEG\tn77"),
        "line 3: val_2.JPEG is of class n77, which train/ does not have",
    ),
    "two lines": (
        lambda r: ann(r).write_text(ann(r).read_text() + "val_2.JPEG\tn02\t0\t0\t1\t1\n"),
        "line 10: val_2.JPEG stands there for the second time",
    ),
    "no tabs": (
        lambda r: edit(ann(r), "val_0.JPEG\tn02\t0\t0\t9\t9", "val_0.JPEG n02"),
        "line 1: 'val_0.JPEG n02' is no",
    ),
    "no annotations": (
        lambda r: ann(r).unlink(),
        "no .*val_annotations.txt: without it the images have no labels",
    ),
    "binary annotations": (
        lambda r: ann(r).write_bytes(b"\xff\xfe\x00"),
        "val_annotations.txt is not UTF-8 text",
    ),
    "no val": (lambda r: shutil.rmtree(r / "val"), "val holds neither images/.* nor class folders"),
    "half sorted": (
        half_sorted,
        r"val holds class folders and also images/val_1.JPEG: it was sorted only in part",
    ),
    "class without a folder": (
        lambda r: shutil.rmtree(r / "train/n10"),
        "wnids.txt lists n10, which train/ does not have; complete the copy",
    ),
    "class that is not listed": (
        lambda r: edit(r / "wnids.txt", "n10\n", ""),
        "wnids.txt does not list train/n10",
    ),
    "empty class": (lambda r: shutil.rmtree(r / "train/n02/images"), "train/n02 holds no images"),
    "twice": (
        lambda r: shutil.copy(r / "train/n02/images/n02_1.JPEG", r / "train/n02/n02_1.JPEG"),
        "train/n02/n02_1.JPEG is there twice, in the folder and in its images/",
    ),
    "no classes": (
        lambda r: [shutil.rmtree(p) for p in (r / "train").iterdir()],
        "train holds no class folders",
    ),
    "other size": (
        lambda r: (r / "val/images/val_5.JPEG").write_bytes(encoded(picture(0, (64, 60)))),
        "val_5.JPEG: an image of 64x60 pixels, expected 64x64",
    ),
    "no image": (
        lambda r: (r / "val/images/val_5.JPEG").write_bytes(b"<html>"),
        "val_5.JPEG: not a readable image",
    ),
    "empty image": (
        lambda r: (r / "val/images/val_5.JPEG").write_bytes(b""),
        "val_5.JPEG: not a readable image .it is",
    ),
}


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
@pytest.mark.parametrize("what", list(BAD))
def test_bad_copies_are_named(tmp_path, own_cache, what, form):
    change, message = BAD[what]
    root = tiny(tmp_path / "d")
    change(root)
    path = {
        "folder": lambda: root,
        "zip": lambda: zipped(root, tmp_path / "t.zip"),
        "tar": lambda: tarred(root, tmp_path / "t.tar"),
    }[form]()
    with pytest.raises(MissingError, match=message) as caught:
        data.load("tiny-imagenet", "train" if what in ("empty class", "twice") else "test", path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4


def test_images_in_wrong_folders_are_noticed(tmp_path, own_cache):
    """How a copy comes to 0.5 % accuracy: sorted, but not by the annotations."""
    root = refolder(tiny(tmp_path / "source"), tmp_path / "d")
    first = sorted((root / "val" / "n01").iterdir())[0]
    first.rename(root / "val" / "n02" / first.name)
    with pytest.raises(
        MissingError, match=rf"n02/{first.name} lies in the wrong folder: val_annotations.txt says n01"
    ):
        data.load("tiny-imagenet", "test", root)
    ann(root).unlink()  # nobody knows better then
    assert Counter(data.load("tiny-imagenet", "test", root).labels.tolist()) == {0: 2, 1: 4, 2: 3}
    shutil.rmtree(root / "val" / "n10")
    with pytest.raises(MissingError, match="val has no folder for class 'n10'"):
        data.load("tiny-imagenet", "test", root)


def test_what_is_not_tiny_imagenet(tmp_path, own_cache):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="which is empty; looked for tiny-imagenet-200.zip, a .tar of it"):
        data.load("tiny-imagenet", "train", tmp_path / "empty")
    (tmp_path / "a.tgz").write_bytes(b"x")
    with pytest.raises(MissingError, match="a.tgz, which is a file; looked for tiny"):
        data.load("tiny-imagenet", "train", tmp_path / "a.tgz")
    source = tiny(tmp_path / "source")
    for path in (
        zipped(source / "val", tmp_path / "v.zip", top="x/"),
        tarred(source / "val", tmp_path / "v.tar", top="x/"),
    ):
        with pytest.raises(MissingError, match=rf"no train/ in {path}; it is not Tiny ImageNet"):
            data.load("tiny-imagenet", "train", path)
    (tmp_path / "two" / "one").mkdir(parents=True)
    shutil.copytree(source, tmp_path / "two" / "a")
    shutil.copytree(source, tmp_path / "two" / "b")
    with pytest.raises(MissingError, match="two.zip holds a and b, each with a train/; name one"):
        data.load("tiny-imagenet", "train", zipped(tmp_path / "two", tmp_path / "two.zip", top=""))


def test_resized(tmp_path, own_cache):
    root = tiny(tmp_path / "d")
    half, whole = (data.load("tiny-imagenet", "train", root, img_size=n) for n in (32, 64))
    assert (half.img_size, half.base) == (32, "crop4+flip")
    assert half.notes == ("resized to 32x32", "3 of the full set's 200 classes")
    assert half.digest != whole.digest
    identical(whole, data.load("tiny-imagenet", "train", root))


@pytest.fixture(scope="module")
def unpacked(tiny_imagenet_tar, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    with tarfile.open(tiny_imagenet_tar) as archive:
        archive.extractall(root, filter="data")
    return root / "tiny-imagenet-200"


@pytest.mark.data
def test_the_real_sample(tiny_imagenet_tar, unpacked):
    train, test = (data.load("tiny-imagenet", split, tiny_imagenet_tar) for split in ("train", "test"))
    assert train.images.shape == (1200, 3, 64, 64)
    assert test.images.shape == (1000, 3, 64, 64)
    assert torch.equal(torch.bincount(train.labels), torch.full((20,), 60))
    assert torch.equal(torch.bincount(test.labels), torch.full((20,), 50))
    assert train.notes == test.notes == ("20 of the full set's 200 classes",)
    assert train.class_names == test.class_names
    assert {"American alligator", "slug", "Egyptian cat"} <= set(train.class_names)
    # Labels and pixels against a parse and a decoder of this test's own.
    wnids = sorted((unpacked / "wnids.txt").read_text().split())
    words = dict(line.split("\t") for line in (unpacked / "words.txt").read_text().splitlines())
    assert [words[w].split(",")[0] for w in wnids] == list(train.class_names)
    truth = {}
    for line in (unpacked / "val" / "val_annotations.txt").read_text().splitlines():
        file, wnid, *box = line.split("\t")
        assert len(box) == 4
        pixels = np.asarray(Image.open(unpacked / "val" / "images" / file).convert("RGB")).transpose(2, 0, 1)
        truth.setdefault(hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(), []).append(wnid)
    assert sum(map(len, truth.values())) == 1000
    for image, label in zip(test.images, test.labels, strict=True):
        assert wnids[int(label)] in truth[hashlib.sha256(image.numpy().tobytes()).hexdigest()]
    position = 0
    for label, wnid in enumerate(wnids):
        for file in sorted((unpacked / "train" / wnid / "images").iterdir()):
            if position % 7 == 0:
                pixels = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)
                assert np.array_equal(train.images[position].numpy(), pixels)
                assert int(train.labels[position]) == label
            position += 1
    assert position == 1200


@pytest.mark.data
def test_grey_images_of_the_real_sample_become_rgb(unpacked):
    grey = [
        (position, file)
        for position, file in enumerate(sorted(unpacked.glob("train/*/images/*.JPEG"), key=str))
        if Image.open(io.BytesIO(file.read_bytes())).mode == "L"
    ]
    assert grey, "the sample has grey images"
    train = data.load("tiny-imagenet", "train", unpacked)
    for position, file in grey:
        pixels = torch.from_numpy(np.asarray(Image.open(file)).copy())
        assert torch.equal(train.images[position], pixels.expand(3, 64, 64))


@pytest.mark.data
def test_every_form_of_the_real_sample_gives_the_same_set(tiny_imagenet_tar, unpacked, tmp_path):
    paths = [
        unpacked,
        unpacked.parent,
        zipped(unpacked, tmp_path / "a.zip"),
        tarred(unpacked, tmp_path / "a.tar", top=""),
        refolder(unpacked, tmp_path / "sorted"),
        tarred(tmp_path / "sorted", tmp_path / "sorted.tar"),
    ]
    for split in ("train", "test"):
        first = data.load("tiny-imagenet", split, tiny_imagenet_tar)
        for path in paths:
            identical(data.load("tiny-imagenet", split, path), first)


@pytest.mark.data
def test_the_real_sample_cut_short(tiny_imagenet_tar, tmp_path, own_cache):
    """Wherever an unfinished download breaks off, the set is refused, not shortened."""
    whole = tiny_imagenet_tar.read_bytes()
    rng = np.random.default_rng(0)
    # Also between two members, where the library sees an ordinary end.
    with tarfile.open(tiny_imagenet_tar) as archive:
        borders = [member.offset for member in archive.getmembers()]
    for cut in [*rng.integers(0, len(whole) - 10_240, 4), borders[700], borders[-1], borders[-1] + 512, 0]:
        (tmp_path / "t.tar").write_bytes(whole[:cut])
        with pytest.raises(MissingError, match="t.tar"):
            data.load("tiny-imagenet", "train", tmp_path / "t.tar")


def test_words_that_cannot_be_printed(tmp_path, own_cache):
    root = tiny(tmp_path / "d")
    (root / "words.txt").write_text("n01\tcrane\x1b[31m\n")
    with pytest.raises(MissingError, match=r"words.txt: class 0 is named 'crane.*'; a name is printable"):
        data.load("tiny-imagenet", "train", root)
