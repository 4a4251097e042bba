from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from data_makers import cifar100_python, picture, python2

from kdstats import data
from kdstats.data.sources import cifar_python
from kdstats.errors import MissingError

NAMES = [f"class {c}" for c in range(100)]
IMAGES = np.stack([picture(i).transpose(2, 0, 1) for i in range(6)])
LABELS = [0, 99, 3, 3, 7, 1]


def hundred(root: Path) -> Path:
    return cifar100_python(root, (IMAGES, LABELS), (IMAGES[:2], LABELS[:2]), NAMES)


def ten(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for i in range(1, 6):
        part = {b"labels": [i, i + 1], b"data": IMAGES[i - 1 : i + 1].reshape(2, -1), b"batch_label": b"x"}
        (folder / f"data_batch_{i}").write_bytes(python2(part))
    (folder / "test_batch").write_bytes(python2({b"labels": [9], b"data": IMAGES[:1].reshape(1, -1)}))
    names = b"".join(b"S'class %d'\np%d\na" % (c, c + 5) for c in range(10))
    (folder / "batches.meta").write_bytes(b"(dp1\nS'label_names'\np2\n(lp3\n" + names + b"s.")
    return root


def test_cifar100(tmp_path, own_cache):
    root = hundred(tmp_path / "data")
    train, test = (data.load("cifar-100", split, root) for split in ("train", "test"))
    assert np.array_equal(train.images.numpy(), IMAGES)
    assert train.labels.tolist() == LABELS
    assert train.sample_id.tolist() == list(range(6))
    assert train.class_names == tuple(NAMES)
    assert (train.name, train.base, len(test)) == ("cifar100", "crop4+flip", 2)
    assert train.digest != test.digest
    # The inner folder may be named as well, and the second reading comes from the cache.
    again = data.load("cifar100", "train", root / "cifar-100-python")
    assert torch.equal(again.images, train.images)
    assert (again.digest, again.notes) == (train.digest, train.notes)
    assert train.notes == ("not the published file, by its md5: train",)
    assert len(list((own_cache / "datasets").iterdir())) == 2


def test_cifar10_has_five_parts_and_a_text_file_of_names(tmp_path, own_cache):
    root = ten(tmp_path / "data")
    train = data.load("cifar10", "train", root)
    assert train.labels.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert np.array_equal(train.images[2:4].numpy(), IMAGES[1:3])
    assert train.class_names == tuple(f"class {c}" for c in range(10))
    assert (train.mean[0], train.std[2], train.base) == (0.4914, 0.2616, "crop4+flip")
    assert data.load("cifar10", "test", root).labels.tolist() == [9]
    (root / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(MissingError, match=r"no file .*data_batch_3.*cifar-10-batches-py"):
        data.load("cifar10", "train", root)


def test_torchvision_reads_the_same(tmp_path, own_cache, monkeypatch):
    """The folder of the test is one that torchvision takes, and it finds the same in it."""
    root = hundred(tmp_path / "data")
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    theirs = torchvision.datasets.CIFAR100(str(root), train=True)
    ours = data.load("cifar100", "train", root)
    assert np.array_equal(theirs.data.transpose(0, 3, 1, 2), ours.images.numpy())
    assert theirs.targets == ours.labels.tolist()
    assert theirs.classes == list(ours.class_names)


def test_the_published_files_are_known_by_the_md5_that_torchvision_knows():
    for name, theirs in (
        ("cifar10", torchvision.datasets.CIFAR10),
        ("cifar100", torchvision.datasets.CIFAR100),
    ):
        ours = cifar_python.VARIANTS[name]
        assert ours.folder == theirs.base_folder
        assert list(map(list, ours.files["train"].items())) == theirs.train_list
        assert list(map(list, ours.files["test"].items())) == theirs.test_list
        assert (ours.meta[0], ours.meta[1]) == (theirs.meta["filename"], theirs.meta["key"])


def test_another_size(tmp_path, own_cache):
    root = hundred(tmp_path / "data")
    small = data.load("cifar100", "train", root, img_size=16)
    assert small.images.shape == (6, 3, 16, 16)
    assert small.base == "crop2+flip"
    assert small.notes[1:] == ("resized to 16x16",)
    plain, same = (data.load("cifar100", "train", root, img_size=size) for size in (None, 32))
    assert small.digest != plain.digest
    assert (same.digest, same.notes) == (plain.digest, plain.notes)
    assert torch.equal(same.images, plain.images)


class Malice:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("file", ["train", "meta"])
def test_a_malicious_folder_is_refused_without_running_it(tmp_path, own_cache, file):
    root = hundred(tmp_path / "data")
    target, marker = root / "cifar-100-python" / file, tmp_path / "marker"
    document = pickle.loads(target.read_bytes(), encoding="bytes")
    target.write_bytes(pickle.dumps({**document, b"extra": Malice(marker)}, protocol=2))
    with pytest.raises(MissingError, match=rf"{target} is refused: it asks to import") as caught:
        data.load("cifar100", "train", root)
    assert caught.value.exit_code == 4
    assert not marker.exists()
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'), encoding='bytes')"
    subprocess.run([sys.executable, "-c", code, str(target)], check=True, timeout=60)
    assert marker.exists(), "plain pickle should have run it"


BAD = {
    "keys": ({b"labels": [1]}, "expected 'data' of .N, 3072. bytes, found keys labels"),
    "width": (
        {b"data": np.zeros((6, 3073), np.uint8), b"fine_labels": LABELS},
        r"'data' of .N, 3072. bytes, found \[6, 3073\]",
    ),
    "a list": ({b"data": [1, 2], b"fine_labels": LABELS}, "expected 'data'"),
    "other type": (
        {b"data": np.zeros((6, 3072)), b"fine_labels": LABELS},
        "is refused: an array that is not of uint8",
    ),
    "count": ({b"data": IMAGES.reshape(6, -1), b"fine_labels": LABELS[:5]}, "6 images and 5 labels"),
    "no labels": ({b"data": IMAGES.reshape(6, -1)}, "6 images and none labels under 'fine_labels'"),
    "no images": ({b"data": np.zeros((0, 3072), np.uint8), b"fine_labels": []}, "0 images and 0 labels"),
    "label high": (
        {b"data": IMAGES.reshape(6, -1), b"fine_labels": [0, 1, 100, 3, 4, 5]},
        "row 2: label is 100",
    ),
    "label low": (
        {b"data": IMAGES.reshape(6, -1), b"fine_labels": [0, 1, 2, -1, 4, 5]},
        "row 3: label is -1",
    ),
    "label text": (
        {b"data": IMAGES.reshape(6, -1), b"fine_labels": [0, b"1", 2, 3, 4, 5]},
        "row 1: label is of type bytes",
    ),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_contents_are_named(tmp_path, own_cache, what):
    document, message = BAD[what]
    root = hundred(tmp_path / "data")
    file = root / "cifar-100-python" / "train"
    file.write_bytes(python2(document))
    with pytest.raises(MissingError, match=message) as caught:
        data.load("cifar100", "train", root)
    assert str(file) in str(caught.value)


def test_bad_files_are_named(tmp_path, own_cache):
    root = hundred(tmp_path / "data")
    folder = root / "cifar-100-python"
    good = {name: (folder / name).read_bytes() for name in ("train", "meta")}
    for name, blob, message in (
        ("train", b"", "train is empty"),
        ("train", good["train"][:-900], "train is no pickle of CIFAR, or is cut short"),
        ("train", b"hello", "train is no pickle"),
        ("meta", python2({b"fine_label_names": [b"a"] * 99}), "meta names 99 classes; cifar100 has 100"),
        ("meta", python2({b"label_names": [b"a"] * 100}), "no list of names under 'fine_label_names'"),
        ("meta", python2({b"fine_label_names": [3] * 100}), "no list of names"),
    ):
        (folder / name).write_bytes(blob)
        with pytest.raises(MissingError, match=message):
            data.load("cifar100", "train", root)
        (folder / name).write_bytes(good[name])
    (folder / "meta").unlink()
    with pytest.raises(MissingError, match=r"no file .*meta\. Put torchvision's folder"):
        data.load("cifar100", "train", root)
    (folder / "train").unlink()
    (folder / "train").mkdir()
    with pytest.raises(MissingError, match="no file .*train"):
        data.load("cifar100", "train", root)


def test_the_archive_that_was_not_unpacked(tmp_path, own_cache):
    root = tmp_path / "data"
    root.mkdir()
    (root / "cifar-100-python.tar.gz").write_bytes(b"x")
    with pytest.raises(
        MissingError, match=r"which holds the archive cifar-100-python.tar.gz .unpack it.*looked for"
    ):
        data.load("cifar100", "train", root)


def test_below_the_environments_folder(tmp_path, own_cache, monkeypatch):
    monkeypatch.setenv("KDSTATS_DATA", str(hundred(tmp_path / "data")))
    assert len(data.load("cifar100")) == 6
    # A folder of the registry's name comes first.
    shutil.copytree(tmp_path / "data" / "cifar-100-python", tmp_path / "data" / "cifar100")
    (tmp_path / "data" / "cifar-100-python" / "train").unlink()
    assert len(data.load("cifar100")) == 6


@pytest.mark.data
def test_real_images_in_the_published_form(tmp_path, own_cache, cifar100_folder):
    """All of CIFAR-100's test images, and 3,000 of the training images, through the format that its authors use."""
    test = data.load("cifar100", "test", cifar100_folder)
    part = test.take(per_class=30)
    root = cifar100_python(
        tmp_path / "data",
        (part.images.numpy(), part.labels.tolist()),
        (test.images.numpy(), test.labels.tolist()),
        test.class_names,
    )
    for split, source in (("train", part), ("test", test)):
        found = data.load("cifar100", split, root)
        assert torch.equal(found.images, source.images)
        assert torch.equal(found.labels, source.labels)
        assert found.class_names == source.class_names
        assert (found.mean, found.std, found.base) == (source.mean, source.std, source.base)
        assert torch.equal(found.sample_id, torch.arange(len(source)))


def test_class_names_that_cannot_be_printed(tmp_path, own_cache):
    images = np.stack([picture(i).transpose(2, 0, 1) for i in range(2)])
    names = [*(f"class {i}" for i in range(99)), "a\x1b[31mred"]
    root = cifar100_python(tmp_path / "d", (images, [0, 1]), (images, [0, 1]), names)
    with pytest.raises(MissingError, match=r"meta: class 99 is named 'a.*red'; a name is printable"):
        data.load("cifar100", "train", root)
