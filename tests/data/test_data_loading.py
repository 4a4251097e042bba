"""Names, places and layouts: what is found before anything is decoded."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import cifar100_python, class_folders, encoded, picture, tiny, zipped

from kdstats import data
from kdstats.data import loading, moments
from kdstats.data.moments import channel_moments
from kdstats.data.registry import DataCard
from kdstats.data.sources import LAYOUTS
from kdstats.data.standard import StandardAugmentation
from kdstats.errors import MissingError, UsageError


@pytest.mark.parametrize("name", data.names())
def test_every_card_is_whole(name):
    card = data.card(name)
    assert card.name == name
    assert card.needs_path == (name != "digits")
    for layout in card.layouts:
        assert LAYOUTS[layout].looks_for(name)
    assert card.how.endswith(".")
    assert card.constants
    if card.mean is not None:
        assert card.std is not None
        assert len(card.mean) == len(card.std) == card.channels
        assert card.base is not None
        StandardAugmentation(card.base)
        assert all(0.2 < v < 0.6 for v in (*card.mean, *card.std))


def test_every_layout_belongs_to_a_card():
    assert set(LAYOUTS) == {layout for name in data.names() for layout in data.card(name).layouts}


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("CIFAR100", "cifar100"),
        ("cifar-100", "cifar100"),
        ("cifar_10", "cifar10"),
        ("CIFAR-10", "cifar10"),
        ("tinyimagenet", "tiny-imagenet"),
        ("tiny_imagenet", "tiny-imagenet"),
        ("Tiny-ImageNet", "tiny-imagenet"),
        ("tiny-imagenet-200", "tiny-imagenet"),
        ("image_folder", "imagefolder"),
        ("ImageFolder", "imagefolder"),
        ("Parquet", "parquet"),
        ("Digits", "digits"),
    ],
)
def test_other_spellings(alias, name):
    assert data.card(alias).name == name


@pytest.mark.parametrize("name", ["cifar", "cifar1000", "imagenett", "tiny", ""])
def test_unknown_names(name):
    with pytest.raises(UsageError, match=rf"no data set named '{name}'.*`kdstats datasets` lists all"):
        data.card(name)


def test_crops_are_an_eighth_of_the_size(tmp_path, own_cache):
    for size, base in (
        (64, "crop8+flip"),
        (32, "crop4+flip"),
        (8, "crop1+flip"),
        (7, "flip"),
        (20, "crop2+flip"),
    ):
        root = class_folders(tmp_path / str(size), size=(size, size))
        found = data.load("imagefolder", "train", root)
        assert found.base == base
        moved = StandardAugmentation(found.base).apply(found.images, found.sample_id, 0, 0)
        assert moved.shape == found.images.shape
    for card, resized in (
        ("crop4+flip", "crop8+flip"),
        ("crop1", "crop8"),
        ("flip", "flip"),
        ("none", "none"),
    ):
        assert loading._base(card, 64, 32) == resized
    assert loading._base("crop1", 4, 8) == "none"


def test_moments_are_exact():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9000, 3, 5, 5), dtype=np.uint8)
    images[:, 1] //= 3
    means, deviations = channel_moments(images)
    values = images.astype(np.float64) / 255
    assert means == pytest.approx(values.mean((0, 2, 3)), abs=1e-14)
    assert deviations == pytest.approx(values.std((0, 2, 3)), abs=1e-14)


def parquet(root, name: str) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": encoded(picture(i)), "path": ""} for i in range(4)], kind)
    pq.write_table(pa.table({"img": column, "label": pa.array(range(4))}), root / name)


def test_a_folder_of_two_layouts_is_not_guessed_at(tmp_path, own_cache):
    images = np.stack([picture(i).transpose(2, 0, 1) for i in range(4)])
    root = cifar100_python(tmp_path / "d", (images, range(4)), (images, range(4)), map(str, range(100)))
    parquet(root, "train.parquet")
    with pytest.raises(
        MissingError, match=r"holds cifar-100-python/ with .* and also train-\*.parquet.*; name a folder"
    ):
        data.load("cifar100", "train", root)
    assert len(data.load("cifar100", "train", root / "cifar-100-python")) == 4
    shutil.rmtree(root / "cifar-100-python")
    assert len(data.load("cifar100", "train", root)) == 4


def test_the_environments_folder(tmp_path, own_cache, monkeypatch):
    home = tmp_path / "home"
    (home / "cifar100").mkdir(parents=True)
    monkeypatch.setenv("KDSTATS_DATA", str(home))
    with pytest.raises(
        MissingError, match="no cifar100 in .*cifar100, which is empty; looked for cifar-100-python"
    ):
        data.load("cifar_100")
    source = tiny(tmp_path / "source")
    with pytest.raises(MissingError, match=r"no folder .*/tiny-imagenet\. Get tiny-imagenet-200.zip"):
        data.load("tinyimagenet")
    zipped(source, home / "tiny-imagenet-200.zip")
    assert len(data.load("tinyimagenet")) == 9
    shutil.copytree(source, home / "tiny-imagenet")
    (home / "tiny-imagenet-200.zip").unlink()
    assert len(data.load("tinyimagenet")) == 9
    # Folders of one's own go by the registry's name only: what lies loose in there is nobody's in particular.
    class_folders(home)
    with pytest.raises(MissingError, match="no folder .*/imagefolder"):
        data.load("imagefolder")
    # What is named comes before the environment.
    assert data.load("imagefolder", "train", class_folders(tmp_path / "named")).classes == 3


def test_embedded_sets_take_no_path(tmp_path):
    with pytest.raises(UsageError, match="digits is embedded and reads no files; leave out --data"):
        data.load("digits", "train", tmp_path)


def test_what_the_system_refuses_is_one_sentence(tmp_path, monkeypatch):
    def broken(card: DataCard, path: object) -> object:
        raise OSError(5, "Input/output error", "/dev/disk")

    monkeypatch.setattr(loading, "_layout", broken)
    with pytest.raises(MissingError, match="^/dev/disk cannot be read: Input/output error$"):
        data.load("imagefolder", "train", class_folders(tmp_path / "d"))


def test_the_cache_knows_sizes_and_sets_apart(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", map(str, range(10)), ("train", "test"), 1, (32, 32))
    sets = [
        data.load(name, split, root, img_size=size)
        for name in ("cifar10", "imagefolder")
        for split in ("train", "test")
        for size in (None, 16, 32)
    ]
    assert len(list((own_cache / "datasets").iterdir())) == 12
    for before in sets:
        size = None if before.img_size == 32 else 16
        again = data.load(before.name, before.split, root, img_size=size)
        assert np.array_equal(again.images.numpy(), before.images.numpy())
        assert (again.digest, again.mean, again.base) == (before.digest, before.mean, before.base)
    # Resizing to the size that they have is no change; both sets hold the same images.
    assert len({s.digest for s in sets}) == 4


def test_moments_are_counted_in_blocks_of_pixels(monkeypatch):
    """Whatever the size of the images: bincount widens what it is given to eight bytes."""
    widest = 0
    count = np.bincount

    def watched(block, minlength):
        nonlocal widest
        widest = max(widest, len(block))
        return count(block, minlength=minlength)

    monkeypatch.setattr(moments, "_PIXELS", 1000)
    monkeypatch.setattr(np, "bincount", watched)
    for shape in ((300, 3, 5, 5), (7, 3, 40, 41)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        values = images.astype(np.float64) / 255
        means, deviations = channel_moments(images)
        assert means == pytest.approx(values.mean((0, 2, 3)), abs=1e-14)
        assert deviations == pytest.approx(values.std((0, 2, 3)), abs=1e-14)
    assert widest == 1000


def test_names_are_loaded_when_they_are_asked_for():
    code = (
        "import sys, kdstats.cli.datasets as d; from kdstats import data; from kdstats.data import card, download\n"
        "d._cards('table'), d._card('cifar100', 'table'), data.names(), data.card('digits')\n"
        "assert not {'torch', 'PIL', 'pyarrow', 'sklearn'} & set(sys.modules), 'too much is imported'\n"
        "assert data.Selection.__name__ == 'Selection' and set(data.__all__) == set(dir(data))\n"
        "assert all(hasattr(data, name) for name in data.__all__) and not hasattr(data, 'Nothing')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
