"""The small tables, ``runs`` and ``study``, whole in memory: sizes and types are looked at before that.

A file of some hundred kilobytes can stand for any number of equal rows or equal texts, so neither its own size nor that
of its pages says what it takes in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kdstats.errors import MissingError
from kdstats.records import schema as sc
from kdstats.records.arrow import naming, open_part

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 1_000_000
MOST_CELLS = 100_000_000
MOST_BYTES = 1 << 30
_ANEW = "have the study write its tables anew"
_ADVICE = f"a study has one row per trained student, so kdstats did not write this; {_ANEW}"
_KINDS = {
    "string": "text",
    "bool": "true or false",
    "int32": "whole numbers",
    "int64": "whole numbers",
    "float64": "numbers",
}


def read_frame(path: Path, table_name: str) -> pd.DataFrame:
    """A Parquet file of ``runs`` or ``study``.

    Raises:
        MissingError: The file is absent, damaged or foreign, would not fit into memory, lacks columns, or a column has
            another type, or no value where each row needs one.
    """
    kind = sc.table(table_name)
    with open_part(path, table_name) as (file, _), naming(path):
        _check_size(file.metadata, path)
        for given in file.schema_arrow:
            _check_type(given, kind, path)
        names = [given.name for given in file.schema_arrow if _is_text(given.type)]
        # As dictionaries, equal texts take the memory of one.
        with pq.ParquetFile(
            path,
            metadata=file.metadata,
            read_dictionary=names,
            pre_buffer=False,
            page_checksum_verification=True,
        ) as again:
            table = again.read()
        table.validate(full=True)
        size = sum(_text_bytes(table.column(name)) for name in names)
        if size > MOST_BYTES:
            raise MissingError(f"{path} holds {size / 2**30:.1f} GiB of text; {_ADVICE}.")
        for at, given in enumerate(table.schema):
            column = table.column(at)
            own = kind[given.name] if given.name in kind.names else None
            if own is not None and not own.nullable and column.null_count:
                raise MissingError(
                    f"{path}: column {given.name!r} lacks a value in {column.null_count} of {len(column)} rows; {_ANEW}."
                )
            wanted = _plain_type(given.type, own)
            table = table.set_column(at, given.name, column.cast(wanted))
        # What pandas wrote beside the columns may rename or drop them.
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _check_size(metadata: Any, path: Path) -> None:
    rows, columns = metadata.num_rows, metadata.num_columns
    if rows > MOST_ROWS or rows * columns > MOST_CELLS:
        raise MissingError(f"{path} has {rows:,} rows of {columns:,} columns; {_ADVICE}.")
    size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    if size > MOST_BYTES:
        raise MissingError(f"{path} takes {size / 2**30:.1f} GiB unpacked; {_ADVICE}.")


def _check_type(given: Any, kind: sc.Table, path: Path) -> None:
    """Refuses a column of another type than the schema's, or one of the file's own that is not plain."""
    found, types = given.type, pa.types
    if given.name not in kind.names:
        plain = _is_text(found) or types.is_integer(found) or types.is_floating(found) or types.is_null(found)
        if not (plain or types.is_boolean(found) or types.is_temporal(found)):
            raise MissingError(f"{path}: column {given.name!r} holds {found}, not plain values; {_ANEW}.")
        return
    column = kind[given.name]
    # pandas keeps whole numbers with gaps as floating ones, and a column of gaps alone without a type.
    fits = {
        "string": _is_text(found),
        "bool": types.is_boolean(found),
        "int32": types.is_integer(found) or (column.nullable and types.is_floating(found)),
        "float64": types.is_floating(found) or types.is_integer(found),
    }[{"int64": "int32"}.get(column.dtype, column.dtype)]
    if not fits and not (column.nullable and types.is_null(found)):
        raise MissingError(
            f"{path}: column {given.name!r} holds {found}, not {_KINDS[column.dtype]}; {_ANEW}."
        )


def _is_text(kind: Any) -> bool:
    types = pa.types
    return bool(
        _is_text(kind.value_type)
        if types.is_dictionary(kind)
        else types.is_string(kind) or types.is_large_string(kind)
    )


def _text_bytes(column: Any) -> int:
    """Bytes of a text column that was read as dictionaries, once every row has its own text."""
    total = 0
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        else:
            total += chunk.nbytes
    return int(total)


def _plain_type(found: Any, column: sc.Column | None) -> Any:
    if _is_text(found):
        return pa.string()
    if column is not None and pa.types.is_null(found):
        return pa.string() if column.dtype == "string" else pa.float64()
    return found
