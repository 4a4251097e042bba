from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_makers import encoded, picture
from PIL import Image

from kdstats import data
from kdstats.data.sources import hub_parquet
from kdstats.errors import KdstatsError, MissingError, UsageError

N = 6
NAME = "train-00000-of-00001.parquet"


BLOBS = [encoded(picture(i), "WEBP") for i in range(N)]


def images(blobs: list[Any]) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([None if b is None else {"bytes": b, "path": "x.png"} for b in blobs], kind)


def folder(path: Path, table: pa.Table | None = None, name: str = NAME) -> Path:
    path.mkdir(exist_ok=True)
    plain = pa.table(
        {"img": images(BLOBS), "fine_label": pa.array(range(N)), "coarse_label": pa.array([0] * N)}
    )
    pq.write_table(plain if table is None else table, path / name)
    return path


def table(**change: Any) -> pa.Table:
    return pa.table({"img": images(BLOBS), "fine_label": pa.array(range(N)), **change})


def test_pixels_labels_and_ids(tmp_path, own_cache):
    for form in ("WEBP", "PNG"):
        blobs = [encoded(picture(i), form) for i in range(N)]
        where = folder(tmp_path / form, table(img=images(blobs)))
        for _ in range(2):  # decoded, then from the cache
            found = data.load("cifar100", "train", where)
            assert np.array_equal(
                found.images.numpy(), np.stack([picture(i).transpose(2, 0, 1) for i in range(N)])
            )
            assert found.labels.tolist() == list(range(N))
            assert found.sample_id.tolist() == list(range(N))
            assert found.class_names == tuple(map(str, range(100)))
            assert (found.base, found.classes, found.img_size) == ("crop4+flip", 100, 32)


def test_parts_are_joined_in_name_order(tmp_path, own_cache):
    for part in (1, 0, 2):
        rows = slice(2 * part, 2 * part + 2)
        cut = pa.table({"img": images(BLOBS[rows]), "fine_label": pa.array(range(N)[rows])})
        folder(tmp_path / "d", cut, f"train-{part:05d}-of-00003.parquet")
    assert data.load("cifar100", "train", tmp_path / "d").labels.tolist() == list(range(N))
    (tmp_path / "d" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(MissingError, match="lacks part 00001 of 3"):
        data.load("cifar100", "train", tmp_path / "d")


def test_other_names_are_taken_as_they_are(tmp_path, own_cache):
    assert len(data.load("cifar100", "train", folder(tmp_path / "d", name="train-mine.parquet"))) == N


def test_another_content_is_another_cache_entry(tmp_path, own_cache):
    one = data.load("cifar100", "train", folder(tmp_path / "a"))
    two = data.load("cifar100", "train", folder(tmp_path / "b", table(fine_label=pa.array([9] * N))))
    assert one.digest != two.digest
    assert two.labels.tolist() == [9] * N


def test_folders_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"--data FOLDER.*uoft-cs/cifar100"):
        data.load("cifar100")
    with pytest.raises(MissingError, match=rf"no folder {tmp_path}/nowhere.*uoft-cs/cifar100"):
        data.load("cifar100", "train", tmp_path / "nowhere")
    with pytest.raises(MissingError, match=rf"no test-\*\.parquet in {tmp_path}.*uoft-cs"):
        data.load("cifar100", "test", folder(tmp_path))
    monkeypatch.setenv("KDSTATS_DATA", str(tmp_path / "all"))
    with pytest.raises(MissingError, match="all/cifar100"):
        data.load("cifar100")


def test_the_environment_names_the_folder(tmp_path, monkeypatch, own_cache):
    (tmp_path / "all").mkdir()
    folder(tmp_path / "all" / "cifar100")
    monkeypatch.setenv("KDSTATS_DATA", str(tmp_path / "all"))
    assert len(data.load("cifar100")) == N


def bad_tables() -> dict[str, tuple[pa.Table, str]]:
    small = images([*BLOBS[:4], encoded(picture(0, (31, 32))), BLOBS[5]])
    broken = BLOBS[3][:40] + bytes(len(BLOBS[3]) - 40)
    return {
        "columns": (
            table().rename_columns(["picture", "class"]),
            "no column img or image and no fine_label or label .it has picture, class",
        ),
        "no rows": (table().slice(0, 0), "holds no rows"),
        "bare bytes": (table(img=pa.array(BLOBS)), "img holds binary, expected a struct"),
        "text": (table(img=pa.array([{"bytes": "x"}] * N)), "img holds struct<bytes: string>"),
        "no bytes": (table(img=pa.array([{"path": "x"}] * N)), "img holds struct<path: string>"),
        "label high": (
            table(fine_label=pa.array([0, 1, 100, 3, 4, 101])),
            "row 2: fine_label is 100, expected 0…99",
        ),
        "label low": (table(fine_label=pa.array([0, 1, 2, 3, -1, 5])), "row 4: fine_label is -1"),
        "label null": (table(fine_label=pa.array([0, None, 2, 3, 4, 5])), "row 1: no fine_label"),
        "label text": (table(fine_label=pa.array(["a"] * N)), "whole numbers"),
        "label float": (table(fine_label=pa.array([1.5] * N)), "whole numbers"),
        "other size": (table(img=small), "row 4: an image of 31x32 pixels, expected 32x32"),
        "no image": (table(img=images([*BLOBS[:2], b"hello", *BLOBS[3:]])), "row 2: not a readable image"),
        "null image": (table(img=images([*BLOBS[:5], None])), "row 5: not a readable image"),
        "empty image": (table(img=images([b"", *BLOBS[1:]])), "row 0: not a readable image"),
        "cut image": (table(img=images([*BLOBS[:5], BLOBS[5][:100]])), "row 5: not a readable image"),
        "damaged image": (table(img=images([*BLOBS[:3], broken, *BLOBS[4:]])), "row 3: not a readable image"),
    }


@pytest.mark.parametrize("what", list(bad_tables()))
def test_bad_contents_are_named(tmp_path, own_cache, what):
    content, message = bad_tables()[what]
    where = folder(tmp_path / "d", content)
    with pytest.raises(MissingError, match=message) as caught:
        data.load("cifar100", "train", where)
    assert str(where / NAME) in str(caught.value)
    assert "0x" not in str(caught.value)
    # And nothing bad is remembered.
    assert not list((own_cache / "datasets").glob("*")) if (own_cache / "datasets").exists() else True


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_files_that_are_no_parquet(tmp_path, own_cache, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(MissingError, match=rf"{NAME} is not a readable Parquet file"):
        data.load("cifar100", "train", tmp_path)


def test_truncated_and_damaged_parquet(tmp_path, own_cache):
    good = (folder(tmp_path / "g") / NAME).read_bytes()
    rng = np.random.default_rng(0)
    where = tmp_path / "d"
    where.mkdir()
    refused = 0
    for cut in (len(good) // 3, len(good) - 1, len(good) - 9):
        (where / NAME).write_bytes(good[:cut])
        with pytest.raises(MissingError, match=NAME):
            data.load("cifar100", "train", where)
    for _ in range(60):
        damaged = bytearray(good)
        for at in rng.integers(0, len(good), 8):
            damaged[at] = rng.integers(256)
        (where / NAME).write_bytes(bytes(damaged))
        try:
            data.load("cifar100", "train", where)
        except KdstatsError as error:
            assert NAME in str(error)
            refused += 1
    assert refused > 5


@pytest.mark.data
def test_the_real_training_set(cifar100_folder):
    train = data.load("cifar100", "train", cifar100_folder)
    assert train.images.shape == (50_000, 3, 32, 32)
    assert torch.equal(torch.bincount(train.labels), torch.full((100,), 500))
    assert torch.equal(train.sample_id, torch.arange(50_000))
    assert len(set(train.class_names)) == 100
    assert (train.class_names[0], train.class_names[99]) == ("apple", "worm")
    # A row of each file, decoded here with Pillow from pyarrow's own reading.
    start = 0
    for file in sorted(cifar100_folder.glob("train-*.parquet")):
        content = pq.read_table(file)
        for row in (0, 777, content.num_rows - 1):
            record = content.slice(row, 1).to_pylist()[0]
            pixels = np.asarray(Image.open(io.BytesIO(record["img"]["bytes"])).convert("RGB"))
            assert np.array_equal(train.images[start + row].permute(1, 2, 0).numpy(), pixels)
            assert int(train.labels[start + row]) == record["fine_label"]
        start += content.num_rows
    assert start == 50_000
    again = data.load("cifar100", "train", cifar100_folder)
    assert torch.equal(again.images, train.images)
    # The field's constants are those of the training images.
    values = train.images[:10_000].double() / 255
    assert values.mean((0, 2, 3)).tolist() == pytest.approx(train.mean, abs=0.005)
    assert values.std((0, 2, 3)).tolist() == pytest.approx(train.std, abs=0.005)


@pytest.mark.data
def test_the_real_test_set(cifar100_folder):
    test = data.load("cifar100", "test", cifar100_folder)
    assert test.images.shape == (10_000, 3, 32, 32)
    assert torch.equal(torch.bincount(test.labels), torch.full((100,), 100))
    assert test.digest != data.load("cifar100", "train", cifar100_folder).digest


@pytest.mark.data
def test_the_real_training_set_without_one_of_its_files(cifar100_folder, tmp_path):
    first = sorted(cifar100_folder.glob("train-*.parquet"))[0]
    (tmp_path / first.name).symlink_to(first)
    with pytest.raises(MissingError, match="lacks part 00001 of 3"):
        data.load("cifar100", "train", tmp_path)


HUGGINGFACE = {
    "info": {
        "features": {"label": {"names": ["ant", "bee", "cow", "dog", "elk", "fly"], "_type": "ClassLabel"}}
    }
}


def named(part: pa.Table, features: Any = HUGGINGFACE) -> pa.Table:
    return part.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})


def plain(blobs: list[Any] = BLOBS, labels: Any = range(N), **more: Any) -> pa.Table:
    return pa.table({"image": images(list(blobs)), "label": pa.array(labels), **more})


def test_any_set_with_the_hubs_columns(tmp_path, own_cache):
    """Classes, size, constants and standard augmentation come from the training images."""
    where = tmp_path / "d"
    folder(where, named(plain()), "train.parquet")
    folder(where, named(plain([encoded(picture(90))], [4])), "validation-00000-of-00001.parquet")
    train, test = (data.load("parquet", split, where) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("ant", "bee", "cow", "dog", "elk", "fly")
    assert (train.base, train.img_size, test.labels.tolist()) == ("crop4+flip", 32, [4])
    values = train.images.double().numpy() / 255
    assert train.mean == pytest.approx(values.mean((0, 2, 3)), abs=1e-12)
    assert train.std == pytest.approx(values.std((0, 2, 3)), abs=1e-12)
    assert (test.mean, test.std) == (train.mean, train.std)
    assert len(list((own_cache / "datasets").iterdir())) == 2
    # With and without the cache of the training images.
    shutil.rmtree(own_cache)
    assert data.load("parquet", "test", where).mean == train.mean


def test_classes_without_names_are_counted_in_the_training_files(tmp_path, own_cache):
    where = folder(tmp_path / "d", plain(labels=[0, 2, 2, 5, 5, 5]), "train.parquet")
    folder(where, plain(BLOBS[:2], [0, 1]), "test.parquet")
    assert data.load("parquet", "test", where).class_names == tuple("012345")
    folder(where, plain(BLOBS[:2], [0, 6]), "test.parquet")
    with pytest.raises(MissingError, match=r"test.parquet, row 1: label is 6, expected 0…5"):
        data.load("parquet", "test", where)


def test_splits_that_do_not_fit_together(tmp_path, own_cache):
    where = folder(tmp_path / "d", named(plain()), "train.parquet")
    other = {"info": {"features": {"label": {"names": ["ant", "bee", "cow", "dog", "elk", "gnu"]}}}}
    folder(where, named(plain(), other), "test.parquet")
    with pytest.raises(MissingError, match="test.parquet and train.parquet name unlike classes"):
        data.load("parquet", "test", where)
    folder(where, plain([encoded(picture(0, (16, 16)))], [0]), "test.parquet")
    with pytest.raises(MissingError, match="row 0: an image of 16x16 pixels, expected 32x32 as the training"):
        data.load("parquet", "test", where)
    assert data.load("parquet", "test", where, img_size=16).img_size == 16


def test_metadata_with_another_number_of_classes(tmp_path, own_cache):
    with pytest.raises(MissingError, match="names 6 classes in its metadata; cifar10 has 10"):
        data.load("cifar10", "train", folder(tmp_path / "d", named(plain())))
    for nonsense in ({}, {"info": None}, {"info": {"features": {"label": {"names": 3}}}}, []):
        shutil.rmtree(tmp_path / "d")
        found = data.load("cifar10", "train", folder(tmp_path / "d", named(plain(), nonsense)))
        assert found.class_names == tuple("0123456789")


def test_tiny_imagenet_from_the_hub_says_how_much_of_it_is_there(tmp_path, own_cache):
    blobs = [encoded(picture(i, (64, 64))) for i in range(N)]
    where = folder(tmp_path / "d", named(plain(blobs)), "train-00000-of-00001-0f0f.parquet")
    folder(where, named(plain(blobs[:2], [3, 3])), "valid-00000-of-00001-0f0f.parquet")
    train, test = (data.load("tiny-imagenet", split, where) for split in ("train", "test"))
    assert train.notes == test.notes == ("6 of the full set's 200 classes",)
    assert test.class_names[3] == "dog"


def test_files_of_a_cloned_repository(tmp_path, own_cache):
    (tmp_path / "repo").mkdir()
    folder(tmp_path / "repo" / "cifar100")
    assert len(data.load("cifar100", "train", tmp_path / "repo")) == N
    folder(tmp_path / "repo" / "data")
    with pytest.raises(MissingError, match=r"Parquet files lie in .*data and .*cifar100; name the one"):
        data.load("cifar100", "train", tmp_path / "repo")


def test_images_of_unlike_sizes(tmp_path, own_cache):
    blobs = [*BLOBS[:3], encoded(picture(7, (40, 33))), *BLOBS[4:]]
    where = folder(tmp_path / "d", plain(blobs), "train.parquet")
    message = (
        r"row 3: an image of 40x33 pixels, expected 32x32 as in .*row 0; --img-size N resizes all of them"
    )
    with pytest.raises(MissingError, match=message):
        data.load("parquet", "train", where)
    found = data.load("parquet", "train", where, img_size=16)
    assert found.images.shape == (N, 3, 16, 16)
    assert (found.base, found.notes) == ("crop2+flip", ("resized to 16x16",))
    oblong = folder(tmp_path / "o", plain([encoded(picture(i, (40, 33))) for i in range(N)]), "train.parquet")
    with pytest.raises(MissingError, match="40x33 pixels; networks here take squares: --img-size 33"):
        data.load("parquet", "train", oblong)


def test_a_null_label_or_image_of_a_later_batch_is_counted_from_the_start(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(hub_parquet, "_ROWS", 2)
    where = folder(tmp_path / "d", plain(labels=[0, 1, 2, 3, 4, None]), "train.parquet")
    with pytest.raises(MissingError, match="row 5: no label"):
        data.load("parquet", "train", where)
    where = folder(tmp_path / "e", plain([*BLOBS[:4], None, BLOBS[5]]), "train.parquet")
    with pytest.raises(MissingError, match="row 4: not a readable image"):
        data.load("parquet", "train", where)
    where = folder(tmp_path / "f", plain(), "train.parquet")
    found = data.load("parquet", "train", where)
    assert np.array_equal(found.images.numpy(), np.stack([picture(i).transpose(2, 0, 1) for i in range(N)]))


def test_a_colour_that_never_changes(tmp_path, own_cache):
    blank = encoded(np.zeros((32, 32, 3), dtype=np.uint8))
    where = folder(tmp_path / "d", plain([blank] * N), "train.parquet")
    with pytest.raises(MissingError, match="channel 0 has the same value in all training images"):
        data.load("parquet", "train", where)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 1, 0, 30_000_000, 1, 2]), "row 3: label is 30000000, where labels are 0, 1, 2"),
        (pa.array([0, 1, 0, 1, 1, 2**63 + 5], pa.uint64()), "row 5: label is 9223372036854775813, where"),
        (pa.array([0, 1, 0, 1, 6, 1]), "row 4: label is 6, where labels are .* no more than 6 classes"),
        (pa.array([0, -1, 0, 1, 1, 1]), "row 1: label is -1, where"),
        (pa.array([None] * N, pa.int64()), "row 0: no label"),
    ],
)
def test_labels_that_cannot_be_indices(tmp_path, own_cache, labels, message):
    where = folder(tmp_path / "d", plain(labels=labels), "train.parquet")
    with pytest.raises(MissingError, match=rf"train.parquet, {message}"):
        data.load("parquet", "train", where)


def test_classes_without_images_are_told(tmp_path, own_cache):
    where = folder(tmp_path / "d", plain(labels=[0, 5, 0, 5, 0, 5]), "train.parquet")
    folder(where, plain(BLOBS[:1], [5]), "test.parquet")
    for split in ("train", "test"):
        found = data.load("parquet", split, where)
        assert found.classes == 6
        assert found.notes == ("4 of the 6 classes have no training images: 1, 2, 3, 4",)
    whole = folder(tmp_path / "e", plain(), "train.parquet")
    assert data.load("parquet", "train", whole).notes == ()


def test_images_of_a_dictionary_are_not_unpacked_all_at_once(tmp_path, own_cache, monkeypatch):
    """One large value for all rows: 4 kB on disk, 150 MB as bytes objects when 300 of them exist at a time."""
    large = BLOBS[0] + bytes(500_000)
    where = folder(tmp_path / "d", plain([large] * 300, [i % 2 for i in range(300)]), "train.parquet")
    most = 0
    decode = hub_parquet.Decoder.add

    def watched(self, start, count, blob, at):
        nonlocal most
        most = max(most, sum(len(blob(i)) for i in range(count)))
        decode(self, start, count, blob, at)

    monkeypatch.setattr(hub_parquet.Decoder, "add", watched)
    monkeypatch.setattr(hub_parquet, "_WAITING_BYTES", 10_000_000)
    found = data.load("parquet", "train", where, img_size=16)
    assert torch.equal(found.images, found.images[:1].expand(300, -1, -1, -1))
    assert 10_000_000 <= most <= 10_000_000 + 16 * len(large)


def test_an_image_of_an_absurd_size_is_named(tmp_path, own_cache, monkeypatch):
    from kdstats.data.sources import trees

    monkeypatch.setattr(trees, "FILE_LIMIT", 100_000)
    blobs = [*BLOBS[:4], BLOBS[4] + bytes(100_000), BLOBS[5]]
    where = folder(tmp_path / "d", plain(blobs), "train.parquet")
    with pytest.raises(MissingError, match=r"train.parquet, row 4 holds 0 MB by its own account"):
        data.load("parquet", "train", where)


def test_rows_that_are_packed_like_no_images(tmp_path, own_cache, monkeypatch):
    from kdstats.data.sources import parquet_files

    monkeypatch.setattr(parquet_files, "_PACKED_FROM", 1_000_000)
    (tmp_path / "d").mkdir()
    many = plain([bytes([i]) + bytes(1_000_000) for i in range(N)])
    pq.write_table(many, tmp_path / "d" / "train.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(
        MissingError, match=r"train.parquet: row group 0 has 0.0 MB and promises 6 MB; images cannot"
    ):
        data.load("parquet", "train", tmp_path / "d")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("[" * 200_000, "train.parquet, metadata: nested too deeply"),
        (
            json.dumps({"info": {"features": {"label": {"names": ["a", [1]]}}}}),
            "names of classes are up to 100,000",
        ),
        (
            json.dumps({"info": {"features": {"label": {"names": ["a", "b\nc"]}}}}),
            r"class 1 is named 'b\\nc'; a name",
        ),
        (json.dumps({"info": {"features": {"label": {"names": ["", "b"]}}}}), "class 0 is named ''"),
    ],
)
def test_metadata_that_makes_no_sense(tmp_path, own_cache, metadata, message):
    content = plain(labels=[0, 1] * 3).replace_schema_metadata({b"huggingface": metadata.encode()})
    where = folder(tmp_path / "d", content, "train.parquet")
    with pytest.raises(MissingError, match=message) as caught:
        data.load("parquet", "train", where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["image", "label"])
def test_columns_of_one_name(tmp_path, own_cache, name):
    twice = plain().append_column(name, plain()[name])
    where = folder(tmp_path / "d", twice, "train.parquet")
    with pytest.raises(MissingError, match=f"train.parquet has 2 columns '{name}'; one is expected"):
        data.load("parquet", "train", where)
