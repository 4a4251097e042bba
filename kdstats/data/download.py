"""Data sets from their publishers: only when asked for, resumed after an interruption, checked before use."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdstats.data.cache import cache_folder
from kdstats.data.checksums import md5_of
from kdstats.data.messages import reason
from kdstats.data.registry import card, names
from kdstats.data.sources.cifar_python import VARIANTS, files_of
from kdstats.errors import MissingError, UsageError, unknown
from kdstats.offline import refuse

Progress = Callable[[int, int], None]
_CHUNK = 1 << 20
_TIMEOUT = 30.0
# What a source that cannot be used raises; the next one is tried.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError)


@dataclass(frozen=True, slots=True)
class Archive:
    """A published archive.

    Attributes:
        file: Its name.
        urls: Where it lies, tried in order.
        size: Bytes.
        md5: Of the whole, as its users have published it.
        unpacks_to: Folder that unpacking leaves; empty for an archive that is read as it is.
        holds: Files of that folder without which it is not whole.
    """

    file: str
    urls: tuple[str, ...]
    size: int
    md5: str
    unpacks_to: str = ""
    holds: tuple[str, ...] = ()


def _cifar(classes: int, size: int, md5: str) -> Archive:
    file = f"cifar-{classes}-python.tar.gz"
    hosts = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
    variant = VARIANTS[f"cifar{classes}"]
    return Archive(
        file,
        tuple(f"{host}/{file}" for host in hosts),
        size,
        md5,
        variant.folder,
        files_of(f"cifar{classes}"),
    )


ARCHIVES = {
    "cifar10": _cifar(10, 170_498_071, "c58f30108f718f92721af3b95e74349a"),
    "cifar100": _cifar(100, 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
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
    """The archive of a data set; raises ``UsageError`` for sets that are not downloaded, with how to get them."""
    if name not in ARCHIVES:
        if name in names():
            raise UsageError(f"{name} is not downloaded by kdstats. {card(name).how}")
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
        MissingError: Downloads are switched off, no source could be reached, the checksum is wrong, the disk is
            full, another process downloads to the same place, or something incomplete is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder to download to")
    target = folder / archive.file
    done = folder / archive.unpacks_to if archive.unpacks_to else target
    if archive.unpacks_to and _unpacked(done, archive):
        return folder
    if not _whole(target, archive):
        instead = f"get it from {archive.urls[0]} and put it into {folder.absolute()}"
        refuse(archive.file, f"{_wrong(target, archive)}{instead}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(target):
                if not _whole(target, archive):  # it may have come while another process held the lock
                    _fetch(archive, target, progress)
        except MissingError:  # is an OSError too
            raise
        except OSError as error:
            raise MissingError(
                f"{error.filename or target} cannot be written: {error.strerror or error}"
            ) from None
    if not archive.unpacks_to:
        return target
    _unpack(target, folder, archive.unpacks_to)
    return folder


def _whole(file: Path, archive: Archive) -> bool:
    return file.is_file() and file.stat().st_size == archive.size and md5_of(file) == archive.md5


def _wrong(target: Path, archive: Archive) -> str:
    """What is wrong with a file that is there already; empty where there is none."""
    if not target.is_file():
        return ""
    if target.stat().st_size != archive.size:
        return f"{target} is not the published file: it has {target.stat().st_size} of {archive.size} bytes; "
    return f"{target} is not the published file: its md5 is {md5_of(target)}, not {archive.md5}; "


def _unpacked(folder: Path, archive: Archive) -> bool:
    """Whether the folder is there and whole; an empty one counts as not there.

    Raises:
        MissingError: It is there in part: what is in it may be the user's, so it stays as it is.
    """
    if not folder.is_dir():
        return False
    there = {entry.name for entry in folder.iterdir()}
    lacking = [name for name in archive.holds if not (folder / name).is_file()]
    if there and lacking:
        raise MissingError(
            f"{folder} is there and lacks {', '.join(lacking)}; move it away or complete it, then try again"
        )
    return bool(there)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time per target; the lock lies in the cache folder, so that nothing is left beside the data."""
    from filelock import FileLock, Timeout

    key = hashlib.sha256(os.fsencode(target.absolute())).hexdigest()[:32]
    lock = cache_folder() / "locks" / f"{key}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise MissingError(f"another process is downloading {target}; wait for it, then try again") from None


def _fetch(archive: Archive, target: Path, progress: Progress | None) -> None:
    part = target.with_name(target.name + ".part")
    failures = []
    for url in archive.urls:
        try:
            _continue(url, part, archive.size, progress)
        except _BROKEN as error:
            said = getattr(error, "reason", None)
            failures.append(f"{url}: {said or reason(error)}")
            continue
        if _whole(part, archive):
            os.replace(part, target)
            return
        failures.append(f"{url}: not the published file ({part.stat().st_size} bytes, md5 {md5_of(part)})")
        part.unlink()  # a wrong file must not be continued
    raise MissingError(
        f"{archive.file} could not be downloaded ({'; '.join(failures)}); get it elsewhere and put it into "
        f"{target.parent.absolute()}, its md5 is {archive.md5}"
    )


def _continue(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """Fetches what is missing of ``part``; a server that knows no ranges starts it anew."""
    have = _begun(part)
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if have and answer.status != 206:
            have = 0
        with open(part, "ab" if have else "wb", opener=_no_link) as stream:
            while chunk := _next(answer):
                have += len(chunk)
                if have > size:
                    raise ValueError(f"more than the {size} bytes that were published")
                stream.write(chunk)
                if progress is not None:
                    progress(have, size)
    if have < size:
        raise ConnectionError(f"ended after {have} of {size} bytes; the next run goes on from there")


def _begun(part: Path) -> int:
    """Bytes of a download that was interrupted; raises ``MissingError`` for a link or pipe of that name."""
    try:
        state = part.lstat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(state.st_mode):
        raise MissingError(f"{part} is in the way: it is no regular file; remove it")
    return state.st_size


def _no_link(file: str, flags: int) -> int:
    """Opens a file that is to be written, but not what a link of its name leads to."""
    return os.open(file, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _next(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except OSError as error:  # not of the disk, as those of writing are
        raise ConnectionError(reason(error)) from None


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
