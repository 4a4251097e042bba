"""Tiny ImageNet as it was published (``val_annotations.txt``), and with its validation images in class folders.

    train/<wnid>/images/*.JPEG    val/images/*.JPEG with val/val_annotations.txt      wnids.txt    words.txt
    train/<wnid>/*.JPEG           val/<wnid>/*.JPEG or val/<wnid>/images/*.JPEG        (may be absent)

Both in a folder, a .zip or a .tar, under a first level ``tiny-imagenet-200/`` or without it. Which of the two it is
shows in where the validation images lie: taking one for the other is how networks come to 0.5 % accuracy.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from kdstats.data.sources.archives import Archive
from kdstats.data.sources.class_tree import check_same
from kdstats.data.sources.labelled_files import Item, Listing, listing_key, read_listing
from kdstats.data.sources.layout import Content, Opened, Wanted
from kdstats.data.sources.trees import ARCHIVES, Folder, Tree, check_class_names, images_in, join
from kdstats.errors import MissingError

TOP = "tiny-imagenet-200"
ANNOTATIONS = "val_annotations.txt"


class TinyImageNet:
    """Images in the order of (wnid, file name) in every layout; ``sample_id`` is the position in it."""

    def looks_for(self, name: str) -> str:
        del name
        return (
            f"{TOP}.zip, a .tar of it, or its train/<wnid>/images/*.JPEG with val/images and {ANNOTATIONS} "
            "(or val/<wnid>/)"
        )

    def fits(self, path: Path, name: str) -> bool:
        del name
        if path.is_dir():
            return any((at / "train").is_dir() for at in (path, path / TOP)) or _archive_in(path) is not None
        return _is_archive(path)

    def open(self, path: Path, wanted: Wanted) -> Opened:
        archive = path if path.is_file() else _archive_in(path)
        if archive is None:
            tree: Tree = Folder(path)
            listing = find(tree, wanted)
            return Opened(listing_key(tree, listing), lambda: read_listing(tree, listing, wanted))
        with archive.open("rb") as stream:
            key = hashlib.file_digest(stream, "sha256").hexdigest()
        return Opened(key, lambda: _read(archive, wanted))


def _read(archive: Path, wanted: Wanted) -> Content:
    with Archive(archive) as tree:
        return read_listing(tree, find(tree, wanted), wanted)


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".zip", ".tar")


def _archive_in(folder: Path) -> Path | None:
    """The archive of the usual name, for a folder of data sets that was never unpacked."""
    if any((at / "train").is_dir() for at in (folder, folder / TOP)):
        return None
    return next((f for e in (".zip", ".tar") if _is_archive(f := folder / f"{TOP}{e}")), None)


def find(tree: Tree, wanted: Wanted) -> Listing:
    """The images of one split, whichever layout the tree has.

    Raises:
        MissingError: A split, class, image or annotation that is missing, unknown, double or contradictory.
    """
    root = _root(tree)
    train = join(root, "train")
    classes = tree.folders(train)
    if len(classes) < 2:
        raise MissingError(f"{tree.where(train)} holds {len(classes) or 'no'} class folders. {wanted.how}")
    _check_wnids(tree, root, classes)
    if wanted.split == "train":
        found = {(name, at, file) for name in classes for at, file in _images(tree, join(train, name))}
    else:
        found = _validation(tree, root, classes, wanted)
    label = {name: i for i, name in enumerate(classes)}
    items = [Item(f"{at}/{file}", label[name], f"{name}/{file}") for name, at, file in _ordered(found)]
    names = check_class_names(_names(tree, root, classes), tree.where(join(root, "words.txt")))
    return Listing(items, names, class_ids=tuple(classes))


def _ordered(found: set[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return sorted(found, key=lambda entry: (entry[0], entry[2]))


def _root(tree: Tree) -> str:
    """The folder that holds ``train``: the root or the one folder in it."""
    top = tree.folders("")
    if "train" in top:
        return ""
    inner = [name for name in top if "train" in tree.folders(name)]
    if len(inner) == 1:
        return inner[0]
    if inner:
        raise MissingError(
            f"{tree.where('')} holds {' and '.join(inner)}, each with a train/; name one of them"
        )
    nested = [name for at in ("", *top) for name in tree.files(at) if name.lower().endswith(ARCHIVES)]
    if nested:
        raise MissingError(
            f"{tree.where('')} holds another archive, {nested[0]}; unpack the outer one and name the inner"
        )
    raise MissingError(f"no train/ in {tree.where('')}; it is not Tiny ImageNet")


def _images(tree: Tree, at: str) -> list[tuple[str, str]]:
    """``(folder, file)`` of one class: directly in its folder or in ``images/`` there."""
    inner = join(at, "images")
    found = [(folder, name) for folder in (at, inner) for name in images_in(tree, folder)]
    if not found:
        raise MissingError(f"{tree.where(at)} holds no images")
    double = [name for name, times in Counter(name for _, name in found).items() if times > 1]
    if double:
        raise MissingError(
            f"{tree.where(join(at, double[0]))} is there twice, in the folder and in its images/"
        )
    return found


def _validation(tree: Tree, root: str, classes: list[str], wanted: Wanted) -> set[tuple[str, str, str]]:
    val = join(root, "val")
    flat = join(val, "images")
    folders = [name for name in tree.folders(val) if name != "images"]
    loose = images_in(tree, flat)
    labels = _annotations(tree, val, classes)
    if not folders and not loose:
        raise MissingError(f"{tree.where(val)} holds neither images/*.JPEG nor class folders. {wanted.how}")
    if folders and loose:
        raise MissingError(
            f"{tree.where(val)} holds class folders and also images/{loose[0]}: it was sorted only in part"
        )
    if folders:
        check_same(tree, "train", classes, val, folders)
        found = {(name, at, file) for name in folders for at, file in _images(tree, join(val, name))}
        for name, at, file in _ordered(found):
            if labels.get(file, name) != name:
                where = tree.where(join(at, file))
                raise MissingError(f"{where} lies in the wrong folder: {ANNOTATIONS} says {labels[file]}")
        return found
    if not labels:
        raise MissingError(f"no {tree.where(join(val, ANNOTATIONS))}: without it the images have no labels")
    absent, unknown = sorted(set(labels) - set(loose)), sorted(set(loose) - set(labels))
    if absent:
        raise MissingError(f"{tree.where(join(val, ANNOTATIONS))} names {absent[0]}, which is not in images/")
    if unknown:
        raise MissingError(f"{tree.where(join(flat, unknown[0]))} has no line in {ANNOTATIONS}")
    return {(labels[file], flat, file) for file in loose}


def _annotations(tree: Tree, val: str, classes: list[str]) -> dict[str, str]:
    """File name → wnid; empty when there is no annotation file."""
    labels: dict[str, str] = {}
    known = set(classes)
    for number, line in _lines(tree, val, ANNOTATIONS):
        where = f"{tree.where(join(val, ANNOTATIONS))}, line {number}"
        fields = line.split("\t")
        if len(fields) < 2:
            raise MissingError(f"{where}: {line[:40]!r} is no file name and class separated by a tab")
        file, wnid = fields[0].strip(), fields[1].strip()
        if wnid not in known:
            raise MissingError(f"{where}: {file} is of class {wnid}, which train/ does not have")
        if file in labels:
            raise MissingError(f"{where}: {file} stands there for the second time")
        labels[file] = wnid
    return labels


def _check_wnids(tree: Tree, root: str, classes: list[str]) -> None:
    """``wnids.txt``, where there is one, lists the classes: a copy that broke off shows."""
    listed = {line.strip() for _, line in _lines(tree, root, "wnids.txt")}
    lacking, extra = sorted(listed - set(classes)), sorted(set(classes) - listed)
    if listed and (lacking or extra):
        what = (
            f"lists {lacking[0]}, which train/ does not have"
            if lacking
            else f"does not list train/{extra[0]}"
        )
        raise MissingError(
            f"{tree.where(join(root, 'wnids.txt'))} {what}; complete the copy, or correct the list"
        )


def _names(tree: Tree, root: str, classes: list[str]) -> tuple[str, ...]:
    """The first word for each wnid from ``words.txt``, the wnid where there is none, both where words coincide."""
    words = {}
    for _, line in _lines(tree, root, "words.txt"):
        wnid, _, meaning = line.partition("\t")
        words[wnid.strip()] = meaning.partition(",")[0].strip()
    first = [words.get(wnid) or wnid for wnid in classes]
    times = Counter(first)
    return tuple(
        f"{word} ({wnid})" if times[word] > 1 else word for word, wnid in zip(first, classes, strict=True)
    )


def _lines(tree: Tree, at: str, name: str) -> list[tuple[int, str]]:
    """Numbered lines that are not blank; none when there is no such file."""
    if name not in tree.files(at):
        return []
    file = join(at, name)
    try:
        text = tree.read(file).decode("utf-8")
    except UnicodeDecodeError:
        raise MissingError(f"{tree.where(file)} is not UTF-8 text") from None
    return [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
