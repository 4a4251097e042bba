"""Completing a run: the pools of its epochs merged into one file, and ``done.json`` last of all.

Every file appears whole or not at all (:mod:`kdstats.records.atomic`). ``done.json`` lists size, SHA-256 and
row count of every part as read back from the disk, so that a later reader can tell a complete run from one
that was cut short or has changed since.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdstats._version import __version__
from kdstats.errors import KdstatsError, MissingError
from kdstats.json_text import parse_json
from kdstats.records.arrow import naming, open_part
from kdstats.records.atomic import clean_temps, write_json_atomic
from kdstats.records.part import GROUP_ROWS, PartWriter, write_table
from kdstats.records.paths import RunPaths, epoch_names, epoch_parts
from kdstats.small_file import read_text_of

__all__ = [
    "GROUP_ROWS",
    "Part",
    "PartWriter",
    "clean_temps",
    "is_complete",
    "merge_pools",
    "read_done",
    "recorded_pools",
    "split_pools",
    "verify_done",
    "write_done",
    "write_json_atomic",
    "write_table",
]

DONE_VERSION = "kdstats/done/1"
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBADF, errno.ENAMETOOLONG}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a run as ``done.json`` lists it; ``rows`` is ``None`` for files without rows."""

    name: str
    bytes: int
    sha256: str
    rows: int | None


def split_pools(paths: RunPaths) -> None:
    """Take ``pools.parquet`` apart by epochs, leaving the parts that are there and the file itself."""
    kept = {epoch for epoch, _ in epoch_parts(paths.pool_parts)}
    writer: PartWriter | None = None
    current: int | None = None
    with open_part(paths.pools, "pools") as (file, _):
        try:
            for batch in _batches(file, paths.pools):
                epochs = batch["epoch"].to_numpy()
                cuts = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), len(epochs)]
                for start, stop in itertools.pairwise(cuts):
                    epoch = int(epochs[start])
                    if epoch != current:
                        if writer is not None:
                            writer.commit()
                        path = paths.pool_part(epoch)
                        writer = None if epoch in kept else PartWriter(path, file.schema_arrow)
                        current = epoch
                    if writer is not None:
                        writer.write(batch.slice(start, stop - start))
            if writer is not None:
                writer.commit()
        except BaseException:
            if writer is not None:
                writer.abort()
            raise


def _batches(file: Any, path: Path) -> Iterator[Any]:
    with naming(path):
        yield from file.iter_batches(16_384)


def recorded_pools(paths: RunPaths) -> list[tuple[int, Path]]:
    """The pool parts of recorded epochs; one whose ``samples`` never appeared is left out."""
    return [
        (epoch, path) for epoch, path in epoch_parts(paths.pool_parts) if paths.sample_part(epoch).exists()
    ]


def merge_pools(paths: RunPaths) -> int | None:
    """Merge the per-epoch pool parts into ``pools.parquet`` in order of epochs, then remove them.

    Memory stays bounded, and it is safe to repeat after a kill at any moment: parts that an earlier merge had
    removed already come back out of the file. Returns the row count, or ``None`` if there was nothing to
    merge.
    """
    if not epoch_parts(paths.pool_parts):
        return None
    if paths.pools.exists():
        split_pools(paths)
    writer: PartWriter | None = None
    for _, path in recorded_pools(paths):
        with open_part(path, "pools") as (file, _):
            if writer is None:
                writer = PartWriter(paths.pools, file.schema_arrow)
            try:
                for batch in _batches(file, path):
                    writer.write(batch)
            except BaseException:
                writer.abort()
                raise
    rows = writer.commit() if writer is not None else 0
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
    single = (paths.run_json, paths.metrics, paths.distances, paths.pools, paths.last, paths.best)
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
    """The content of ``done.json``; raises ``MissingError`` if it is absent, damaged or foreign."""
    if not os.path.lexists(paths.done):
        raise MissingError(f"{paths.root} is incomplete: it has no done.json.")
    try:
        done = parse_json(read_text_of(paths.done, "done.json"))
    except ValueError as error:
        raise MissingError(f"{paths.done} is damaged: {error}.") from error
    if (
        not isinstance(done, dict)
        or done.get("schema") != DONE_VERSION
        or not isinstance(done.get("parts"), dict)
    ):
        found = done.get("schema") if isinstance(done, dict) else None
        raise MissingError(f"{paths.done} has schema {found!r}; this kdstats reads {DONE_VERSION!r}.")
    return done


def verify_done(paths: RunPaths, *, quick: bool = False, done: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a run that says it is complete; empty when all is as ``done.json`` says.

    Args:
        paths: The run.
        quick: Compare names and sizes only, without reading the parts.
        done: What :func:`read_done` gave, where the caller has read it already.
    """
    try:
        listed: dict[str, Any] = (read_done(paths) if done is None else done)["parts"]
        if not all(
            isinstance(said, dict) and {"bytes", "sha256", "rows"} <= set(said) for said in listed.values()
        ):
            return [f"{paths.done} lists parts without their sizes: it was not written by kdstats"]
    except MissingError as error:
        return [str(error)]
    except (KeyError, TypeError, AttributeError):
        return [f"{paths.done} lists no parts: it was not written by kdstats"]
    problems = []
    # Text in place of paths: a status looks at every part of thousands of runs.
    root = str(paths.root)
    for name, said in listed.items():
        size = _size_of(os.path.join(root, name))
        if size is None:
            problems.append(f"{paths.root / name} is missing")
        elif size != said["bytes"]:
            problems.append(f"{paths.root / name} has {size} bytes, done.json says {said['bytes']}")
        elif not quick:
            problems += _compare(paths, paths.root / name, said)
    problems += [
        f"{paths.samples / name} is not listed in done.json"
        for _, name in epoch_names(os.path.join(root, "samples"))
        if f"samples/{name}" not in listed
    ]
    return problems


def _size_of(file: str) -> int | None:
    """Bytes of a file; None where there is none of that name. What cannot be looked at raises ``OSError``."""
    try:
        found = os.stat(file)
    except ValueError:  # no possible name of a file
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    return found.st_size if stat.S_ISREG(found.st_mode) else None


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
