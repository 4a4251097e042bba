"""The hub's Parquet files: images in a struct ``{bytes, path}``, a column of whole numbers with the labels."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.data.cache import digest_files
from kdstats.data.sources.decoding import Decoder
from kdstats.data.sources.layout import TEST_NAMES, Content, Opened, Wanted
from kdstats.data.sources.trees import printable
from kdstats.errors import KdstatsError, MissingError

IMAGES, LABELS = ("img", "image"), ("fine_label", "label")
# Folders of a hub repository in which its files lie, besides the one named like the data set.
_INNER = ("data", "plain_text", "default")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_ROWS = 2048


class HubParquet:
    """Rows in the order of the split's file names and, within a file, of the rows; ``sample_id`` counts them."""

    def looks_for(self, name: str) -> str:
        del name
        return "train-*.parquet and test-*.parquet (or val-, validation-, valid-)"

    def fits(self, path: Path, name: str) -> bool:
        return bool(_homes(path, name))

    def open(self, path: Path, wanted: Wanted) -> Opened:
        homes = _homes(path, wanted.name)
        if len(homes) > 1:
            both = " and ".join(printable(home.absolute()) for home in homes)
            raise MissingError(f"Parquet files lie in {both}; name the one that is meant")
        files = _files(homes[0], wanted.split)
        if not files:
            where = printable(homes[0].absolute())
            raise MissingError(f"no {wanted.split}-*.parquet in {where}. {wanted.how}")
        _check_shards(files, wanted.how)
        names = _class_names(homes[0], files, wanted)
        # One digest for files and parts of the same content as ever: it identifies studies that were begun.
        digest = digest_files(files)
        return Opened("\0".join([digest, *names]), lambda: _read(files, names, digest, wanted))


def _homes(path: Path, name: str) -> list[Path]:
    inner = [path / folder for folder in dict.fromkeys((*_INNER, name))]
    splits = ("train", "test")
    here = [at for at in (path, *inner) if at.is_dir() and any(_files(at, split) for split in splits)]
    return here[:1] if path in here else here


def _files(folder: Path, split: str) -> list[Path]:
    """The split's files in name order; for ``test`` those of the first usual name that is there."""
    there = sorted(f for f in folder.iterdir() if f.suffix == ".parquet" and f.is_file())
    for name in (split,) if split == "train" else TEST_NAMES:
        if found := [f for f in there if re.fullmatch(rf"{name}([-_.].*)?", f.stem)]:
            return found
    return []


def _check_shards(files: list[Path], how: str) -> None:
    """The hub names its files ``train-00000-of-00003``; a set that lacks one of them would be a quiet subset."""
    shards = [found for file in files if (found := _SHARD.search(file.stem))]
    for total in {int(shard[2]) for shard in shards}:
        there = {int(shard[1]) for shard in shards if int(shard[2]) == total}
        lacking = sorted(set(range(total)) - there)
        if lacking:
            raise MissingError(
                f"{printable(files[0].parent.absolute())} lacks part {lacking[0]:05d} of {total} ({files[0].name} is "
                f"there). {how}"
            )


def _open(file: Path) -> tuple[Any, str, str]:
    """The file with the names of its columns for image and label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise MissingError(f"{file} is not a readable Parquet file: {_said(error)}") from None
    have = parquet.schema_arrow.names
    chosen = [next((c for c in kind if c in have), None) for kind in (IMAGES, LABELS)]
    image, label = chosen
    if image is None or label is None:
        missing = [" or ".join(kind) for kind, c in zip((IMAGES, LABELS), chosen, strict=True) if c is None]
        raise MissingError(f"{file} has no column {' and no '.join(missing)} (it has {', '.join(have)})")
    kind = parquet.schema_arrow.field(image).type
    inner = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None
    )
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise MissingError(f"{file}: {image} holds {kind}, expected a struct with the image file in 'bytes'")
    if not pa.types.is_integer(parquet.schema_arrow.field(label).type):
        raise MissingError(
            f"{file}: {label} holds {parquet.schema_arrow.field(label).type}, expected whole numbers"
        )
    if parquet.metadata.num_rows == 0:
        raise MissingError(f"{file} holds no rows")
    return parquet, image, label


def _class_names(home: Path, files: list[Path], wanted: Wanted) -> tuple[str, ...]:
    """Names from the ``huggingface`` entry of the schema's metadata, else the indices as text.

    Raises:
        MissingError: Another number of names than the data set has classes, or other names than the training files.
    """
    names = _named(files[0])
    training = files if wanted.split == "train" else _files(home, "train")
    if names and training and (others := _named(training[0])) and others != names:
        raise MissingError(f"{files[0]} and {training[0].name} name unlike classes in their metadata")
    if names and wanted.classes not in (None, len(names)):
        raise MissingError(
            f"{files[0]} names {len(names)} classes in its metadata; {wanted.name} has {wanted.classes}"
        )
    if names:
        return names
    classes = wanted.classes or 1 + max(_highest(file) for file in training or files)
    return tuple(str(c) for c in range(classes))


def _named(file: Path) -> tuple[str, ...]:
    parquet, _, label = _open(file)
    try:
        info = json.loads((parquet.schema_arrow.metadata or {})[b"huggingface"])
        names = info["info"]["features"][label]["names"]
        return tuple(str(n) for n in names) if isinstance(names, list) else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _highest(file: Path) -> int:
    """The highest label of a file; decides the number of classes where nothing names them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parquet, _, label = _open(file)
    try:
        return int(pc.max(parquet.read(columns=[label])[label]).as_py() or 0)
    except (pa.ArrowException, OSError) as error:
        raise MissingError(f"{file} is damaged: {_said(error)}") from None


def _read(files: list[Path], names: tuple[str, ...], digest: str, wanted: Wanted) -> Content:
    import pyarrow as pa
    import pyarrow.compute as pc

    labels: list[NDArray[np.int64]] = []
    opened = [_open(file) for file in files]
    done = 0
    with Decoder(sum(parquet.metadata.num_rows for parquet, _, _ in opened), wanted) as decoder:
        for file, (parquet, image, label) in zip(files, opened, strict=True):
            row = 0
            try:
                for batch in parquet.iter_batches(batch_size=_ROWS, columns=[image, label]):
                    blobs = pc.struct_field(batch.column(image), "bytes").to_pylist()
                    labels.append(_labels(batch.column(label), len(names), label, file, row))
                    decoder.add(done, len(blobs), blobs.__getitem__, partial(_where, file, row))
                    row += len(blobs)
                    done += len(blobs)
            except KdstatsError:
                raise
            except (pa.ArrowException, OSError, KeyError) as error:
                raise MissingError(f"{file} is damaged: {_said(error)}") from None
            if row != parquet.metadata.num_rows:
                raise MissingError(
                    f"{file} is damaged: {row} of {parquet.metadata.num_rows} rows can be read"
                )
        return Content(decoder.images, np.concatenate(labels), names, digest, decoder.resized)


def _where(file: Path, start: int, i: int) -> str:
    return f"{file}, row {start + i}"


def _labels(column: Any, classes: int, name: str, file: Path, start: int) -> NDArray[np.int64]:
    if column.null_count:
        raise MissingError(f"{file}, row {start + column.is_null().to_pylist().index(True)}: no {name}")
    values = column.to_numpy(zero_copy_only=False)
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise MissingError(f"{file}, row {start + row}: {name} is {values[row]}, expected 0…{classes - 1}")
    labels: NDArray[np.int64] = values.astype(np.int64)
    return labels


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
