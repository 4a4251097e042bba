"""CIFAR-100 from the hub's Parquet files (``img {bytes, path}``, ``fine_label``, ``coarse_label``)."""

from __future__ import annotations

import io
import json
import os
import re
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

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_COLUMNS = ("img", "fine_label")
# Nothing else is tried: some of Pillow's decoders start other programs.
_FORMATS = ("PNG", "WEBP", "JPEG")
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
    folder = (
        Path(os.environ["KDSTATS_DATA"]) / card.name
        if path is None and "KDSTATS_DATA" in os.environ
        else path
    )
    if folder is None:
        raise UsageError(
            f"{card.name} is read from files: name their folder with --data FOLDER, in a study file with "
            f"data = 'FOLDER' under [study]. {_HOW}"
        )
    if not folder.is_dir():
        raise MissingError(f"no folder {folder.absolute()}. {_HOW}")
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise MissingError(f"no {split}-*.parquet in {folder.absolute()}. {_HOW}")
    _check_shards(files)
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


def _check_shards(files: list[Path]) -> None:
    """The hub names its files ``train-00000-of-00003``; a set that lacks one of them would be a quiet subset."""
    shards = [found for file in files if (found := _SHARD.search(file.stem))]
    for total in {int(shard[2]) for shard in shards}:
        there = {int(shard[1]) for shard in shards if int(shard[2]) == total}
        lacking = sorted(set(range(total)) - there)
        if lacking:
            raise MissingError(
                f"{files[0].parent.absolute()} lacks part {lacking[0]:05d} of {total} ({files[0].name} is there). {_HOW}"
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
    kind = parquet.schema_arrow.field("img").type
    inner = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None
    )
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise MissingError(f"{file}: img holds {kind}, expected a struct with the image file in 'bytes'")
    if parquet.metadata.num_rows == 0:
        raise MissingError(f"{file} holds no rows")
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
                column = table["fine_label"]
                if column.null_count:
                    row = column.is_null().to_pylist().index(True)
                    raise MissingError(f"{file}, row {row}: no fine_label")
                targets = column.to_numpy()
            except (pa.ArrowException, OSError, KeyError) as error:
                raise MissingError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
            chunks = [(file, start, blobs[start : start + 512]) for start in range(0, len(blobs), 512)]
            labels.append(_labels(targets, card.classes, file))
            images += pool.map(lambda chunk: _images(chunk[0], chunk[1], chunk[2], shape), chunks)
    return np.concatenate(images), np.concatenate(labels)


def _images(file: Path, start: int, blobs: list[bytes], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.stack([_image(blob, shape, f"{file}, row {start + i}") for i, blob in enumerate(blobs)])


def _image(blob: bytes | None, shape: tuple[int, int, int], where: str) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(blob or b""), formats=_FORMATS) as image:
            if image.size != (shape[2], shape[1]):  # before decoding: a damaged header may promise gigabytes
                raise MissingError(
                    f"{where}: an image of {image.width}x{image.height} pixels, expected {shape[2]}x{shape[1]}"
                )
            return np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    except UnidentifiedImageError:  # its own text names a memory address
        raise MissingError(f"{where}: not a readable image (no known image format)") from None
    except MissingError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MissingError(f"{where}: not a readable image ({str(error).splitlines()[0]})") from None


def _labels(values: Any, classes: int, file: Path) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.dtype.kind not in "iu":
        raise MissingError(f"{file}: fine_label holds {labels.dtype}, expected whole numbers without gaps")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        row = int(np.argmax((labels < 0) | (labels >= classes)))
        raise MissingError(f"{file}, row {row}: fine_label is {labels[row]}, expected 0…{classes - 1}")
    return labels.astype(np.int64)
