"""The schema of :mod:`kdstats.records.schema` in Arrow's types, and the header that every Parquet file
carries.

The header (Parquet key–value metadata) holds the schema version, the version of kdstats, the digest of the
run and its identity; a file without it is foreign and is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdstats._version import __version__
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.json_text import parse_json
from kdstats.records import schema as sc

_VIEW = pa.dictionary(pa.int8(), pa.string())
_TYPES = {
    "int8": pa.int8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "view": _VIEW,
}


def arrow_type(column: sc.Column, *, classes: int = 0, dtype: str | None = None) -> Any:
    """Arrow type of ``column``; ``dtype`` picks one of the types it may also have."""
    if column.dtype == "vector":
        return pa.list_(_TYPES[dtype or "float32"], classes)
    return _TYPES[dtype if dtype in column.also else column.dtype]


def arrow_schema(
    table_name: str,
    names: tuple[str, ...],
    *,
    classes: int = 0,
    dtype: str | None = None,
    header: Header | None = None,
) -> Any:
    """Arrow schema of the columns ``names``, with the header as metadata.

    Args:
        table_name: One of the four tables.
        names: Columns in file order.
        classes: Length C of ``vector`` columns.
        dtype: Type of the measured columns where the schema allows a choice.
        header: What the file says about itself.
    """
    kind = sc.table(table_name)
    fields = []
    for name in names:
        column = kind[name]
        measured = column.dtype == "float32" and column.also
        fields.append(
            pa.field(
                name, arrow_type(column, classes=classes, dtype=dtype if measured else None), column.nullable
            )
        )
    return pa.schema(fields, metadata=header.encode() if header else None)


@dataclass(frozen=True, slots=True)
class Header:
    """What a Parquet file of kdstats says about itself.

    Attributes:
        version: Schema version, for instance ``kdstats/samples/1``.
        digest: Digest of the run, empty for tables of a study.
        meta: Identity and settings of the run, plain JSON.
        kdstats: Version that wrote the file.
    """

    version: str
    digest: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    kdstats: str = __version__

    def encode(self) -> dict[bytes, bytes]:
        """The header as Parquet metadata."""
        meta = json.dumps(self.meta, sort_keys=True, ensure_ascii=False)
        pairs = {"schema": self.version, "version": self.kdstats, "digest": self.digest, "meta": meta}
        return {f"kdstats.{key}".encode(): value.encode() for key, value in pairs.items()}


def _read_header(path: Path, metadata: Mapping[bytes, bytes] | None, table: sc.Table) -> Header:
    found = metadata or {}
    if b"kdstats.schema" not in found:
        raise MissingError(f"{path} is Parquet but not of kdstats: its metadata has no 'kdstats.schema'.")
    version = found[b"kdstats.schema"].decode(errors="replace")
    written = found.get(b"kdstats.version", b"?").decode(errors="replace")
    if version != table.version:
        raise MissingError(
            f"{path} has schema {version!r} (written by kdstats {written}); this kdstats {__version__} "
            f"reads {table.version!r}."
        )
    try:
        meta = parse_json(found.get(b"kdstats.meta", b"{}"))
    except ValueError as error:
        raise MissingError(f"{path}: its metadata is damaged: {error}.") from error
    return Header(version, found.get(b"kdstats.digest", b"").decode(errors="replace"), meta, written)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever pyarrow raises on reading into a ``MissingError`` that names the file.

    Only what is wrong with the content is a reason to record a part again: a file that the system does not give out may
    be whole.
    """
    try:
        yield
    except MissingError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"no file {path}.") from error
    except UnicodeEncodeError as error:
        raise MissingError(
            f"{path} cannot be opened: the name of its folder is not UTF-8. Rename the folder."
        ) from error
    except MemoryError as error:  # pyarrow's own is one as well
        raise MissingError(
            f"{path} does not fit into memory ({_first_line(error)}). Read it where there is more, or distrust it."
        ) from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # pyarrow's, of the content, have none
            raise MissingError(f"{path} cannot be read: {error.strerror or _first_line(error)}.") from error
        raise MissingError(
            f"{path} is truncated, damaged or no Parquet file ({_first_line(error)}). Delete it and record that part "
            "again."
        ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def open_part(path: Path, table_name: str) -> Iterator[tuple[Any, Header]]:
    """Open a Parquet file of ``table_name`` with its header checked; page checksums are verified on reading.

    Raises:
        MissingError: The file is absent, truncated, damaged, foreign or of another schema version.
    """
    kind = sc.table(table_name)
    with naming(path):
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device has no end
            raise MissingError(f"{path} is no regular file.")
        # Buffering ahead keeps the raw bytes of every row group until the file is closed.
        file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    with file:
        with naming(path):
            metadata = file.schema_arrow.metadata
        header = _read_header(path, metadata, kind)
        try:
            sc.check(table_name, file.schema_arrow.names)
        except (MissingError, UsageError) as error:
            raise MissingError(f"{path}: {error}") from error
        yield file, header


def view_array(codes: np.ndarray[Any, Any]) -> Any:
    """Dictionary array of views from their codes (0 original, 1 augmented)."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(sc.VIEWS))


def to_arrow(name: str, values: Any, column: sc.Column | None) -> Any:
    """One column as an Arrow array of its type; NaN and ``None`` become null.

    Raises:
        CheckError: A column that must be filled holds nulls.
        UsageError: The values do not fit the type.
    """
    try:
        if column is not None and column.dtype == "vector":
            block = np.stack([np.asarray(row) for row in values])
            block = block if block.dtype == np.float64 else block.astype(np.float32)
            array = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
        elif column is not None and column.dtype == "view":
            codes = [v if isinstance(v, int | np.integer) else sc.view_code(v) for v in values]
            array = view_array(np.asarray(codes, np.int8))
        else:
            kept = str(getattr(values, "dtype", ""))
            wanted = None if column is None else arrow_type(column, dtype=kept)
            array = pa.array(values, type=wanted, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"column {name!r} cannot be stored as {column and column.dtype}: {error}."
        ) from error
    if column is not None and not column.nullable and array.null_count:
        raise CheckError(f"column {name!r} holds {array.null_count} missing values; each row needs one.")
    return array
