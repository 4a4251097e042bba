"""Files that appear under their name only when they are whole.

A file is written under a temporary name in the folder of its target, flushed to the disk, and moved over the
target in one step. Whatever happens before that step, the target is as it was. A process that is killed
leaves a temporary file, which no reader looks at and :func:`clean_temps` removes once its process is gone.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from kdstats.errors import KdstatsError, UsageError

_TEMP = re.compile(r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9-]*)-(?P<pid>\d+)-(?P<token>[0-9a-f]{8})-\d+\.tmp")
_counter = itertools.count()
_token: tuple[int, str] = (0, "")


def _process() -> tuple[str, int, str]:
    """Host, process id and a token of this process; the token tells a reused process id from its owner."""
    global _token
    pid = os.getpid()
    if _token[0] != pid:  # first use, or the child of a fork
        _token = (pid, secrets.token_hex(4))
    host = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:32]
    return host, pid, _token[1]


def write_error(path: Path, error: OSError) -> KdstatsError:
    """The error for a file that could not be written: which one, why, and what to do."""
    full = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
    hint = "free some space" if error.errno in full else "mend that"
    why = error.strerror or str(error)
    return KdstatsError(
        f"cannot write {path}: {why}. Nothing half-written was left and everything complete is kept; "
        f"{hint} and run the same command again."
    )


class AtomicFile:
    """A binary file that replaces ``path`` on :meth:`commit` and leaves no trace on :meth:`abort`.

    As a context manager it commits at a clean end of the block and aborts otherwise.

    Raises:
        KdstatsError: The disk is full, the folder cannot be written …; the temporary file is gone by then.
    """

    def __init__(self, path: Path) -> None:
        host, pid, token = _process()
        self.path = path
        self.temp = path.with_name(f".{path.name}.{host}-{pid}-{token}-{next(_counter)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: IO[bytes] = self.temp.open("xb")
        except OSError as error:
            raise write_error(path, error) from error

    def finish(self) -> None:
        """Flush to the disk; all that can fail for want of space has happened afterwards."""
        if self.file.closed:
            return
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        except OSError as error:
            self.abort()
            raise write_error(self.path, error) from error

    def commit(self, target: Path | None = None) -> None:
        """Put the file in the place of ``path``, or of ``target`` on the same disk."""
        self.finish()
        if target is not None:
            self.path = target
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.temp, self.path)
        except OSError as error:
            self.abort()
            raise write_error(self.path, error) from error
        _sync_folder(self.path.parent)

    def abort(self) -> None:
        """Drop what was written. Safe to call at any time and more than once."""
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            self.file.close()
        with contextlib.suppress(OSError):
            self.temp.unlink(missing_ok=True)

    def __enter__(self) -> IO[bytes]:
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
            return
        self.abort()
        if isinstance(error, OSError) and not isinstance(error, KdstatsError):
            raise write_error(self.path, error) from error


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; a file system without that notion is left alone."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all; raises ``KdstatsError`` if it cannot be written."""
    with AtomicFile(path) as file:
        file.write(data)


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented UTF-8 JSON, whole or not at all.

    Raises:
        UsageError: ``value`` holds something that JSON has no form for, NaN and infinities included.
        KdstatsError: The file cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path.name} cannot hold this value as JSON: {error}.") from error
    write_bytes_atomic(path, (text + "\n").encode())


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 means Ctrl-C there; better an old file than a stopped process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def clean_temps(root: Path) -> list[Path]:
    """Remove the temporary files under ``root`` whose processes on this machine are gone.

    Files of live processes and of other machines stay. Returns what was removed.
    """
    host, own, token = _process()
    removed = []
    for path in sorted(root.rglob(".*.tmp")):
        match = _TEMP.fullmatch(path.name)
        if not match or match["host"] != host:
            continue
        pid = int(match["pid"])
        stale = match["token"] != token if pid == own else not _alive(pid)
        if stale:
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed
