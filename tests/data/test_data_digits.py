from __future__ import annotations

import gzip
import hashlib
import importlib.machinery
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from kdstats import data
from kdstats.data import digits
from kdstats.errors import MissingError, UsageError


def test_splits_are_sklearns_images():
    bunch = load_digits()
    train, test = data.load("digits"), data.load("digits", "test")
    assert (len(train), len(test)) == (1280, 517)
    ids = torch.cat([train.sample_id, test.sample_id])
    assert torch.equal(ids.sort().values, torch.arange(1797))
    for part in (train, test):
        assert part.images.shape[1:] == (1, 8, 8)
        assert part.images.dtype == torch.uint8
        assert np.array_equal(part.labels.numpy(), bunch.target[part.sample_id.numpy()])
        grey = part.images[:, 0].double().numpy() / 255 * 16
        assert np.abs(grey - bunch.images[part.sample_id.numpy()]).max() < 0.04
        assert (part.classes, part.channels, part.img_size, part.base) == (10, 1, 8, "crop1")
        assert min(torch.bincount(part.labels)) > 0.08 * len(part)
    assert torch.equal(train.images, data.load("digits").images)
    assert train.digest == test.digest


def test_card_constants_normalise_the_training_images():
    # The card's 0.3053 and 0.3760 are those of all 1,797 images before they were spread over 0…255.
    train = data.load("digits")
    values = train.images.double() / 255
    assert train.mean[0] == pytest.approx(float(values.mean()), abs=5e-4)
    assert train.std[0] == pytest.approx(float(values.std(correction=0)), abs=5e-4)
    normal = train.normalise(train.images)
    with torch.inference_mode():  # the constants are kept: they must serve training afterwards
        replace(train, mean=(0.25,)).normalise(train.images[:2])
    leaf = torch.ones(1, requires_grad=True)
    (leaf * replace(train, mean=(0.25,)).normalise(train.images[:2])).sum().backward()
    assert leaf.grad is not None
    assert normal.dtype == torch.float32
    assert abs(float(normal.mean())) < 1e-3
    assert float(normal.std()) == pytest.approx(1, abs=2e-3)
    assert torch.allclose(normal, ((values - train.mean[0]) / train.std[0]).float(), atol=1e-6)


def test_names_and_what_is_refused():
    assert data.names() == [
        "digits",
        "cifar10",
        "cifar100",
        "tiny-imagenet",
        "imagenet",
        "imagenet100",
        "imagefolder",
        "parquet",
    ]
    with pytest.raises(UsageError, match=r"'digits'.*kdstats datasets"):
        data.load("digit")
    with pytest.raises(UsageError, match="split.*'train'"):
        data.load("digits", "trian")
    with pytest.raises(UsageError, match="embedded"):
        data.load("digits", "train", "somewhere")


def test_rows_are_the_images_at_positions():
    train = data.load("digits")
    at = torch.tensor([5, 0, 1279, 5])
    for found, whole in zip(train.rows(at), (train.images, train.labels, train.sample_id), strict=True):
        assert torch.equal(found, whole[at])


def test_head_and_impossible_sets():
    train = data.load("digits")
    assert torch.equal(train.head(5).sample_id, train.sample_id[:5])
    for n in (0, -1, 1281):
        with pytest.raises(UsageError, match="1280 images"):
            train.head(n)
    bad = {
        "uint8": {"images": train.images.float()},
        "1280 images, 3 labels": {"labels": train.labels[:3]},
        "1279 sample ids": {"sample_id": train.sample_id[1:]},
        "a label lies outside 0…8": {"class_names": tuple("012345678")},
        "2 means": {"mean": (0.1, 0.2)},
    }
    for message, change in bad.items():
        with pytest.raises(MissingError, match=message):
            replace(train, **change)
    for label in (-1, 10):
        labels = train.labels.clone()
        labels[7] = label
        with pytest.raises(MissingError, match="outside"):
            replace(train, labels=labels)


def test_at_another_size():
    small, plain = data.load("digits", "test", img_size=4), data.load("digits", "test")
    assert small.images.shape == (517, 1, 4, 4)
    assert small.base == "none"
    assert small.digest != plain.digest
    assert small.notes == ("resized to 4x4",)
    large = data.load("digits", "test", img_size=16)
    assert (large.img_size, large.base) == (16, "crop2")
    assert len({small.digest, plain.digest, large.digest}) == 3
    # A size that changes nothing changes nothing.
    same = data.load("digits", "test", img_size=8)
    assert (same.digest, same.notes, same.base) == (plain.digest, (), "crop1")
    # Means over the pooled pixels stay where they were.
    assert small.images.double().mean() == pytest.approx(float(plain.images.double().mean()), rel=0.05)
    for size in (0, -1, 2000, 3.5, True):
        with pytest.raises(UsageError, match="--img-size is a whole number"):
            data.load("digits", img_size=size)


def test_to_a_device():
    train = data.load("digits").head(3)
    assert torch.equal(train.to("cpu").images, train.images)
    if torch.cuda.is_available():
        assert train.to("cuda").labels.device.type == "cuda"


@pytest.fixture
def fresh():
    """The images read anew, and again for whoever comes afterwards."""
    digits._source.cache_clear()
    yield
    digits._source.cache_clear()


def elsewhere(monkeypatch, folder):
    spec = importlib.machinery.ModuleSpec("sklearn", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: spec)


def test_the_file_is_read_as_scikit_learn_reads_it(fresh, monkeypatch, tmp_path):
    bunch = load_digits()
    digest = hashlib.sha256(bunch.images.astype(np.uint8).tobytes()).hexdigest()
    read = data.load("digits"), data.load("digits", "test")
    for part in read:
        rows = part.sample_id.numpy()
        pixels = np.rint(bunch.images[rows] * (255.0 / 16.0)).astype(np.uint8)
        assert part.images[:, 0].numpy().tobytes() == pixels.tobytes()
        assert part.labels.numpy().tobytes() == bunch.target[rows].astype(np.int64).tobytes()
        assert part.digest == digest
    # A release that keeps the file elsewhere is asked itself, for the same images.
    elsewhere(monkeypatch, tmp_path)
    digits._source.cache_clear()
    for part, before in zip((data.load("digits"), data.load("digits", "test")), read, strict=True):
        assert torch.equal(part.images, before.images)
        assert torch.equal(part.labels, before.labels)
        assert part.digest == digest


def test_scikit_learn_is_not_imported():
    code = "import sys; from kdstats import data; data.load('digits'); print('sklearn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_what_is_kept_cannot_be_changed_by_who_loads_it(fresh):
    first = data.load("digits")
    images, labels, ids = first.images.clone(), first.labels.clone(), first.sample_id.clone()
    first.images.zero_(), first.labels.zero_(), first.sample_id.zero_()
    again = data.load("digits")
    assert torch.equal(again.images, images)
    assert torch.equal(again.labels, labels)
    assert torch.equal(again.sample_id, ids)
    with pytest.raises(ValueError, match="read-only"):
        digits._source().images[0] = 0


@pytest.mark.parametrize("damage", ["cut", "text", "narrow", "empty"])
def test_a_damaged_file_is_named(fresh, monkeypatch, tmp_path, damage):
    file = tmp_path / "datasets/data/digits.csv.gz"
    file.parent.mkdir(parents=True)
    rows = gzip.compress(("1," * 64 + "3\n").encode() * 9)
    file.write_bytes(
        {
            "cut": rows[:-12],
            "text": gzip.compress(b"one,two\n"),
            "narrow": gzip.compress(b"1,2,3\n"),
            "empty": gzip.compress(b"\n"),
        }[damage]
    )
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(MissingError, match=r"digits\.csv\.gz .*install scikit-learn again"):
        data.load("digits")
