from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats import data
from kdstats.data import ImageSet, Selection
from kdstats.data.subsets import parse_classes
from kdstats.errors import MissingError, UsageError


def made(counts: list[int], seed: int = 0) -> ImageSet:
    """A shuffled set; the one pixel of an image holds its id, so that images can be recognised."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    ids = torch.arange(len(labels)) + 1000
    return ImageSet(
        name="made",
        split="train",
        images=(ids % 251).to(torch.uint8).view(-1, 1, 1, 1),
        labels=torch.from_numpy(labels),
        sample_id=ids,
        class_names=tuple(f"c{i}" for i in range(len(counts))),
        mean=(0.5,),
        std=(0.25,),
        base="none",
        digest="d" * 64,
    )


WHOLE = made([30, 20, 25, 10])


def check_part(part: ImageSet, whole: ImageSet = WHOLE) -> None:
    """What holds for every part: images, names and labels still belong to their ids, in the old order."""
    at = {int(i): n for n, i in enumerate(whole.sample_id)}
    positions = [at[int(i)] for i in part.sample_id]
    assert positions == sorted(set(positions))
    assert torch.equal(part.images, whole.images[positions])
    names = [whole.class_names[int(c)] for c in whole.labels[positions]]
    assert [part.class_names[int(c)] for c in part.labels] == names
    assert (part.mean, part.std, part.base, part.name) == (whole.mean, whole.std, whole.base, whole.name)
    assert (part.digest == whole.digest) == (part is whole)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (1, ["c0"]),
        (3, ["c0", "c1", "c2"]),
        (["c3", "c1"], ["c1", "c3"]),
        ([3, 1], ["c1", "c3"]),
        (("2", "c0"), ["c0", "c2"]),
        (np.array([3, 0]), ["c0", "c3"]),
    ],
)
def test_classes(classes, names):
    part = WHOLE.take(classes)
    check_part(part)
    assert list(part.class_names) == names
    assert part.classes == len(names)
    kept = [WHOLE.class_names.index(name) for name in names]
    assert len(part) == int(torch.isin(WHOLE.labels, torch.tensor(kept)).sum())
    assert part.notes == (f"{len(names)} of 4 classes",)


def test_images_per_class():
    part = WHOLE.take(per_class=10)
    check_part(part)
    assert torch.bincount(part.labels).tolist() == [10, 10, 10, 10]
    assert part.notes == ("10 images per class (seed 0)",)
    # The same seed gives the same images, another seed others, more images the same ones and more.
    assert torch.equal(WHOLE.take(per_class=10).sample_id, part.sample_id)
    assert not torch.equal(WHOLE.take(per_class=10, seed=1).sample_id, part.sample_id)
    assert set(WHOLE.take(per_class=4).sample_id.tolist()) < set(part.sample_id.tolist())
    # What is chosen of a class does not depend on which others there are, nor on the order of two choices.
    both = WHOLE.take(["c1", "c3"], per_class=7)
    alone = WHOLE.take(["c3"], per_class=7)
    assert set(alone.sample_id.tolist()) == set(both.sample_id[both.labels == 1].tolist())
    assert torch.equal(WHOLE.take(per_class=7).take(["c1", "c3"]).sample_id, both.sample_id)
    assert both.notes == ("2 of 4 classes, 7 images per class (seed 0)",)


def rank(seed: int, sample_id: int, purpose: bytes) -> int:
    """The published finaliser in whole numbers of Python."""

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    key = mix((seed + int.from_bytes(purpose, "big") * 0x9E3779B97F4A7C15) % 2**64)
    return mix((sample_id * 0xD1B54A32D192ED03 + key) % 2**64)


@pytest.mark.parametrize("seed", [0, 5, 2**62])
def test_the_choice_is_fixed_for_good(seed):
    """Choices are part of published results: they must not change with a library's random streams."""
    ids = WHOLE.sample_id.tolist()
    of_c3 = [i for i, c in zip(ids, WHOLE.labels.tolist(), strict=True) if c == 3]
    expected = sorted(of_c3, key=lambda i: rank(seed, i, b"take"))[:3]
    assert WHOLE.take(["c3"], per_class=3, seed=seed).sample_id.tolist() == sorted(expected)
    expected = sorted(of_c3, key=lambda i: rank(seed, i, b"spli"))[:4]
    first, _ = WHOLE.divide(0.4, seed=seed)
    assert first.sample_id[first.labels == 3].tolist() == sorted(expected)


def test_the_choice_is_even():
    """Every image is chosen about equally often over the seeds."""
    part = made([40])
    times = Counter(i for seed in range(400) for i in part.take(per_class=10, seed=seed).sample_id.tolist())
    assert len(times) == 40
    # 400 draws of probability 1/4: mean 100, deviation 8.7.
    assert all(60 < n < 140 for n in times.values())


def test_everything_is_the_set_itself():
    for whole in (
        WHOLE.take(),
        WHOLE.take(4),
        WHOLE.take(["c2", "c0", "c1", "c3"]),
        WHOLE.head(85),
        made([5, 5]).take(per_class=5),
    ):
        assert whole.digest == "d" * 64
        assert whole.notes == ()


def test_digests_name_the_choice():
    parts = [
        WHOLE,
        WHOLE.take(2),
        WHOLE.take(["c1", "c2"]),
        WHOLE.take(per_class=3),
        WHOLE.take(per_class=3, seed=1),
        WHOLE.take(2, per_class=3),
        WHOLE.head(5),
        WHOLE.head(6),
        *WHOLE.divide(0.5),
        *WHOLE.divide(0.5, seed=1),
    ]
    assert len({part.digest for part in parts}) == len(parts)
    assert all(len(part.digest) == 64 for part in parts[1:])
    # The same part of another source is another part; the same choice in other words is the same.
    other = ImageSet(**{**vars(WHOLE), "digest": "e" * 64})
    assert other.take(2).digest != WHOLE.take(2).digest
    assert WHOLE.take(["c1", "c0"]).digest == WHOLE.take(2).digest
    # Images that are all there, of classes that are not all named, are not the whole.
    assert (
        ImageSet(**{**vars(WHOLE), "class_names": (*WHOLE.class_names, "c4")}).take(4).digest != WHOLE.digest
    )


def test_head():
    part = WHOLE.head(5)
    check_part(part)
    assert part.sample_id.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert part.class_names == WHOLE.class_names
    assert part.notes == ("the first 5 of 85 images",)


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.9, 1 / 3, 1e-9, 1 - 1e-9])
def test_divide(fraction):
    first, rest = WHOLE.divide(fraction, seed=3)
    check_part(first)
    check_part(rest)
    assert sorted(first.sample_id.tolist() + rest.sample_id.tolist()) == WHOLE.sample_id.tolist()
    for c, n in enumerate([30, 20, 25, 10]):
        count = int((first.labels == c).sum())
        assert 1 <= count <= n - 1
        assert abs(count - fraction * n) <= 0.5 or count in (1, n - 1)
    assert first.class_names == rest.class_names == WHOLE.class_names
    assert not torch.equal(first.sample_id, WHOLE.divide(fraction, seed=4)[0].sample_id)


def test_divide_and_take_are_independent_choices():
    """The images that a part takes are not those that a division puts first."""
    whole = made([400])
    first = set(whole.divide(0.5)[0].sample_id.tolist())
    taken = set(whole.take(per_class=200).sample_id.tolist())
    assert 60 < len(first & taken) < 140


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(2, 12), min_size=2, max_size=6),
    seed=st.integers(0, 2**62),
    fraction=st.floats(0.01, 0.99),
)
def test_laws_of_parts(counts, seed, fraction):
    whole = made(counts, seed % 1000)
    one, two = whole.divide(fraction, seed)
    assert not set(one.sample_id.tolist()) & set(two.sample_id.tolist())
    assert len(one) + len(two) == len(whole)
    part = whole.take(len(counts) - 1, per_class=min(counts), seed=seed)
    assert torch.bincount(part.labels).tolist() == [min(counts)] * (len(counts) - 1)
    check_part(part, whole)


BAD = [
    ({"classes": 5}, "5 classes were asked for; there are 4"),
    ({"classes": 0}, "0 classes were asked for"),
    ({"classes": True}, "a number or a list of names or indices, not True"),
    ({"classes": "c1"}, "a number or a list of names or indices, not 'c1'"),
    ({"classes": []}, "an empty list of classes"),
    ({"classes": ["c11"]}, r"no class named 'c11'. Did you mean 'c1'"),
    ({"classes": [4]}, "class 4 does not exist; the indices are 0…3"),
    ({"classes": [-1]}, "class -1 does not exist"),
    ({"classes": [1.5]}, "a class is a name or an index, not 1.5"),
    ({"classes": ["c1", 1]}, "class 'c1' is named twice"),
    ({"per_class": 11}, "class 'c3' has 10 images; 11 were asked for"),
    ({"per_class": 0}, "per class at least 1 image, not 0"),
    ({"per_class": 2.0}, "per class at least 1 image"),
    ({"per_class": 1, "seed": -1}, "a seed is a whole number, 0 or more, not -1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_senseless_parts(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        WHOLE.take(**arguments)
    assert caught.value.exit_code == 2


def test_senseless_divisions():
    for fraction in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="a part is more than 0 and less than 1"):
            WHOLE.divide(fraction)
    with pytest.raises(UsageError, match="class 'c1' has one image and cannot be split"):
        made([3, 1]).divide(0.5)
    with pytest.raises(UsageError, match="seed"):
        WHOLE.divide(0.5, seed=-1)
    empty = ImageSet(**{**vars(WHOLE), "class_names": (*WHOLE.class_names, "c4")})
    with pytest.raises(UsageError, match="the chosen classes have no images"):
        empty.take(["c4"])
    assert len(empty.divide(0.5)[0]) > 0


def test_what_a_command_line_says():
    assert parse_classes("20") == 20
    assert parse_classes("cat, dog") == ["cat", "dog"]
    assert parse_classes("cat") == ["cat"]
    assert parse_classes("3,7") == ["3", "7"]
    assert WHOLE.take(parse_classes("0,c2")).class_names == ("c0", "c2")
    # A class may be called like a number; then the name counts.
    digits = data.load("digits", "test")
    assert digits.take(parse_classes("7,3")).class_names == ("3", "7")
    for text in ("", "a,,b", ","):
        with pytest.raises(UsageError, match="classes are a number or names separated by commas"):
            parse_classes(text)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parts_stay_on_their_device():
    part = WHOLE.to("cuda").take(2, per_class=3)
    assert {part.images.device.type, part.labels.device.type, part.sample_id.device.type} == {"cuda"}
    assert part.digest == WHOLE.take(2, per_class=3).digest


@pytest.mark.data
def test_a_part_of_the_real_set(cifar100_folder):
    train = data.load("cifar100", "train", cifar100_folder)
    part = train.take(["worm", "apple", "bee"], per_class=100, seed=2)
    assert part.class_names == ("apple", "bee", "worm")
    assert torch.bincount(part.labels).tolist() == [100, 100, 100]
    assert torch.equal(part.images, train.images[part.sample_id])
    first, rest = train.divide(0.1)
    assert torch.equal(torch.bincount(first.labels), torch.full((100,), 50))
    assert len(rest) == 45_000


def test_classes_from_a_file(tmp_path):
    listed = tmp_path / "some.txt"
    listed.write_text("c2 the third\n\nc0\n")
    part = WHOLE.take(parse_classes(f"@{listed}"))
    assert part.class_names == ("c0", "c2")
    listed.write_text(" \n")
    with pytest.raises(MissingError, match="some.txt is empty"):
        parse_classes(f"@{listed}")
    listed.write_bytes(b"\xff")
    with pytest.raises(MissingError, match="not UTF-8"):
        parse_classes(f"@{listed}")
    with pytest.raises(MissingError, match="No such file"):
        parse_classes("@/no/such/file")


def test_a_selection_divides_without_overlap():
    chosen = Selection("digits", classes="5", per_class=20, val_split=0.25)
    splits = chosen.splits()
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (75, 25)
    assert not set(splits.train.sample_id.tolist()) & set(splits.validation.sample_id.tolist())
    assert splits.test.classes == splits.train.classes == splits.validation.classes == 5
    whole = Selection("digits", classes="5", per_class=20)
    assert whole.validation() is None
    ids = {*splits.train.sample_id.tolist(), *splits.validation.sample_id.tolist()}
    assert ids == set(whole.train().sample_id.tolist())
    assert Selection("digits").train().digest != whole.train().digest != splits.train.digest


def test_images_per_class_are_of_training_images_alone():
    chosen = Selection("digits", classes="3", per_class=4, val_split=0.25)
    all_of_them = data.load("digits", "test").take(3)
    for test in (chosen.test(), chosen.splits().test):
        assert torch.equal(test.sample_id, all_of_them.sample_id)
        assert test.digest == all_of_them.digest


def test_splits_are_read_and_divided_once(monkeypatch):
    from kdstats.data import loading

    asked = []
    monkeypatch.setattr(loading, "load", lambda name, split, *_: asked.append(split) or WHOLE)
    splits = Selection("made", val_split=0.2).splits()
    assert sorted(asked) == ["test", "train"]
    assert splits.validation is not None
    assert len(splits.train) + len(splits.validation) == len(WHOLE)
