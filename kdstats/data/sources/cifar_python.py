"""CIFAR as its authors publish it for Python and torchvision keeps it: ``cifar-10-batches-py``, ``cifar-100-python``.

Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html: pickled dictionaries with ``data`` ``[N, 3072]`` uint8
(1,024 red values row by row, then green, then blue) and a list of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdstats.data.checksums import digest_files, md5_of
from kdstats.data.messages import printable, shortened
from kdstats.data.sources import inert_pickle
from kdstats.data.sources.decoding import resize_all
from kdstats.data.sources.layout import Content, Opened, Wanted
from kdstats.data.sources.trees import check_class_names
from kdstats.errors import MissingError

SIDE = 32


@dataclass(frozen=True)
class Variant:
    """One of the two data sets.

    Attributes:
        folder: Name of the unpacked folder.
        files: Split → files in order, each with the md5 of the published one (as torchvision checks them).
        meta: File with the class names, and its key for them.
        label: Key of the labels.
    """

    folder: str
    files: dict[str, dict[str, str]]
    meta: tuple[str, str]
    label: str


VARIANTS = {
    "cifar10": Variant(
        "cifar-10-batches-py",
        {
            "train": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
        },
        ("batches.meta", "label_names"),
        "labels",
    ),
    "cifar100": Variant(
        "cifar-100-python",
        {
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        },
        ("meta", "fine_label_names"),
        "fine_labels",
    ),
}


class CifarPython:
    """Images in the order of the files and of their rows; ``sample_id`` counts them."""

    def looks_for(self, name: str) -> str:
        return f"{VARIANTS[name].folder}/ with {', '.join(files_of(name))}"

    def fits(self, path: Path, name: str) -> bool:
        return name in VARIANTS and _folder(path, VARIANTS[name]) is not None

    def open(self, path: Path, wanted: Wanted) -> Opened:
        variant = VARIANTS[wanted.name]
        folder = _folder(path, variant) or path
        files = [folder / name for name in variant.files[wanted.split]]
        meta = folder / variant.meta[0]
        for file in (*files, meta):
            if not file.is_file():
                raise MissingError(f"no file {printable(file.absolute())}. {wanted.how}")
        digest = digest_files(files)
        key = f"{digest}\0{digest_files([meta])}"
        return Opened(key, lambda: _read(files, meta, digest, variant, wanted))


def files_of(name: str) -> tuple[str, ...]:
    """The files that make the unpacked folder of a data set whole."""
    variant = VARIANTS[name]
    return (*variant.files["train"], *variant.files["test"], variant.meta[0])


def _folder(path: Path, variant: Variant) -> Path | None:
    inner = path / variant.folder
    if inner.is_dir():
        return inner
    first = next(iter(variant.files["train"]))
    return path if path.name == variant.folder or (path / first).is_file() else None


def _read(files: list[Path], meta: Path, digest: str, variant: Variant, wanted: Wanted) -> Content:
    names = _class_names(meta, variant.meta[1], wanted)
    parts = [_batch(file, variant.label, len(names)) for file in files]
    images = np.concatenate([images for images, _ in parts])
    changed = wanted.resize is not None and wanted.resize != SIDE
    if wanted.resize is not None and changed:
        images = resize_all(images, wanted.resize)
    published = variant.files[wanted.split]
    foreign = [file.name for file in files if md5_of(file) != published[file.name]]
    notes = (f"not the published file, by its md5: {', '.join(foreign)}",) if foreign else ()
    return Content(images, np.concatenate([labels for _, labels in parts]), names, digest, changed, notes)


def _class_names(meta: Path, key: str, wanted: Wanted) -> tuple[str, ...]:
    names = inert_pickle.read(meta).get(key)
    if not isinstance(names, list) or not all(isinstance(n, (bytes, str)) for n in names):
        raise MissingError(f"{printable(meta)} has no list of names under {key!r}")
    if len(names) != wanted.classes:
        raise MissingError(
            f"{printable(meta)} names {len(names)} classes; {wanted.name} has {wanted.classes}"
        )
    texts = [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names]
    return check_class_names(texts, printable(meta))


def _batch(file: Path, key: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    found = inert_pickle.read(file)
    where = printable(file.absolute())
    pixels, labels = found.get("data"), found.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE:
        have = (
            f"{list(pixels.shape)}"
            if isinstance(pixels, np.ndarray)
            else f"keys {shortened(', '.join(found))}"
        )
        raise MissingError(f"{where}: expected 'data' of [N, {3 * SIDE * SIDE}] bytes, found {have}")
    if not isinstance(labels, list) or len(labels) != len(pixels) or len(labels) == 0:
        have = f"{len(labels)}" if isinstance(labels, list) else "none"
        raise MissingError(f"{where}: {len(pixels)} images and {have} labels under {key!r}")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise MissingError(f"{where}, row {row}: label is {_said(label)}, expected 0…{classes - 1}")
    return pixels.reshape(-1, 3, SIDE, SIDE), np.array(labels, dtype=np.int64)


def _said(label: object) -> str:
    """A label for a message. Nothing else of the file is printed: what is nested and shared may print for ever."""
    if not isinstance(label, int):
        return f"of type {type(label).__name__}"
    return str(label) if abs(label) < 1 << 63 else "a number of more than 63 bits"
