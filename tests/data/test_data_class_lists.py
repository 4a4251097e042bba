"""Lists of classes in files: what a line means, and which files are no lists."""

from __future__ import annotations

import os
import threading

import pytest
import torch
from data_makers import class_folders, tiny

from kdstats import data
from kdstats.data import ImageSet, class_lists
from kdstats.data.class_lists import Line, read_lines
from kdstats.data.subsets import class_indices, parse_classes
from kdstats.errors import MissingError, UsageError

NAMES = ("red", "red wine", "white,wine", "n01440764", "7up")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("red wine", "red wine"),  # never the class of its first word
        ("red", "red"),
        ("  white,wine \t", "white,wine"),
        ("red wine\tfrom Italy", "red wine"),
        ("red wine # the good one", "red wine"),
        ("n01440764 tench, Tinca tinca", "n01440764"),
        ("red apple", "red"),
        ("1", "red wine"),
        ("2 # by index", "white,wine"),
    ],
)
def test_what_a_line_means(tmp_path, line, name):
    listed = tmp_path / "some.txt"
    listed.write_text(f"# a remark\n\n{line}\n", encoding="utf-8-sig")
    assert [NAMES[i] for i in class_indices(parse_classes(f"@{listed}"), NAMES)] == [name]


def test_a_class_that_looks_like_a_remark_or_a_number():
    assert class_indices([Line("#1", "f, line 1")], ["a", "#1"]) == [1]
    assert class_indices([Line("1", "f, line 1")], ["1", "0"]) == [0]


@pytest.mark.parametrize("line", ["rouge", "7 apples", "redwine"])
def test_lines_that_mean_nothing_are_named(tmp_path, line):
    listed = tmp_path / "some.txt"
    listed.write_text(f"red\n{line}\n")
    with pytest.raises(UsageError, match=rf"some.txt, line 2: no class named '{line}'"):
        class_indices(parse_classes(f"@{listed}"), NAMES)


def test_a_list_of_folders_with_blanks(tmp_path, own_cache):
    root = class_folders(tmp_path / "d", ("red", "red wine", "white,wine"))
    listed = tmp_path / "some.txt"
    listed.write_text("red wine\nwhite,wine\n")
    found = data.Selection("imagefolder", str(root), classes=f"@{listed}").train()
    assert found.class_names == ("red wine", "white,wine")


def test_wordnet_ids_name_classes_too(tmp_path, own_cache):
    train = data.load("tiny-imagenet", "train", tiny(tmp_path / "d"))
    assert train.class_ids == ("n01", "n02", "n10")
    listed = tmp_path / "some.txt"
    listed.write_text("n10\tcrane, machine\nox\n")
    for chosen in (f"@{listed}", "n10,ox", "n02,n10"):
        part = train.take(parse_classes(chosen))
        assert (part.class_names, part.class_ids) == (("ox", "crane (n10)"), ("n02", "n10"))
    with pytest.raises(UsageError, match="class 'ox' is named twice"):
        train.take(["ox", "n02"])
    again = data.load("tiny-imagenet", "train", tmp_path / "d")  # from the cache
    assert again.class_ids == train.class_ids
    with pytest.raises(MissingError, match="2 ids of 3 classes"):
        ImageSet(**{**vars(train), "class_ids": ("a", "b")})


def test_files_that_are_no_lists(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    asked: list[str] = []

    def ask() -> None:
        try:
            read_lines(pipe)
        except MissingError as error:
            asked.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(10)
    assert asked == [f"the list of classes {pipe} is no regular file"]
    with pytest.raises(MissingError, match="/dev/zero is no regular file"):
        parse_classes("@/dev/zero")
    with pytest.raises(MissingError, match="cannot be read: Is a directory"):
        parse_classes(f"@{tmp_path}")
    with pytest.raises(MissingError, match="cannot be read: embedded null byte"):
        parse_classes("@a\0b")
    monkeypatch.setattr(class_lists, "SIZE_LIMIT", 1000)
    (tmp_path / "long.txt").write_text("a" * 1001)
    with pytest.raises(MissingError, match="no list of class names"):
        read_lines(tmp_path / "long.txt")


@pytest.mark.parametrize("text", ["9" * 5000, "1," + "9" * 5000, "9" * 10])
def test_numbers_of_thousands_of_digits(text):
    with pytest.raises(UsageError, match="digits, not (5000|10)$") as caught:
        class_indices(parse_classes(text), NAMES)
    assert len(str(caught.value)) < 100


def test_a_list_of_many_lines_is_read_at_once():
    """As many lines as a file may have: a scan of all names for each would take minutes."""
    names = [f"c{i}" for i in range(60_000)]
    found = class_indices([Line(name, "f") for name in reversed(names)], names)
    assert found == list(range(60_000))


def test_imagenet100_lists_may_name_folders_with_blanks(tmp_path):
    names = [f"class {i:03d}" for i in range(101)]
    class_folders(tmp_path, names, count=1)
    (tmp_path / "imagenet100.txt").write_text("# chosen\n" + "\n".join(f"{n}\tsaid" for n in names[1:]))
    found = data.load("imagenet100", "train", tmp_path)
    assert found.class_names == tuple(names[1:])
    assert torch.equal(found.labels, torch.arange(100))
