"""Writing tables: a Parquet part, the merged pools of a run, and ``done.json`` last of all.

Every file appears whole or not at all (:mod:`kdstats.records.atomic`). ``done.json`` lists size, SHA-256 and
row count of every part as read back from the disk, so that a later reader can tell a complete run from one
that was cut short or has changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kdstats._version import __version__
from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.records import schema as sc
from kdstats.records.arrow import Header, naming, open_part, to_arrow
from kdstats.records.atomic import AtomicFile, clean_temps, write_error, write_json_atomic
from kdstats.records.paths import RunPaths, epoch_parts

__all__ = [
    "Part",
    "PartWriter",
    "clean_temps",
    "is_complete",
    "merge_pools",
    "read_done",
    "verify_done",
    "write_done",
    "write_json_atomic",
    "write_table",
]

DONE_VERSION = "kdstats/done/1"
GROUP_ROWS = 131_072
"""Rows in a row group: what a reader holds at least of each column it asks for."""

# Few distinct values in long runs; everything else is all but incompressible noise.
_DICTIONARY = ("view", "epoch", "step", "slot", "label", "n", "scheme", "teacher", "student", "dataset")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a run as ``done.json`` lists it; ``name`` is relative, ``rows`` ``None`` where it has none."""

    name: str
    bytes: int
    sha256: str
    rows: int | None


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

    def commit(self) -> int:
        """Finish the file and move it into place; returns its row count."""
        self._guard(self._flush)
        self._guard(self._writer.close)
        self._file.commit()
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
            self._writer.write_table(table, row_group_size=self._group_rows)

    def _guard(self, action: Any) -> None:
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
    for batch in table.to_batches():
        writer.write(batch)
    return writer.commit()


def merge_pools(paths: RunPaths) -> int | None:
    """Merge the per-epoch pool parts into ``pools.parquet`` in order of epochs, then remove them.

    A part replaces rows of its epoch that an earlier merge left in the file. Safe to repeat after a kill at any
    moment. Returns the row count, or ``None`` when there was nothing to merge.
    """
    parts = epoch_parts(paths.pool_parts)
    if not parts:
        return None
    tables: dict[int, list[Any]] = {}
    schema = None
    for path in ([paths.pools] if paths.pools.exists() else []) + [path for _, path in parts]:
        fresh: dict[int, list[Any]] = {}
        with open_part(path, "pools") as (file, _), naming(path):
            schema = file.schema_arrow
            for batch in file.iter_batches(GROUP_ROWS):
                table = pa.Table.from_batches([batch])
                for epoch in table["epoch"].unique().to_pylist():
                    fresh.setdefault(epoch, []).append(table.filter(pa.compute.equal(table["epoch"], epoch)))
        tables.update(fresh)
    writer = PartWriter(paths.pools, schema)
    for epoch in sorted(tables):
        for table in tables[epoch]:
            for batch in table.cast(schema).to_batches():
                writer.write(batch)
    rows = writer.commit()
    shutil.rmtree(paths.pool_parts, ignore_errors=True)
    return rows


def _describe(root: Path, path: Path) -> Part:
    name = path.relative_to(root).as_posix()
    try:
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        rows = None
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                rows = sum(1 for _ in file)
    except FileNotFoundError as error:
        raise MissingError(f"no file {path}.") from error
    if path.suffix == ".parquet":
        with open_part(path, "pools" if name == "pools.parquet" else "samples") as (parquet, _):
            rows = parquet.metadata.num_rows
    return Part(name, size, sha, rows)


def _present(paths: RunPaths) -> list[Path]:
    single = (paths.run_json, paths.metrics, paths.pools, paths.last, paths.best)
    return [path for _, path in epoch_parts(paths.samples)] + [path for path in single if path.exists()]


def write_done(paths: RunPaths, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Declare the run complete: write ``done.json`` with hash, size and row count of every part on disk.

    Call it last, after the weights and the metrics are written. ``state.pt`` and ``log.txt`` are not parts:
    one may be deleted afterwards, the other goes on.

    Args:
        paths: The run.
        extra: Further plain JSON to keep in the file, under ``extra``.

    Returns:
        What was written.

    Raises:
        MissingError: A part is damaged.
        KdstatsError: The file cannot be written.
    """
    merge_pools(paths)
    parts = [_describe(paths.root, path) for path in _present(paths)]
    done = {
        "schema": DONE_VERSION,
        "kdstats": __version__,
        "parts": {part.name: {k: v for k, v in asdict(part).items() if k != "name"} for part in parts},
        "extra": dict(extra or {}),
    }
    write_json_atomic(paths.done, done)
    return done


def read_done(paths: RunPaths) -> dict[str, Any]:
    """The content of ``done.json``; raises ``MissingError`` if it is absent, damaged or of another version."""
    try:
        done = json.loads(paths.done.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{paths.root} is incomplete: it has no done.json.") from error
    except (OSError, ValueError) as error:
        raise MissingError(f"{paths.done} is damaged: {error}.") from error
    if (
        not isinstance(done, dict)
        or done.get("schema") != DONE_VERSION
        or not isinstance(done.get("parts"), dict)
    ):
        found = done.get("schema") if isinstance(done, dict) else None
        raise MissingError(f"{paths.done} has schema {found!r}; this kdstats reads {DONE_VERSION!r}.")
    return done


def verify_done(paths: RunPaths, *, quick: bool = False) -> list[str]:
    """What is wrong with a run that says it is complete; empty when all is as ``done.json`` says.

    Args:
        paths: The run.
        quick: Compare names and sizes only, without reading the parts.
    """
    try:
        listed: dict[str, Any] = read_done(paths)["parts"]
    except MissingError as error:
        return [str(error)]
    problems = []
    for name, said in listed.items():
        path = paths.root / name
        if not path.is_file():
            problems.append(f"{path} is missing")
            continue
        size = path.stat().st_size
        if size != said["bytes"]:
            problems.append(f"{path} has {size} bytes, done.json says {said['bytes']}")
        elif not quick:
            problems += _compare(paths, path, said)
    on_disk = {path.relative_to(paths.root).as_posix(): path for _, path in epoch_parts(paths.samples)}
    problems += [f"{path} is not listed in done.json" for name, path in on_disk.items() if name not in listed]
    return problems


def _compare(paths: RunPaths, path: Path, said: Mapping[str, Any]) -> list[str]:
    try:
        found = _describe(paths.root, path)
    except KdstatsError as error:
        return [str(error)]
    problems = []
    if found.sha256 != said["sha256"]:
        problems.append(f"{path} has another hash than done.json says: it was changed or damaged")
    if found.rows != said["rows"]:
        problems.append(f"{path} has {found.rows} rows, done.json says {said['rows']}")
    return problems


def is_complete(paths: RunPaths) -> bool:
    """Whether the run has a ``done.json`` and every part has the size listed there."""
    return not verify_done(paths, quick=True)
