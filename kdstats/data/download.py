"""Data sets from their publishers: only when asked for, resumed after an interruption, checked before use."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdstats.errors import MissingError, UsageError, unknown
from kdstats.offline import refuse

Progress = Callable[[int, int], None]
_CHUNK = 1 << 20
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Archive:
    """A published archive.

    Attributes:
        file: Its name.
        urls: Where it lies, tried in order.
        size: Bytes.
        md5: Of the whole, as its users have published it.
        unpacks_to: Folder that unpacking leaves; empty for an archive that is read as it is.
    """

    file: str
    urls: tuple[str, ...]
    size: int
    md5: str
    unpacks_to: str = ""


def _cifar(classes: int, size: int, md5: str, folder: str) -> Archive:
    file = f"cifar-{classes}-python.tar.gz"
    hosts = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
    return Archive(file, tuple(f"{host}/{file}" for host in hosts), size, md5, folder)


ARCHIVES = {
    "cifar10": _cifar(10, 170_498_071, "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),
    "cifar100": _cifar(100, 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python"),
    "tiny-imagenet": Archive(
        "tiny-imagenet-200.zip",
        (
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
        ),
        248_100_043,
        "90528d7ca1a48142e341f4ef8d21d0de",
    ),
}


def archive_of(name: str) -> Archive:
    """The archive of a data set; raises ``UsageError`` for sets that are not downloaded."""
    if name not in ARCHIVES:
        raise unknown("data set that can be downloaded", name, ARCHIVES)
    return ARCHIVES[name]


def download(archive: Archive, folder: Path, progress: Progress | None = None) -> Path:
    """Puts ``archive`` into ``folder`` and unpacks it where it must be; what is there already is not fetched again.

    An interrupted download goes on where it stopped. Nothing is unpacked before its checksum is right.

    Args:
        archive: What to fetch.
        folder: Where to; made if it is not there.
        progress: Called with (bytes so far, bytes in all).

    Returns:
        What to name with ``--data``: ``folder`` for unpacked sets, the archive itself otherwise.

    Raises:
        UsageError: ``folder`` is a file.
        MissingError: Downloads are switched off, no source could be reached, the checksum is wrong, or the disk is
            full.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder to download to")
    target = folder / archive.file
    done = folder / archive.unpacks_to if archive.unpacks_to else target
    if archive.unpacks_to and done.is_dir():
        return folder
    if not _whole(target, archive):
        refuse(archive.file, f"get it from {archive.urls[0]} and put it into {folder.absolute()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(archive, target, progress)
        except MissingError:  # is an OSError too
            raise
        except OSError as error:
            raise MissingError(f"{target} cannot be written: {error.strerror or error}") from None
    if not archive.unpacks_to:
        return target
    _unpack(target, folder, archive.unpacks_to)
    return folder


def _whole(file: Path, archive: Archive) -> bool:
    return file.is_file() and file.stat().st_size == archive.size and _md5(file) == archive.md5


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(archive: Archive, target: Path, progress: Progress | None) -> None:
    part = target.with_name(target.name + ".part")
    failures = []
    for url in archive.urls:
        try:
            _continue(url, part, archive.size, progress)
        except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            failures.append(f"{url}: {reason}")
            continue
        if _whole(part, archive):
            os.replace(part, target)
            return
        failures.append(f"{url}: not the published file ({part.stat().st_size} bytes, md5 {_md5(part)})")
        part.unlink()  # a wrong file must not be continued
    raise MissingError(
        f"{archive.file} could not be downloaded ({'; '.join(failures)}); get it elsewhere and put it into "
        f"{target.parent.absolute()}, its md5 is {archive.md5}"
    )


def _continue(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """Fetches what is missing of ``part``; a server that knows no ranges starts it anew."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if have and answer.status != 206:
            have = 0
        with part.open("ab" if have else "wb") as stream:
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > size:
                    raise ValueError(f"more than the {size} bytes that were published")
                stream.write(chunk)
                if progress is not None:
                    progress(have, size)
    if have < size:
        raise ConnectionError(f"ended after {have} of {size} bytes; the next run goes on from there")


def _unpack(file: Path, folder: Path, name: str) -> None:
    """Unpacks beside its place and moves the whole there, so that half of a set is never found."""
    temp = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        with tarfile.open(file) as archive:
            archive.extractall(temp, filter="data")  # no links, no devices, nothing outside of the folder
        if not (temp / name).is_dir():
            raise MissingError(f"{file} holds no folder {name}")
        os.replace(temp / name, folder / name)
    except MissingError:
        raise
    except (tarfile.TarError, OSError, EOFError) as error:
        raise MissingError(f"{file} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(temp, ignore_errors=True)
