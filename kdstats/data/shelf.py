"""What the cache of decoded images holds, and emptying it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdstats.data.cache import FILES, datasets_folder
from kdstats.errors import MissingError

# The second form is what a killed process leaves behind: the name under which an entry is written.
_ENTRY = re.compile(
    r"(?P<dot>\.)?(?P<set>[a-z0-9-]+?)-(?P<split>train|test)(?:-(?P<size>[0-9]+)px)?-[0-9a-f]{16}(?(dot)\..{1,40})"
)


def entry_name(dataset: str, split: str, img_size: int | None) -> str:
    """The name of a split's entry, without the key."""
    return f"{dataset}-{split}" + ("" if img_size is None else f"-{img_size}px")


@dataclass(frozen=True)
class Shelved:
    """One entry of the cache.

    Attributes:
        dataset: Registry name.
        split: ``train`` or ``test``.
        img_size: Pixels to which the images were brought; None when they were left as they are.
        bytes: On disk.
        complete: False for what a killed process left behind.
        path: Its folder.
    """

    dataset: str
    split: str
    img_size: int | None
    bytes: int
    complete: bool
    path: Path


@dataclass(frozen=True)
class Cleared:
    """What :func:`clear` did.

    Attributes:
        removed: Entries that are gone.
        left: What was in the way and is not ours: path and reason.
    """

    removed: tuple[Shelved, ...]
    left: tuple[tuple[Path, str], ...]


def shelved(names: Iterable[str]) -> list[Shelved]:
    """The entries of the data sets ``names``, in the order of their names; links and foreign things are no entries.

    Raises:
        MissingError: The cache folder cannot be read.
    """
    return [entry for entry, _ in _entries(set(names)) if entry is not None]


def clear(names: Iterable[str]) -> Cleared:
    """Removes the entries of the data sets ``names``: files that kdstats writes, by their names, and then the folder.

    No link is followed, the cache folder itself included, and a folder that holds anything else stays as it is.

    Raises:
        MissingError: The cache folder is a link or cannot be read.
    """
    if datasets_folder().is_symlink():
        raise MissingError(f"{datasets_folder()} is a link and is not followed; clear its target yourself")
    removed, left = [], []
    for entry, path in _entries(set(names)):
        if entry is None:
            left.append((path, "a link or not a folder"))
        elif reason := _remove(path):
            left.append((path, reason))
        else:
            removed.append(entry)
    return Cleared(tuple(removed), tuple(left))


def _entries(names: set[str]) -> Iterator[tuple[Shelved | None, Path]]:
    """Everything that is called like an entry; None for what is no folder of its own."""
    folder = datasets_folder()
    try:
        with os.scandir(folder) as scanned:
            there = sorted(scanned, key=lambda e: e.name.lstrip("."))
    except FileNotFoundError:
        return
    except OSError as error:
        raise MissingError(f"{folder} cannot be read: {error.strerror}") from None
    for item in there:
        found = _ENTRY.fullmatch(item.name)
        if found is None or found["set"] not in names:
            continue
        path = Path(item.path)
        if not item.is_dir(follow_symlinks=False):
            yield None, path
            continue
        size = None if found["size"] is None else int(found["size"])
        yield Shelved(found["set"], found["split"], size, _bytes(path), found["dot"] is None, path), path


def _bytes(folder: Path) -> int:
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        return sum(f.stat(follow_symlinks=False).st_size for f in files)
    return 0


def _remove(folder: Path) -> str:
    """Empties and removes one entry; otherwise the reason why it stays."""
    try:
        # By descriptor: what the name stands for cannot be exchanged in between.
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        return error.strerror or "cannot be opened"
    try:
        inside = os.listdir(opened)
        foreign = [
            name
            for name in inside
            if name not in FILES
            or not stat.S_ISREG(os.stat(name, dir_fd=opened, follow_symlinks=False).st_mode)
        ]
        if foreign:
            return f"holds {foreign[0]!r}, which is not kdstats's"
        for name in inside:
            os.unlink(name, dir_fd=opened)
        folder.rmdir()
    except OSError as error:
        return error.strerror or "cannot be removed"
    finally:
        os.close(opened)
    return ""
