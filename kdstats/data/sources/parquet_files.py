"""One file of the hub's Parquet: its columns, how it is packed, and what its metadata and labels say of the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdstats.data.messages import printable, reason, shortened
from kdstats.data.sources.layout import Wanted
from kdstats.data.sources.trees import check_class_names
from kdstats.errors import KdstatsError, MissingError

IMAGES, LABELS = ("img", "image"), ("fine_label", "label")
_LABEL_ROWS = 1 << 16
# Images are packed already: a group of rows that unpacks to so many times its size on disk, or to so much, holds none.
_PACKED, _PACKED_FROM = 100, 64_000_000
_GROUP_LIMIT = 8 << 30
_CLASS_LIMIT = 100_000


def open_parquet(file: Path) -> tuple[Any, str, str]:
    """The file with the names of its columns for image and label.

    Raises:
        MissingError: No Parquet, other columns than these, no rows, or packed more than images can be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = printable(file)
    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
    except (pa.ArrowException, OSError, RecursionError) as error:
        raise MissingError(f"{where} is not a readable Parquet file: {reason(error)}") from None
    have = schema.names
    chosen = [next((c for c in kind if c in have), None) for kind in (IMAGES, LABELS)]
    image, label = chosen
    if image is None or label is None:
        missing = [" or ".join(kind) for kind, c in zip((IMAGES, LABELS), chosen, strict=True) if c is None]
        raise MissingError(
            f"{where} has no column {' and no '.join(missing)} (it has {shortened(', '.join(have))})"
        )
    for name in (image, label):
        if have.count(name) > 1:
            raise MissingError(f"{where} has {have.count(name)} columns {name!r}; one is expected")
    kind = schema.field(image).type
    inner = (
        kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else None
    )
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise MissingError(
            f"{where}: {image} holds {shortened(str(kind))}, expected a struct with the image file in 'bytes'"
        )
    if not pa.types.is_integer(schema.field(label).type):
        raise MissingError(
            f"{where}: {label} holds {shortened(str(schema.field(label).type))}, expected whole numbers"
        )
    if parquet.metadata.num_rows == 0:
        raise MissingError(f"{where} holds no rows")
    _check_packing(parquet.metadata, where)
    return parquet, image, label


def _check_packing(metadata: Any, where: str) -> None:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        unpacked = group.total_byte_size
        packed = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
        if unpacked > _GROUP_LIMIT or unpacked > max(_PACKED_FROM, _PACKED * packed):
            raise MissingError(
                f"{where}: row group {number} has {packed / 1e6:,.1f} MB and promises {unpacked / 1e6:,.0f} MB; images "
                "cannot be packed like that"
            )


def class_names(
    files: list[Path], training: list[Path], wanted: Wanted
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names from the ``huggingface`` entry of the schema's metadata, else the indices as text; and notes.

    Raises:
        MissingError: Another number of names than the data set has classes, other names than the training files, or
            labels that cannot be indices of classes.
    """
    names = _named(files[0])
    if names and training and (others := _named(training[0])) and others != names:
        raise MissingError(
            f"{printable(files[0])} and {printable(training[0].name)} name unlike classes in their metadata"
        )
    if names and wanted.classes not in (None, len(names)):
        raise MissingError(
            f"{printable(files[0])} names {len(names)} classes in its metadata; {wanted.name} has {wanted.classes}"
        )
    if names:
        return names, ()
    if wanted.classes is not None:
        return tuple(map(str, range(wanted.classes))), ()
    found = _labels_of(training or files)
    classes = 1 + max(found)
    empty = [str(c) for c in range(classes) if c not in found]
    shown = ", ".join(empty[:5]) + (", …" if len(empty) > 5 else "")
    notes = (f"{len(empty)} of the {classes} classes have no training images: {shown}",) if empty else ()
    return tuple(map(str, range(classes))), notes


def _named(file: Path) -> tuple[str, ...]:
    """The names of the classes in a file's metadata; empty where it has none."""
    parquet, _, label = open_parquet(file)
    where = f"{printable(file)}, metadata"
    try:
        info = json.loads((parquet.schema_arrow.metadata or {})[b"huggingface"])
        names = info["info"]["features"][label]["names"]
    except RecursionError:
        raise MissingError(f"{where}: nested too deeply to be read") from None
    except (KeyError, TypeError, ValueError):
        return ()
    if not isinstance(names, list):
        return ()
    if len(names) > _CLASS_LIMIT or not all(isinstance(name, (str, int)) for name in names):
        raise MissingError(f"{where}: names of classes are up to {_CLASS_LIMIT:,} texts")
    return check_class_names([str(name) for name in names], where)


def _labels_of(files: list[Path]) -> set[int]:
    """The labels that occur; they decide the number of classes where nothing names them.

    Raises:
        MissingError: The highest is so high that there are more classes than images, or it is negative.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    opened = [open_parquet(file) for file in files]
    most = min(_CLASS_LIMIT, sum(parquet.metadata.num_rows for parquet, _, _ in opened))
    found: set[int] = set()
    for file, (parquet, _, label) in zip(files, opened, strict=True):
        row = 0
        try:
            for batch in parquet.iter_batches(batch_size=_LABEL_ROWS, columns=[label]):
                labels = batch.column(label)
                values = [value for value in pc.unique(labels).to_pylist() if value is not None]
                wrong = next((value for value in values if not 0 <= value < most), None)
                if wrong is not None:
                    at = row + labels.to_pylist().index(wrong)
                    raise MissingError(
                        f"{printable(file)}, row {at}: {label} is {wrong}, where labels are 0, 1, 2, … of no more than "
                        f"{most:,} classes, at least one image each"
                    )
                found.update(values)
                row += len(labels)
        except KdstatsError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise MissingError(f"{printable(file)} is damaged: {reason(error)}") from None
    if not found:
        raise MissingError(f"{printable(files[0])}, row 0: no {opened[0][2]}")
    return found
