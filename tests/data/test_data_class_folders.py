from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from data_makers import class_folders, encoded, picture, seed_of
from PIL import Image

from kdstats import data
from kdstats.errors import KdstatsError, MissingError, UsageError


def expected(split: int, classes: int = 3, count: int = 3) -> np.ndarray:
    seeds = [seed_of(split, c, i) for c in range(classes) for i in range(count)]
    return np.stack([picture(seed, (16, 16)).transpose(2, 0, 1) for seed in seeds])


def test_pixels_labels_names_and_ids(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    for _ in range(2):  # decoded, then from the cache
        for s, split in enumerate(("train", "test")):
            found = data.load("image_folder", split, root)
            assert np.array_equal(found.images.numpy(), expected(s))
            assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
            assert torch.equal(found.sample_id, torch.arange(9))
            assert found.class_names == ("cat", "dog", "eel")
            assert (found.name, found.base, found.img_size, found.notes) == (
                "imagefolder",
                "crop2+flip",
                16,
                (),
            )
    assert len(list((own_cache / "datasets").iterdir())) == 2


def test_torchvision_finds_the_same(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", ("b", "B", "a10", "a9", "_x"), count=12)
    theirs = torchvision.datasets.ImageFolder(str(root / "train"))
    ours = data.load("imagefolder", "train", root)
    assert list(ours.class_names) == theirs.classes
    assert ours.labels.tolist() == theirs.targets
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1) for image, _ in theirs])
    assert np.array_equal(ours.images.numpy(), pixels)


@pytest.mark.parametrize("name", ["val", "test", "validation", "valid"])
def test_names_of_the_second_split(tmp_path, own_cache, name):
    root = class_folders(tmp_path / "d", splits=("train", name))
    assert np.array_equal(data.load("imagefolder", "test", root).images.numpy(), expected(1))


def test_a_test_folder_without_labels_beside_val(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    (root / "test" / "unknown").mkdir(parents=True)
    (root / "test" / "unknown" / "1.png").write_bytes(encoded(picture()))
    found = data.load("imagefolder", "test", root)
    assert np.array_equal(found.images.numpy(), expected(1))
    assert found.notes == ("the test images are those of val/, not of test/",)
    assert data.load("imagefolder", "train", root).notes == ()


def test_constants_are_those_of_all_training_images(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", count=7)
    train, test = (data.load("imagefolder", split, root) for split in ("train", "test"))
    values = expected(0, count=7).astype(np.float64) / 255
    assert train.mean == pytest.approx(values.mean((0, 2, 3)), abs=1e-13)
    assert train.std == pytest.approx(values.std((0, 2, 3)), abs=1e-13)
    assert (test.mean, test.std) == (train.mean, train.std)
    normal = train.normalise(train.images)
    assert normal.mean((0, 2, 3)).abs().max() < 1e-6


def test_the_test_split_alone_reads_the_training_images_once(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    alone = data.load("imagefolder", "test", root)
    assert sorted(p.name.rsplit("-", 1)[0] for p in (own_cache / "datasets").iterdir()) == [
        "imagefolder-test",
        "imagefolder-train",
    ]
    assert alone.mean == data.load("imagefolder", "train", root).mean
    # Without any cache it is slower and the same.
    shutil.rmtree(own_cache)
    own_cache.write_text("in the way")
    assert data.load("imagefolder", "test", root).mean == alone.mean


def test_every_change_of_the_files_is_seen(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    digests = {data.load("imagefolder", "train", root).digest}

    def changed(count: int) -> None:
        digests.add(data.load("imagefolder", "train", root).digest)
        assert len(digests) == count

    (root / "train" / "cat" / "0.png").write_bytes(encoded(picture(77, (16, 16))))
    changed(2)
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "9.png")
    changed(3)
    (root / "train" / "cat" / "9.png").rename(root / "train" / "dog" / "9.png")
    changed(4)
    for split in ("train", "val"):  # the name of a class alone
        (root / split / "cat").rename(root / split / "cow")
    assert data.load("imagefolder", "train", root).class_names[0] == "cow"
    changed(5)


def test_the_three_formats_and_grey(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    for form, ending in (("JPEG", "jpg"), ("JPEG", "JPEG"), ("WEBP", "webp"), ("PNG", "PNG")):
        (root / "train" / "cat" / f"x.{ending}").write_bytes(encoded(picture(5, (16, 16)), form))
    grey = picture(6, (16, 16))[..., 0]
    (root / "train" / "cat" / "y.png").write_bytes(encoded(grey))
    found = data.load("imagefolder", "train", root)
    cats = found.images[found.labels == 0]
    assert len(cats) == 8
    assert np.array_equal(cats[7].numpy(), np.broadcast_to(grey, (3, 16, 16)))
    jpeg = np.asarray(Image.open(root / "train" / "cat" / "x.jpg").convert("RGB")).transpose(2, 0, 1)
    names = sorted(p.name for p in (root / "train" / "cat").iterdir())
    assert np.array_equal(cats[names.index("x.jpg")].numpy(), jpeg)


def test_what_file_managers_leave_behind_is_passed_over(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    for name in (".DS_Store", "Thumbs.db", "train/.DS_Store", "train/cat/._0.png", "train/cat/desktop.ini"):
        (root / name).write_bytes(b"x")
    for name in (".git", "train/.cache", "train/__MACOSX"):
        (root / name).mkdir()
    (root / "train" / "cat" / "README.txt").write_text("cats")
    assert np.array_equal(data.load("imagefolder", "train", root).images.numpy(), expected(0))


def test_cifar_as_class_folders(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", map(str, range(10)), ("train", "test"), 1, (32, 32))
    assert data.load("cifar10", "test", root).mean == (0.4914, 0.4822, 0.4465)
    with pytest.raises(MissingError, match="train holds 10 class folders; cifar100 has 100 classes"):
        data.load("cifar100", "train", root)


def test_images_of_unlike_sizes(tmp_path, own_cache):
    root = class_folders(tmp_path / "d")
    (root / "train" / "dog" / "1.png").write_bytes(encoded(picture(1, (16, 17))))
    (root / "train" / "eel" / "1.png").write_bytes(encoded(picture(1, (20, 20))))
    with pytest.raises(
        MissingError, match=r"dog/1.png: an image of 16x17 pixels, expected 16x16 as in .*cat/0.png"
    ) as e:
        data.load("imagefolder", "train", root)
    assert "--img-size N resizes all of them to NxN" in str(e.value)
    found = data.load("imagefolder", "train", root, img_size=8)
    assert (found.img_size, found.base, found.notes) == (8, "crop1+flip", ("resized to 8x8",))
    # The test images need not have the size of the training images then.
    assert data.load("imagefolder", "test", root, img_size=8).mean == found.mean
    small = data.load("imagefolder", "test", root, img_size=5)
    assert (small.img_size, small.base) == (5, "flip")


def folder(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)


def write(root: Path, name: str, blob: bytes = b"x") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(blob)


def flat(root: Path) -> None:
    shutil.rmtree(root / "val")
    for c in list((root / "train").iterdir()):
        c.rename(root / c.name)
    (root / "train").rmdir()


def loose(root: Path) -> None:
    shutil.rmtree(root)
    write(root, "1.png", encoded(picture()))


BAD = {
    "no splits": (flat, "which holds cat, dog, eel but no train/ and val/; looked for train/<class>"),
    "images only": (loose, r"no imagefolder in .*; looked for train/<class>/"),
    "empty folder": (lambda r: (shutil.rmtree(r), folder(r, ".")), "which is empty; looked for"),
    "empty train": (
        lambda r: (shutil.rmtree(r / "train"), folder(r, "train")),
        "train is empty; it should hold one",
    ),
    "images in train": (
        lambda r: (shutil.rmtree(r / "train"), write(r, "train/a.png")),
        "train holds 1 images; it should hold one folder per class",
    ),
    "an image beside the classes": (
        lambda r: write(r, "train/a.png"),
        "train/a.png lies beside the class folders",
    ),
    "one class": (
        lambda r: [shutil.rmtree(r / s / c) for s in ("train", "val") for c in ("cat", "dog")],
        "holds the one class 'eel'; at least two",
    ),
    "class lacking in val": (
        lambda r: shutil.rmtree(r / "val/dog"),
        r"val has no folder for class 'dog' of train/",
    ),
    "class lacking in train": (
        lambda r: shutil.rmtree(r / "train/dog"),
        r"val/dog is a class that train/ does not",
    ),
    "misspelt class": (
        lambda r: (folder(r, "val/catt"), write(r, "val/catt/1.png", encoded(picture(0, (16, 16))))),
        r"val/catt is a class that train/ does not have, only 'cat'",
    ),
    "empty class": (
        lambda r: [f.unlink() for f in (r / "train/dog").iterdir()],
        r"train/dog holds no images .\*.png",
    ),
    "folder in a class": (
        lambda r: folder(r, "train/dog/more"),
        "dog/more is a folder inside a class folder",
    ),
    "tiny imagenet": (lambda r: folder(r, "train/dog/images"), "Tiny ImageNet. then --dataset tiny-imagenet"),
    "unread kind": (
        lambda r: write(r, "train/dog/a.bmp"),
        "dog/a.bmp is a BMP file; images are read as PNG, JPEG",
    ),
    "empty file": (
        lambda r: write(r, "train/dog/1.png", b""),
        "dog/1.png: not a readable image .it is empty",
    ),
    "text": (lambda r: write(r, "train/dog/1.png", b"hello"), "dog/1.png: not a readable image"),
    "a bmp in disguise": (
        lambda r: write(r, "train/dog/1.png", encoded(picture(), "BMP")),
        "dog/1.png: not a readable image .none of PNG, WEBP, JPEG",
    ),
    "cut short": (
        lambda r: write(r, "train/dog/1.png", encoded(picture(0, (16, 16)))[:200]),
        "dog/1.png: not a readable image",
    ),
    "a huge file": (
        lambda r: write(r, "train/dog/1.png", bytes(50_000_001)),
        "dog/1.png holds 50 MB by its own account; nothing over 50 MB",
    ),
    "a pipe": (
        lambda r: (os.remove(r / "train/dog/1.png"), os.mkfifo(r / "train/dog/1.png")),
        "is no regular file",
    ),
    "a link to nowhere": (
        lambda r: (os.remove(r / "train/dog/1.png"), os.symlink("/nowhere", r / "train/dog/1.png")),
        "dog/1.png cannot be read: No such file",
    ),
    "a link to itself": (
        lambda r: (os.remove(r / "train/dog/1.png"), os.symlink("1.png", r / "train/dog/1.png")),
        "dog/1.png cannot be read: Too many levels",
    ),
    "a name that is no text": (
        lambda r: os.rename(r / "train/dog/1.png", os.fsencode(r / "train/dog") + b"/\xff.png"),
        r"udcff.png: the name is not printable UTF-8",
    ),
    "a name over two lines": (lambda r: write(r, "train/dog/a\nb.png"), "the name is not printable"),
    "train is a file": (lambda r: (shutil.rmtree(r / "train"), write(r, "train")), "no imagefolder in"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_bad_folders_are_named(tmp_path, own_cache, what):
    change, message = BAD[what]
    root = class_folders(tmp_path / "d")
    change(root)
    with pytest.raises(MissingError, match=message) as caught:
        data.load("imagefolder", "train", root)
    text = str(caught.value)
    assert str(root) in text
    assert "\n" not in text
    text.encode("utf-8")
    assert caught.value.exit_code == 4


def test_a_set_without_a_second_split(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", splits=("train",))
    assert len(data.load("imagefolder", "train", root)) == 9
    with pytest.raises(
        MissingError, match="has none of test/, val/, validation/, valid/ with class folders. Make"
    ):
        data.load("imagefolder", "test", root)


def test_paths_that_are_no_folder(tmp_path, own_cache):
    with pytest.raises(MissingError, match=r"no folder .*nowhere\. Make folders train"):
        data.load("imagefolder", "train", tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(MissingError, match="no imagefolder in .*file, which is a file; looked for"):
        data.load("imagefolder", "train", tmp_path / "file")
    with pytest.raises(UsageError, match=r"imagefolder is read from files: name their folder with --data"):
        data.load("imagefolder")
    # A path below a file.
    with pytest.raises(MissingError, match="no folder"):
        data.load("imagefolder", "train", tmp_path / "file" / "deeper")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Permissions do not bind root, so these tests go without its rights for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("what", ["train/dog/1.png", "train/dog", "train", "."])
def test_what_may_not_be_read(own_cache, what):
    # Not below tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as place:
        root = class_folders(Path(place) / "d")
        os.chmod(place, 0o755)
        os.chmod(root / what, 0)
        try:
            with (
                nobody(),
                pytest.raises(KdstatsError, match=rf"{root}.* cannot be read: Permission denied") as caught,
            ):
                data.load("imagefolder", "train", root)
            assert caught.value.exit_code == 4
        finally:
            os.chmod(root / what, 0o755)


def test_links_in_a_users_own_folder_are_followed(tmp_path, own_cache):
    class_folders(tmp_path / "real")
    (tmp_path / "d").mkdir()
    for split in ("train", "val"):
        (tmp_path / "d" / split).symlink_to(tmp_path / "real" / split)
    assert np.array_equal(data.load("imagefolder", "train", tmp_path / "d").images.numpy(), expected(0))


def test_folders_named_by_numbers(tmp_path, own_cache):
    """Of a set with numbered classes they are its indices; torchvision's order is that of the text."""
    names = [str(i) for i in range(100)]
    root = class_folders(tmp_path / "d", names, ("train", "test"), 1, (32, 32))
    ours, cifar = (data.load(name, "train", root) for name in ("imagefolder", "cifar100"))
    assert cifar.class_names == tuple(names)
    assert cifar.notes == ("the class folders are named by numbers and taken in the order of the numbers",)
    assert (
        list(ours.class_names)
        == sorted(names)
        == torchvision.datasets.ImageFolder(str(root / "train")).classes
    )
    assert ours.notes == (
        "the class folders are named by numbers and taken in the order of the text (0, 1, 10, 11, …), as torchvision "
        "does",
    )
    # The same pictures under the same names, whatever the order.
    at = {name: i for i, name in enumerate(ours.class_names)}
    assert torch.equal(cifar.images, ours.images[[at[name] for name in names]])
    assert data.load("cifar100", "test", root).class_names == cifar.class_names


def test_numbers_of_one_length_need_no_note(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", [f"{i:02d}" for i in range(10)], ("train", "test"), 1, (32, 32))
    for name in ("imagefolder", "cifar10"):
        found = data.load(name, "train", root)
        assert found.class_names == tuple(f"{i:02d}" for i in range(10))
        assert found.notes == ()
