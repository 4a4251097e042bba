"""CIFAR-100 from the hub's Parquet files (``img {bytes, path}``, ``fine_label``, ``coarse_label``)."""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdstats.data.cache import cached, digest_files
from kdstats.data.imageset import ImageSet
from kdstats.errors import MissingError, UsageError

if TYPE_CHECKING:
    from kdstats.data.registry import DataCard

_COLUMNS = ("img", "fine_label")
_HOW = (
    "Put the hub's files train-*.parquet and test-*.parquet of the data set 'uoft-cs/cifar100' (configuration "
    "cifar100) into a folder and name it with --data FOLDER."
)


def load(card: DataCard, split: str, path: Path | None) -> ImageSet:
    """One split; ``sample_id`` is the row number over the split's files in name order.

    Raises:
        UsageError: No folder was named.
        MissingError: No such folder or files, damaged Parquet, foreign columns, undecodable or odd images.
    """
    folder = Path(os.environ["KDSTATS_DATA"]) / card.name if path is None and "KDSTATS_DATA" in os.environ else path
    if folder is None:
        raise UsageError(f"{card.name} is read from files: name their folder with --data FOLDER. {_HOW}")
    if not folder.is_dir():
        raise MissingError(f"no folder {folder.absolute()}. {_HOW}")
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise MissingError(f"no {split}-*.parquet in {folder.absolute()}. {_HOW}")
    digest = digest_files(files)
    names = _class_names(files[0], card.classes)
    images, labels = cached(f"{card.name}-{split}", digest, lambda: _decode(files, card))
    return ImageSet(
        name=card.name,
        split=split,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        sample_id=torch.arange(len(images)),
        class_names=names,
        mean=card.mean,
        std=card.std,
        base=card.base,
        digest=digest,
    )


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise MissingError(f"{file} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    missing = [c for c in _COLUMNS if c not in parquet.schema_arrow.names]
    if missing:
        have = ", ".join(parquet.schema_arrow.names)
        raise MissingError(f"{file} has no column {' and '.join(missing)} (it has {have}); is it CIFAR-100?")
    return parquet


def _class_names(file: Path, classes: int) -> tuple[str, ...]:
    """Names from the ``huggingface`` entry of the schema's metadata, else the indices as text."""
    metadata = _open(file).schema_arrow.metadata or {}
    try:
        info = json.loads(metadata[b"huggingface"])
        names = tuple(str(n) for n in info["info"]["features"]["fine_label"]["names"])
    except (KeyError, TypeError, ValueError):
        names = ()
    return names if len(names) == classes else tuple(str(c) for c in range(classes))


def _decode(files: list[Path], card: DataCard) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import pyarrow as pa

    shape = (card.channels, card.img_size, card.img_size)
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    # Pillow's decoders release the interpreter lock, so threads help.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for file in files:
            try:
                table = _open(file).read(columns=list(_COLUMNS))
                blobs = table["img"].combine_chunks().field("bytes").to_pylist()
                targets = table["fine_label"].to_numpy()
            except (pa.ArrowException, OSError, KeyError) as error:
                raise MissingError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
            chunks = [(file, start, blobs[start : start + 512]) for start in range(0, len(blobs), 512)]
            images += pool.map(lambda chunk: _images(*chunk, shape), chunks)
            labels.append(_labels(targets, card.classes, file))
    return np.concatenate(images), np.concatenate(labels)


def _images(file: Path, start: int, blobs: list[bytes], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.stack([_image(blob, shape, f"{file}, row {start + i}") for i, blob in enumerate(blobs)])


def _image(blob: bytes | None, shape: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(blob or b"")) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MissingError(f"{where}: not a readable image ({str(error).splitlines()[0]})") from None
    if pixels.shape != shape:
        raise MissingError(f"{where}: an image of {pixels.shape[2]}x{pixels.shape[1]} pixels, expected {shape[2]}x{shape[1]}")
    return pixels


def _labels(values: Any, classes: int, file: Path) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.dtype.kind not in "iu":
        raise MissingError(f"{file}: fine_label holds {labels.dtype}, expected whole numbers without gaps")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise MissingError(f"{file}: fine_label goes from {labels.min()} to {labels.max()}, expected 0…{classes - 1}")
    return labels.astype(np.int64)
