"""A tree of files that is read by relative names, whether it lies in a folder or in an archive."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kdstats.data.messages import printable, shortened
from kdstats.data.sources.pixels import FILE_LIMIT
from kdstats.errors import MissingError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
# Pictures that are not read: left out in silence they would make a quiet subset.
OTHER_IMAGES = frozenset(
    {
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
        ".heic",
        ".heif",
        ".jfif",
        ".svg",
    }
)
# No longer than a file's name on the usual file systems.
_NAME_LIMIT = 255
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".rar", ".7z")


class Tree(Protocol):
    """Folders and files by names relative to the root, parts joined with ``/``; the root is ``""``."""

    def folders(self, at: str) -> list[str]:
        """Names of the folders directly in ``at``, sorted; empty when there is no such folder."""

    def files(self, at: str) -> list[str]:
        """Names of the files directly in ``at``, sorted; empty when there is no such folder."""

    def read(self, file: str) -> bytes:
        """All bytes of a file; raises ``MissingError`` when it cannot be read or is absurdly large."""

    def where(self, file: str) -> str:
        """What to call a file or folder in a message."""


def join(at: str, name: str) -> str:
    """``at/name``, and ``name`` at the root."""
    return f"{at}/{name}" if at else name


def litter(name: str) -> bool:
    """Whether a name is what file managers leave behind: hidden files, thumbnails, ``__MACOSX``."""
    return name.startswith((".", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini")


def images_in(tree: Tree, at: str) -> list[str]:
    """Names of the images directly in ``at``, sorted; other files are passed over.

    Raises:
        MissingError: A picture of a kind that is not read.
    """
    found = tree.files(at)
    for name in found:
        ending = os.path.splitext(name)[1].lower()
        if ending in OTHER_IMAGES:
            raise MissingError(
                f"{tree.where(join(at, name))} is a {ending[1:].upper()} file; images are read as PNG, JPEG or WebP: "
                "convert it or remove it"
            )
    return [name for name in found if os.path.splitext(name)[1].lower() in IMAGES]


class Folder:
    """A tree on disk. Links are followed: a user's own folder may hold them on purpose, and depth is bounded."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, at: str) -> list[str]:
        return self._names(at, folders=True)

    def files(self, at: str) -> list[str]:
        return self._names(at, folders=False)

    def read(self, file: str) -> bytes:
        path = self._root / file
        try:
            # Opening a pipe waits for its writer, so what it is must be known before.
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                raise MissingError(f"{self.where(file)} is no regular file")
            check_size(state.st_size, self.where(file))
            return path.read_bytes()
        except MissingError:
            raise
        except OSError as error:
            raise MissingError(f"{self.where(file)} cannot be read: {error.strerror}") from None

    def state(self, file: str) -> tuple[int, int]:
        """Bytes of a file and when it was written (ns), without reading it; ``MissingError`` when there is none."""
        try:
            found = (self._root / file).stat()
            return found.st_size, found.st_mtime_ns
        except OSError as error:
            raise MissingError(f"{self.where(file)} cannot be read: {error.strerror}") from None

    def where(self, file: str) -> str:
        return printable((self._root / file).absolute())

    def _names(self, at: str, folders: bool) -> list[str]:
        try:
            with os.scandir(self._root / at) as entries:
                found = [e.name for e in entries if _is_folder(e) == folders and not litter(e.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise MissingError(f"{self.where(at)} cannot be read: {error.strerror}") from None
        for name in found:
            check_name(name, self.where(join(at, name)))
        return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere: reading it says so
        return False


def check_name(name: str, where: str) -> None:
    """Refuses names that could not be printed or stored later.

    Raises:
        MissingError: Control characters, or bytes that are no UTF-8.
    """
    if not name.isprintable():
        raise MissingError(f"{where}: the name is not printable UTF-8; rename it")


def check_class_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names that a file gives its classes, refused where they could not be printed or stored later.

    Raises:
        MissingError: The first name that is empty, absurdly long, or not printable.
    """
    for index, name in enumerate(names):
        if not name.strip() or len(name) > _NAME_LIMIT or not name.isprintable():
            said = shortened(repr(name))
            raise MissingError(
                f"{where}: class {index} is named {said}; a name is printable and of 1…{_NAME_LIMIT} letters"
            )
    return tuple(names)


def check_size(size: int, where: str) -> None:
    """Refuses a file, or an archive's member, that is or promises to be too large for one image.

    Raises:
        MissingError: More than :data:`~kdstats.data.sources.pixels.FILE_LIMIT` bytes, or fewer than none.
    """
    if not 0 <= size <= FILE_LIMIT:
        raise MissingError(
            f"{where} holds {size / 1e6:,.0f} MB by its own account; nothing over {FILE_LIMIT / 1e6:.0f} MB is read "
            "as one image"
        )
