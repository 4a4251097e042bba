"""The classes and images of a tree with one folder per class, and what makes such a tree unfit."""

from __future__ import annotations

from collections.abc import Sequence

from kdstats.data.sources.labelled_files import Item, Listing
from kdstats.data.sources.layout import TEST_NAMES, Wanted
from kdstats.data.sources.trees import Tree, images_in, join
from kdstats.errors import MissingError, nearest

ENDINGS = "*.png, *.jpg, *.jpeg, *.webp"


def find(tree: Tree, wanted: Wanted) -> Listing:
    """The images of one split.

    Raises:
        MissingError: No such split, no classes, another number of them than wanted, other classes than in the
            other split, an empty class, pictures of unread kinds, pictures outside of a class.
    """
    classes = _classes(tree, "train")
    second = _second_split(tree, classes)
    if wanted.only is not None:
        classes = _kept(tree, classes, wanted.only)
    if second is not None:
        others = _classes(tree, second)
        check_same(
            tree, "train", classes, second, others if wanted.only is None else _kept(tree, others, classes)
        )
    elif wanted.split == "test":
        places = ", ".join(f"{name}/" for name in TEST_NAMES)
        raise MissingError(f"{tree.where('')} has none of {places} with class folders. {wanted.how}")
    if wanted.classes is not None and len(classes) != wanted.classes:
        raise MissingError(
            f"{tree.where('train')} holds {len(classes)} class folders; {wanted.name} has {wanted.classes} classes"
        )
    classes, notes = _in_order(classes, wanted.ordered)
    at = "train" if wanted.split == "train" or second is None else second
    items = []
    for label, name in enumerate(classes):
        items += [
            Item(f"{at}/{name}/{file}", label, f"{name}/{file}") for file in _images(tree, join(at, name))
        ]
    others = [n for n in TEST_NAMES if n != second and n in tree.folders("")]
    if wanted.split == "test" and others:
        notes.append(f"the test images are those of {second}/, not of {' or '.join(o + '/' for o in others)}")
    return Listing(items, tuple(classes), tuple(notes))


def _in_order(classes: list[str], ordered: bool) -> tuple[list[str], list[str]]:
    """The classes in the order of their indices, and a note where that could be taken for another order."""
    by_number = (
        sorted(classes, key=lambda name: (int(name), name)) if all(map(str.isdecimal, classes)) else classes
    )
    if by_number == classes:
        return classes, []
    if ordered:
        return by_number, ["the class folders are named by numbers and taken in the order of the numbers"]
    first = ", ".join(classes[:4])
    return classes, [
        f"the class folders are named by numbers and taken in the order of the text ({first}, …), as torchvision does"
    ]


def _kept(tree: Tree, there: list[str], only: Sequence[str]) -> list[str]:
    """The classes ``only``, in the order of their folders; raises where one has no folder."""
    for name in only:
        if name not in there:
            near = nearest(name, there, 1)
            raise MissingError(
                f"{tree.where('')} has no class folder {name!r}"
                + (f"; the nearest is {near[0]!r}" if near else "")
            )
    return [name for name in there if name in set(only)]


def _second_split(tree: Tree, classes: list[str]) -> str | None:
    """Which folder is the second split: of the usual names the first with the same classes, else with any.

    ImageNet and its kin have a ``test/`` without labels beside ``val/``.
    """
    there = [name for name in TEST_NAMES if tree.folders(name)]
    return next((name for name in there if tree.folders(name) == classes), next(iter(there), None))


def check_same(tree: Tree, first: str, classes: list[str], second: str, others: list[str]) -> None:
    """Refuses splits of unlike classes: their indices would mean different things.

    Raises:
        MissingError: A class of one split that the other lacks.
    """
    lacking, extra = sorted(set(classes) - set(others)), sorted(set(others) - set(classes))
    if lacking:
        raise MissingError(f"{tree.where(second)} has no folder for class {lacking[0]!r} of {first}/")
    if extra:
        near = nearest(extra[0], classes, 1)
        like = f", only {near[0]!r}" if near else ""
        raise MissingError(
            f"{tree.where(join(second, extra[0]))} is a class that {first}/ does not have{like}"
        )


def _classes(tree: Tree, at: str) -> list[str]:
    classes = tree.folders(at)
    where = tree.where(at)
    loose = images_in(tree, at)
    if not classes:
        what = f"holds {len(loose)} images" if loose else "is empty"
        raise MissingError(f"{where} {what}; it should hold one folder per class, with {ENDINGS}")
    if loose:
        raise MissingError(
            f"{tree.where(join(at, loose[0]))} lies beside the class folders, so it has no class"
        )
    if len(classes) == 1:
        raise MissingError(f"{where} holds the one class {classes[0]!r}; at least two are needed")
    return classes


def _images(tree: Tree, at: str) -> list[str]:
    found = images_in(tree, at)
    inner = tree.folders(at)
    if inner:
        hint = " (Tiny ImageNet? then --dataset tiny-imagenet)" if inner == ["images"] else ""
        raise MissingError(
            f"{tree.where(join(at, inner[0]))} is a folder inside a class folder; a class folder holds images{hint}"
        )
    if not found:
        raise MissingError(f"{tree.where(at)} holds no images ({ENDINGS})")
    return found
