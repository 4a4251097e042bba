"""Images, folders, archives and pickles for the tests of this folder, small and seeded."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

WNIDS = ("n02", "n01", "n10")  # unsorted, as the published wnids.txt is


def picture(seed: int = 0, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """``[H, W, 3]`` random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """Pixels as a file; lossless where the format can be."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


def class_folders(
    root: Path,
    classes: Iterable[str] = ("cat", "dog", "eel"),
    splits: Iterable[str] = ("train", "val"),
    count: int = 3,
    size: tuple[int, int] = (16, 16),
) -> Path:
    """``root/<split>/<class>/<i>.png``; the picture of (split, class, i) has a seed of its own."""
    names = sorted(classes)
    for s, split in enumerate(splits):
        for c, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(encoded(picture(seed_of(s, c, i), size)))
    return root


def seed_of(split: int, label: int, i: int) -> int:
    return 10_000 * split + 100 * label + i


def tiny(root: Path, count: int = 3, size: tuple[int, int] = (64, 64)) -> Path:
    """A small Tiny ImageNet in the published layout under ``root``; PNG inside, whatever the names say."""
    for c, name in enumerate(sorted(WNIDS)):
        folder = root / "train" / name / "images"
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{name}_{i}.JPEG").write_bytes(encoded(picture(seed_of(0, c, i), size)))
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t5\t5\n")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(count * len(WNIDS)):
        c = (i * 2 + 1) % len(WNIDS)
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(encoded(picture(seed_of(1, c, i), size)))
        lines.append(f"val_{i}.JPEG\t{sorted(WNIDS)[c]}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{w}\n" for w in WNIDS))
    (root / "words.txt").write_text("n01\tcrane, bird\nn02\tox\nn10\tcrane, machine\nn99\tnone\n")
    (root / "test" / "images").mkdir(parents=True)
    (root / "test" / "images" / "test_0.JPEG").write_bytes(encoded(picture(9)))
    return root


def refolder(source: Path, target: Path, inner: bool = False) -> Path:
    """The usual script: validation images moved into class folders, the annotation file left where it was."""
    shutil.copytree(source, target)
    for line in (source / "val" / "val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        folder = target / "val" / wnid / ("images" if inner else "")
        folder.mkdir(parents=True, exist_ok=True)
        (target / "val" / "images" / file).rename(folder / file)
    (target / "val" / "images").rmdir()
    return target


def zipped(source: Path, target: Path, top: str = "tiny-imagenet-200/", deflate: bool = True) -> Path:
    packing = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, "w", packing) as archive:
        for file in sorted(source.rglob("*"), reverse=True):  # any order will do
            archive.write(file, top + str(file.relative_to(source)))
    return target


def tarred(source: Path, target: Path, top: str = "tiny-imagenet-200/") -> Path:
    with tarfile.open(target, "w") as archive:
        for file in sorted(source.rglob("*"), reverse=True):
            archive.add(file, top + str(file.relative_to(source)), recursive=False)
    return target


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes what Python 2 wrote for CIFAR: byte strings, protocol 2, numpy under its old name."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, protocol=2)

    def save_bytes(self, value: bytes) -> None:
        if len(value) < 256:
            self.write(b"U" + bytes([len(value)]) + value)
        else:
            self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c" + f"{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[type] = save_global
    dispatch[type(len)] = save_global


def python2(value: Any) -> bytes:
    """``value`` pickled as Python 2 did."""
    stream = io.BytesIO()
    Python2Pickler(stream).dump(value)
    return stream.getvalue()


def cifar100_python(
    root: Path, train: tuple[np.ndarray, Any], test: tuple[np.ndarray, Any], names: Iterable[str]
) -> Path:
    """``root/cifar-100-python`` from ``[N, 3, 32, 32]`` images and labels, in the published form."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, (images, labels) in (("train", train), ("test", test)):
        document = {
            b"filenames": [b"some_picture_s_%06d.png" % i for i in range(len(images))],
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": [int(label) for label in labels],
            b"coarse_labels": [int(label) // 5 for label in labels],
            b"data": np.ascontiguousarray(images).reshape(len(images), -1),
        }
        (folder / name).write_bytes(python2(document))
    meta = {b"fine_label_names": [n.encode() for n in names], b"coarse_label_names": [b"fish"] * 20}
    (folder / "meta").write_bytes(python2(meta))
    return root
