"""Streamed sets: what an ImageSet of the same files would give, and ImageNet's own ways."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_makers import class_folders, encoded, picture
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as tv

from kdstats import data
from kdstats.data import ImageSet, ImageStream
from kdstats.data.sources.class_tree import find
from kdstats.data.sources.layout import Wanted
from kdstats.data.sources.trees import Folder
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order
from kdstats.errors import MissingError, UsageError


def stream_like(images: ImageSet, root: Path, workers: int) -> ImageStream:
    """The same files, streamed with the same constants."""
    tree = Folder(root)
    listing = find(tree, Wanted(images.name, images.split))
    return ImageStream.of(
        tree,
        listing,
        workers,
        name=images.name,
        split=images.split,
        mean=images.mean,
        std=images.std,
        base=images.base,
        size=images.img_size,
        shorter=images.img_size,
    )


@pytest.fixture
def both(tmp_path, own_cache):
    """Pictures of unlike sizes, held at 24x24 and streamed."""
    root = class_folders(tmp_path / "set", count=0)
    for s, split in enumerate(("train", "val")):
        for c, name in enumerate(("cat", "dog", "eel")):
            for i in range(7):
                size = (20 + 5 * i, 50 - 4 * i)
                (root / split / name / f"{i}.png").write_bytes(encoded(picture(100 * s + 10 * c + i, size)))
    return data.load("imagefolder", "train", root, img_size=24), root


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("base", [None, "crop3+flip"])
def test_a_stream_gives_what_a_held_set_gives(both, workers, base, monkeypatch):
    monkeypatch.setattr("kdstats.data.stream._FEW_IMAGES", 0)
    held, root = both
    stream = stream_like(held, root, workers)
    standard = None if base is None else StandardAugmentation(base)
    for epoch in (0, 1):
        chunks = torch.split(epoch_order(3, epoch, len(held)), 4)
        pairs = zip(
            held.batches(chunks, standard, 3, epoch), stream.batches(chunks, standard, 3, epoch), strict=True
        )
        for n, (one, other) in enumerate(pairs):
            for a, b in zip(one, other, strict=True):
                assert torch.equal(a, b), (epoch, n)
    assert n == 5


def test_parts_of_a_stream_are_the_parts_of_a_held_set(both):
    held, root = both
    stream = stream_like(held, root, 0)
    for change in (
        lambda s: s.take(["cat", "eel"], 3, seed=5),
        lambda s: s.divide(0.3, 2)[0],
        lambda s: s.divide(0.3, 2)[1],
        lambda s: s.head(4),
    ):
        one, other = change(held), change(stream)
        assert torch.equal(one.sample_id, other.sample_id)
        assert torch.equal(one.labels, other.labels)
        assert one.class_names == other.class_names
        assert one.notes[-1] == other.notes[-1]
        assert other.digest != stream.digest
        for a, b in zip(one.in_order(3), other.in_order(3), strict=True):
            assert torch.equal(a.images, b.images)


@pytest.fixture
def photographs(tmp_path):
    """Four classes of photographs of unlike shapes under ``train`` and ``val``."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n01", "n02", "n03", "n04"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                w, h = rng.integers(60, 200, 2)
                Image.fromarray(picture(int(rng.integers(1e6)), (w, h))).save(
                    folder / f"{i}.JPEG", quality=95
                )
    return tmp_path


def imagenet(root: Path, split: str = "train", monkeypatch=None, **changes) -> ImageStream:
    from dataclasses import replace

    from kdstats.data import loading

    card = replace(data.card("imagenet"), classes=4)
    monkeypatch.setattr(loading, "card", lambda name: card)
    return data.load("imagenet", split, root, **changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_are_torchvisions_resized_crops(photographs, monkeypatch, workers):
    from dataclasses import replace

    for limit in ("_FEW_IMAGES", "_FEW_BATCHES"):
        monkeypatch.setattr(f"kdstats.data.stream.{limit}", 0)
    stream = replace(imagenet(photographs, monkeypatch=monkeypatch, img_size=56), workers=workers)
    base = StandardAugmentation("resizedcrop")
    batches = list(stream.batches([torch.tensor([5, 0]), torch.tensor([11])], base, 7, 2))
    for batch in batches:
        for i, number in enumerate(batch.sample_id.tolist()):
            with Image.open(photographs / stream.files[number].decode()) as image:
                box = base.box(number, *image.size, 7, 2)
                expected = tv.resized_crop(
                    image.convert("RGB"), box.top, box.left, box.height, box.width, [56, 56], antialias=True
                )
            np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0).numpy(), np.asarray(expected))
    assert [batch.sample_id.tolist() for batch in batches] == [[5, 0], [11]]


def test_flips_come_after_the_box(photographs, monkeypatch):
    stream = imagenet(photographs, monkeypatch=monkeypatch, img_size=56)
    assert stream.base == "resizedcrop+flip"
    at = [torch.arange(12)]
    for epoch in range(3):
        plain = next(stream.batches(at, StandardAugmentation("resizedcrop"), 1, epoch)).images
        both = next(stream.batches(at, StandardAugmentation("resizedcrop+flip"), 1, epoch)).images
        flipped = [bool(torch.equal(b, p.flip(2))) for b, p in zip(both, plain, strict=True)]
        assert all(
            torch.equal(b, p.flip(2) if f else p) for b, p, f in zip(both, plain, flipped, strict=True)
        )
        assert 0 < sum(flipped) < 12


def test_test_images_are_resized_and_cut_as_the_field_does(photographs, monkeypatch):
    stream = imagenet(photographs, "test", monkeypatch)
    assert (stream.img_size, stream.shorter, len(stream)) == (224, 256, 12)
    images = next(stream.in_order(12)).images
    for number in range(12):
        with Image.open(photographs / stream.files[number].decode()) as image:
            expected = tv.center_crop(tv.resize(image.convert("RGB"), 256, antialias=True), [224, 224])
        np.testing.assert_array_equal(images[number].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_boxes_have_torchvisions_distribution():
    base = StandardAugmentation("resizedcrop+flip")
    torch.manual_seed(0)  # of torchvision's own draws
    for width, height in ((500, 375), (375, 500), (64, 640)):
        ours = np.array([base.box(i, width, height, 0, 0) for i in range(3000)], dtype=float)
        image = torch.empty(3, height, width)
        theirs = np.array(
            [
                RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])[i]
                for _ in range(3000)
                for i in (1, 0, 3, 2)
            ],
            dtype=float,
        ).reshape(-1, 4)
        assert (ours[:, 0] + ours[:, 2] <= width).all()
        assert (ours[:, 1] + ours[:, 3] <= height).all()
        assert (ours >= 0).all()
        for column in range(4):
            a, b = ours[:, column], theirs[:, column]
            error = math.sqrt((a.var() + b.var()) / 3000) + 1e-9
            assert abs(a.mean() - b.mean()) < 4.5 * error, (width, height, column)
            assert a.std() == pytest.approx(b.std(), rel=0.08, abs=1e-6)


def test_an_image_of_no_admitted_ratio_gives_its_centre():
    base = StandardAugmentation("resizedcrop")
    found = {base.box(i, 1000, 10, 0, 0) for i in range(200)}
    assert (493, 0, 13, 10) in found


def test_a_box_depends_on_its_image_and_epoch_alone():
    base = StandardAugmentation("resizedcrop")
    first = [base.box(i, 300, 200, 1, 4) for i in range(50)]
    assert first == [base.box(i, 300, 200, 1, 4) for i in range(50)]
    assert len(set(first)) == 50
    assert first != [base.box(i, 300, 200, 1, 5) for i in range(50)]
    assert first != [base.box(i, 300, 200, 2, 4) for i in range(50)]


def test_held_images_take_no_resized_crop(both):
    held, _ = both
    with pytest.raises(UsageError, match="held at 24x24: use cropN"):
        next(held.batches([torch.arange(2)], StandardAugmentation("resizedcrop+flip")))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named_in_one_line(photographs, monkeypatch, workers):
    from dataclasses import replace

    monkeypatch.setattr("kdstats.data.stream._FEW_IMAGES", 0)
    stream = replace(imagenet(photographs, monkeypatch=monkeypatch), workers=workers)
    bad = photographs / "train" / "n02" / "1.JPEG"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(MissingError) as caught:
        list(stream.in_order(5))
    assert str(caught.value).startswith(f"{bad}: not a readable image (")
    assert "\n" not in str(caught.value)
    bad.unlink()
    with pytest.raises(MissingError, match="1.JPEG cannot be read: No such file"):
        list(stream.in_order(5))


def test_another_number_of_classes_is_refused(photographs):
    with pytest.raises(MissingError, match="holds 4 class folders; imagenet has 1000 classes"):
        data.load("imagenet", "train", photographs)


def folders(root: Path, count: int) -> list[str]:
    names = [f"n{i:04d}" for i in range(count)]
    one = encoded(picture(1, (20, 20)))
    for split in ("train", "val"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            (root / split / name / "a.png").write_bytes(one)
    return names


def test_imagenet100_is_the_classes_of_its_list(tmp_path):
    names = folders(tmp_path, 103)
    with pytest.raises(MissingError, match=r"imagenet100.txt is missing and .* holds 103 class folders; Get"):
        data.load("imagenet100", "train", tmp_path)
    chosen = names[::-1][:100]
    (tmp_path / "imagenet100.txt").write_text("".join(f"{n} some words\n" for n in chosen))
    found = data.load("imagenet100", "train", tmp_path)
    assert found.class_names == tuple(sorted(chosen))
    assert len(found) == 100
    assert data.load("imagenet100", "test", tmp_path).class_names == found.class_names
    (tmp_path / "imagenet100.txt").write_text("\n".join(chosen[:99]))
    with pytest.raises(MissingError, match="names 99 different classes in 99 lines; imagenet100 has 100"):
        data.load("imagenet100", "train", tmp_path)
    (tmp_path / "imagenet100.txt").write_text("\n".join([*chosen[:99], "n00o1"]))
    with pytest.raises(MissingError, match="no class folder 'n00o1'; the nearest is 'n00"):
        data.load("imagenet100", "train", tmp_path)
    (tmp_path / "imagenet100.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MissingError, match="imagenet100.txt cannot be read: it is not UTF-8"):
        data.load("imagenet100", "train", tmp_path)


def test_a_folder_of_just_the_hundred_needs_no_list(tmp_path):
    names = folders(tmp_path, 100)
    assert data.load("imagenet100", "train", tmp_path).class_names == tuple(names)


def test_the_digest_follows_names_labels_and_sizes(photographs, monkeypatch):
    before = imagenet(photographs, monkeypatch=monkeypatch).digest
    assert imagenet(photographs, monkeypatch=monkeypatch).digest == before
    (photographs / "train" / "n01" / "0.JPEG").write_bytes(b"x" * 10)
    assert imagenet(photographs, monkeypatch=monkeypatch).digest != before


def test_the_digest_knows_the_sides_and_the_stamp_the_times(photographs, monkeypatch):
    whole = imagenet(photographs, monkeypatch=monkeypatch, img_size=56)
    assert imagenet(photographs, monkeypatch=monkeypatch, img_size=56).digest == whole.digest
    assert imagenet(photographs, monkeypatch=monkeypatch, img_size=57).digest != whole.digest
    listing = find(Folder(photographs), Wanted("imagenet", "train"))
    fields = {"name": "imagenet", "split": "train", "mean": (0.5,) * 3, "std": (0.5,) * 3, "base": "none"}
    made = [
        ImageStream.of(Folder(photographs), listing, 0, size=56, shorter=side, **fields)
        for side in (56, 64, 64)
    ]
    assert made[0].digest != made[1].digest == made[2].digest == whole.digest
    assert whole.notes == ("identified by names and sizes of its files",)
    # Another content of the same length is another time of writing.
    assert made[0].stamp == made[1].stamp == whole.stamp != ""
    file = photographs / whole.files[7].decode()
    blob = file.read_bytes()
    file.write_bytes(blob[:-1] + b"\0")
    os.utime(file, ns=(0, 1))
    later = imagenet(photographs, monkeypatch=monkeypatch, img_size=56)
    assert later.digest == whole.digest
    assert later.stamp != whole.stamp
    assert later.take(2).stamp == later.stamp


def test_held_images_have_no_stamp(both):
    held, _ = both
    assert held.stamp == ""


def test_a_crop_that_is_too_wide_is_refused_in_streams_too(both):
    held, root = both
    for images in (held, stream_like(held, root, 0)):
        with pytest.raises(UsageError, match="crop13 pads 13 pixels around images of 24x24"):
            next(images.batches([torch.arange(2)], StandardAugmentation("crop13")))
        assert next(images.batches([torch.arange(2)], StandardAugmentation("crop12"))).images.shape[2] == 24


@pytest.mark.parametrize(
    ("count", "size", "workers"),
    [(500, 10, 3), (63, 1, 0), (64, 1, 3), (500, 250, 0), (500, 200, 3), (90, 40, 3)],
)
def test_processes_are_started_where_they_pay(both, monkeypatch, count, size, workers):
    from kdstats.data import stream as module

    held, root = both
    stream, asked = stream_like(held, root, 3), []

    def loader(files, num_workers, batch_sampler, **_):
        asked.append(num_workers)
        return (torch.zeros(len(at), 3, 24, 24, dtype=torch.uint8) for at in batch_sampler)

    monkeypatch.setattr(module, "DataLoader", loader)
    list(stream.batches(torch.split(torch.arange(count) % len(stream), size)))
    assert asked == [workers]


@pytest.mark.parametrize("workers", [0, 2])
def test_whatever_fails_in_a_reading_process_is_one_line(both, workers, monkeypatch):
    from kdstats.data import stream as module

    def broken(*_):
        raise ZeroDivisionError("some\nlines")

    monkeypatch.setattr(module, "decoded", broken)
    stream = stream_like(*both, workers)
    with pytest.raises(MissingError, match=r"^/.*/train/cat/0.png: ZeroDivisionError: some$"):
        list(stream.batches(torch.split(torch.arange(66) % len(stream), 6)))


ABANDON = """
import sys
sys.path.insert(0, sys.argv[2])
from test_data_stream import Folder, ImageStream, Path, Wanted, find

tree = Folder(Path(sys.argv[1]))
fields = {"name": "x", "split": "train", "mean": (0.5,) * 3, "std": (0.5,) * 3, "base": "none"}
stream = ImageStream.of(tree, find(tree, Wanted("x", "train")), 2, size=16, shorter=16, **fields)
assert stream._workers_for([torch.arange(8)] * 9) == 2
left = stream.in_order(8)
next(left)
del left
kept = stream.in_order(8)
next(kept)
""".replace("import sys\n", "import sys\n\nimport torch\n", 1)


def test_an_iterator_that_is_left_says_nothing(tmp_path):
    root = class_folders(tmp_path / "d", count=24)
    command = [sys.executable, "-c", ABANDON, str(root), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
