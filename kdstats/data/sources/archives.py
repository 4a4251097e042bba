"""Zip and tar archives as trees: read in place, nothing is ever extracted, links are never followed."""

from __future__ import annotations

import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISLNK
from typing import Protocol, Self

from kdstats.data.messages import printable, reason
from kdstats.data.sources.trees import check_name, check_size, join, litter
from kdstats.errors import MissingError

# All members together, uncompressed: the full Tiny ImageNet is a quarter of a gigabyte.
TOTAL_LIMIT = 4 << 30
_BLOCK = 512
_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_PACKING = {9: "deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma", 93: "zstd"}


class _Reader(Protocol):
    def members(self) -> Iterator[tuple[str, int | None]]:
        """Name and size in bytes of every member; the size of a folder is None."""

    def read(self, index: int) -> bytes:
        """The content of the member that came as number ``index``."""

    def close(self) -> None: ...


class Archive:
    """The tree inside an archive; a context manager, because it holds the file open. The index is made once.

    Raises:
        MissingError: Damaged or cut short; encrypted; a member that is a link, leaves the archive, promises an
            absurd size, or has the name of another.
    """

    def __init__(self, path: Path) -> None:
        self._path = printable(path.absolute())
        self._member: dict[str, int] = {}
        self._folders: dict[str, set[str]] = {}
        self._files: dict[str, list[str]] = {}
        self._total = 0
        self._reader: _Reader = (_Zip if path.suffix.lower() == ".zip" else _Tar)(path, self._path)
        try:
            for index, (name, size) in enumerate(self._reader.members()):
                self._add(index, name, size)
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def _add(self, index: int, name: str, size: int | None) -> None:
        where = self.where(name)
        parts = _parts(name, where)
        if any(litter(part) for part in parts):
            return
        for depth, part in enumerate(parts if size is None else parts[:-1]):
            self._folders.setdefault("/".join(parts[:depth]), set()).add(part)
        if size is None or not parts:
            return
        check_size(size, where)
        self._total += size
        if self._total > TOTAL_LIMIT:
            raise MissingError(
                f"{self._path} promises more than {TOTAL_LIMIT >> 30} GiB; it is no data set of small images"
            )
        at, last = "/".join(parts[:-1]), parts[-1]
        if join(at, last) in self._member:
            raise MissingError(f"{where}: the archive holds two files of this name")
        self._member[join(at, last)] = index
        self._files.setdefault(at, []).append(last)

    def folders(self, at: str) -> list[str]:
        return sorted(self._folders.get(at, ()))

    def files(self, at: str) -> list[str]:
        return sorted(self._files.get(at, ()))

    def read(self, file: str) -> bytes:
        if file not in self._member:
            raise MissingError(f"no {file} in {self._path}")
        try:
            return self._reader.read(self._member[file])
        except MissingError:
            raise
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise MissingError(f"{self.where(file)} cannot be read: {reason(error)}") from None

    def where(self, file: str) -> str:
        return f"{self._path}:{printable(file)}" if file else self._path


class _Zip:
    """Members of a zip file: stored or deflated, as every tool writes them."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise MissingError(f"{name} is not a readable zip file: {reason(error)}") from None
        self._infos = self._zip.infolist()

    def members(self) -> Iterator[tuple[str, int | None]]:
        for info in self._infos:
            # `filename` has been cut at a zero byte.
            where = f"{self._name}:{printable(info.orig_filename)}"
            if S_ISLNK(info.external_attr >> 16):
                raise _link(where)
            if info.flag_bits & 1:
                raise MissingError(f"{where} is encrypted; unpack the archive yourself")
            if info.compress_type not in _PACKING:
                kind = _OTHER_PACKING.get(info.compress_type, f"method {info.compress_type}")
                raise MissingError(f"{where} is packed by {kind}; only stored and deflated members are read")
            yield info.orig_filename, None if info.is_dir() else info.file_size

    def read(self, index: int) -> bytes:
        with self._zip.open(self._infos[index]) as stream:  # no more than promised; the checksum is compared
            return stream.read()

    def close(self) -> None:
        self._zip.close()


class _Tar:
    """Members of an uncompressed tar file, read by their offsets."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._at: list[tuple[int, int]] = []
        try:
            self._stream = path.open("rb")
        except OSError as error:
            raise MissingError(f"{name} cannot be read: {error.strerror}") from None
        try:
            self._tar = tarfile.open(fileobj=self._stream, mode="r:")  # noqa: SIM115 - closed in close()
        except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
            self._stream.close()
            raise MissingError(f"{name} is not a readable tar file: {reason(error)}") from None

    def members(self) -> Iterator[tuple[str, int | None]]:
        end = 0
        for member in self._headers():
            where = f"{self._name}:{printable(member.name)}"
            # A negative size would send the library back to where it came from, for ever.
            if member.size < 0 or member.offset_data < end:
                raise MissingError(f"{where} has a damaged header")
            if member.issym() or member.islnk():
                raise _link(where)
            if not member.isdir() and (not member.isreg() or member.issparse()):
                raise MissingError(f"{where} is neither a plain file nor a folder")
            size = 0 if member.isdir() else member.size
            end = member.offset_data + -(-size // _BLOCK) * _BLOCK
            self._at.append((member.offset_data, size))
            yield member.name, None if member.isdir() else size
        # The library takes a cut or damaged header for the end; a quiet subset must not come of it.
        if self._bytes(end, _BLOCK) != bytes(_BLOCK):
            raise MissingError(f"{self._name} is cut short or damaged at byte {end}")

    def _headers(self) -> Iterator[tarfile.TarInfo]:
        members = iter(self._tar)
        while True:
            try:
                member = next(members, None)
            except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
                raise MissingError(f"{self._name} is cut short or damaged: {reason(error)}") from None
            if member is None:
                return
            yield member

    def read(self, index: int) -> bytes:
        offset, size = self._at[index]
        data = self._bytes(offset, size)
        if len(data) != size:
            raise MissingError(f"{self._name} is cut short at byte {offset + len(data)}")
        return data

    def _bytes(self, offset: int, size: int) -> bytes:
        with self._lock:
            self._stream.seek(offset, os.SEEK_SET)
            return self._stream.read(size)

    def close(self) -> None:
        self._tar.close()
        self._stream.close()


def _parts(name: str, where: str) -> list[str]:
    """The parts of a member's name; a leading ``./`` and a final ``/`` mean nothing."""
    check_name(name, where)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name[:2]:
        raise MissingError(f"{where}: a name that leads out of the archive; such archives are not read")
    return parts


def _link(where: str) -> MissingError:
    return MissingError(
        f"{where} is a link; links inside archives are not followed: unpack the archive yourself"
    )
