"""One Parquet file, streamed or whole, that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kdstats.errors import UsageError
from kdstats.records import schema as sc
from kdstats.records.arrow import Header, to_arrow
from kdstats.records.atomic import AtomicFile, write_error

GROUP_ROWS = 131_072
"""Rows in a row group: what a reader holds at least of each column it asks for."""

# Few distinct values in long runs; everything else is all but incompressible noise.
_DICTIONARY = ("view", "epoch", "step", "slot", "label", "n", "scheme", "teacher", "student", "dataset")


class PartWriter:
    """Streams record batches into one Parquet file that appears on :meth:`commit`.

    Rows are held until a row group is full, so memory stays bounded however long the part is.

    Raises:
        KdstatsError: The file cannot be written; the temporary file is gone and the target untouched.
    """

    def __init__(self, path: Path, schema: Any, *, group_rows: int = GROUP_ROWS) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._group_rows = group_rows
        self._held: list[Any] = []
        self._held_rows = 0
        self._file = AtomicFile(path)
        try:
            self._writer = pq.ParquetWriter(
                self._file.file,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name in schema.names if name in _DICTIONARY],
                write_page_checksum=True,
            )
        except BaseException:
            self._file.abort()
            raise

    def write(self, batch: Any) -> None:
        """Add a record batch."""
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._held_rows >= self._group_rows:
            self._guard(self._flush)

    def finish(self) -> None:
        """Write everything out, so that only the move is left; lets several files appear together."""
        self._guard(self._flush)
        self._guard(self._writer.close)
        self._file.finish()

    def commit(self, target: Path | None = None) -> int:
        """Finish the file and move it into place, or to ``target`` on the same disk; returns its row count."""
        self.finish()
        self._file.commit(target)
        return self.rows

    def abort(self) -> None:
        """Drop the part; the target is as it was."""
        with contextlib.suppress(Exception):  # closing writes a footer, which may fail again
            self._writer.close()
        self._writer.is_open = False  # or its finaliser would try once more on a closed file
        self._file.abort()

    def _flush(self) -> None:
        if self._held:
            table = pa.Table.from_batches(self._held, self.schema)
            self._held, self._held_rows = [], 0
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.abort()
            raise write_error(self.path, error) from error
        except BaseException:
            self.abort()
            raise


def write_table(
    path: str | Path,
    table_name: str,
    data: Any,
    *,
    digest: str = "",
    meta: Mapping[str, Any] | None = None,
) -> int:
    """Write a whole table at once, checked against its schema; columns beyond the schema are kept.

    Args:
        path: Target file, replaced in one step.
        table_name: ``samples``, ``pools``, ``runs`` or ``study``.
        data: A pandas frame or a mapping of column name to values; ``view`` as names or codes, ``mean_prob``
            as a matrix of rows × C.
        digest: Digest of the run, for tables of a run.
        meta: Plain JSON kept in the file's header.

    Returns:
        The number of rows.

    Raises:
        MissingError: Required columns are missing.
        CheckError: A column that must be filled has missing values.
        UsageError: Values do not fit their type, or columns differ in length.
        KdstatsError: The file cannot be written.
    """
    kind = sc.table(table_name)
    present = [str(name) for name in data]
    sc.check(table_name, present)
    order = [name for name in kind.names if name in present]
    order += [name for name in present if name not in kind.names]
    arrays = [to_arrow(name, data[name], kind[name] if name in kind.names else None) for name in order]
    lengths = {name: len(array) for name, array in zip(order, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"columns of table {table_name!r} differ in length: {lengths}.")
    header = Header(kind.version, digest, dict(meta or {}))
    table = pa.table(dict(zip(order, arrays, strict=True))).replace_schema_metadata(header.encode())
    writer = PartWriter(Path(path), table.schema)
    for batch in table.to_batches(max_chunksize=GROUP_ROWS):
        writer.write(batch)
    return writer.commit()
