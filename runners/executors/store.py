"""Run directories at a URL (``s3://…``, ``gs://…``, ``file://…``), for machines that share no folder.

A run there is a snapshot: a numbered list of its files with their sha256, and the files under their sha256. The list is
written last, so whoever is killed on the way leaves the snapshot before it in force; what no list names any more is
removed. A file is believed only if it has its sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from kdstats.errors import UsageError
from kdstats.json_text import parse_json
from kdstats.provenance import sha256_file
from kdstats.records.atomic import write_bytes_atomic
from runners.executors.base import Passing

_LIST = re.compile(r"snapshot-([0-9]{9})\.json")
# Files of a run, at most one folder deep, none of them hidden.
_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.=-]{0,99}/)?[A-Za-z0-9_][A-Za-z0-9_.=-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What a run removes itself as it goes on; other files in its folder may be a person's.
_OF_A_STATE = frozenset({"state.pt", "held", "pools", "samples", "done.json", "failed.json"})
_MOST_LISTS = 10**8
_PAUSES = (0.5, 2.0)  # seconds before an answer is asked for again
_KEPT = 2  # lists: should the newest turn out to be torn, the one before it is whole


class Store:
    """The folder at ``url``, opened with fsspec and the credentials of the machine that it runs on.

    Raises:
        UsageError: No URL, or a scheme that fsspec or one of its plug-ins does not open.
        Passing: Later, in every method: the store did not answer.
    """

    def __init__(self, url: str) -> None:
        if "://" not in url:
            raise UsageError(
                f"a store is a URL such as s3://bucket/study, not {url!r}; machines that share a folder need none"
            )
        self.url = url
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UsageError(
                "a store's URL is written into the study's card: leave credentials to the environment"
            )
        try:
            fs, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"the store {url!r} cannot be opened: {error}") from None
        self._fs: fsspec.AbstractFileSystem = fs
        self._fs.use_listings_cache = False
        self._root = str(root).rstrip("/")
        self._known: dict[Path, tuple[int, int, str]] = {}

    def read(self, name: str) -> bytes | None:
        """The bytes under ``name``; None where there are none."""
        try:
            content: bytes = self._patiently(lambda: self._fs.cat_file(self._at(name)))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Puts ``content`` under ``name``."""

        def put() -> None:
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(self._at(name), content)

        self._patiently(put)

    def push(self, folder: Path, name: str) -> None:
        """Makes ``name`` a snapshot of ``folder``; hidden files (claims, temporary ones) stay behind."""
        files = _files(folder)
        listed = {relative: self._digest(path) for relative, path in files.items()}
        before = self._lists(name)
        newest = self._listed(name, before[-1]) if before else None
        if newest == listed and set(listed.values()) <= set(self._names(f"{name}/objects")):
            return
        # A list may name what a bucket's rules, or a torn write, took away; names in the folder are what is there.
        there = set(self._names(f"{name}/objects")) & (set(newest.values()) if newest else set())
        for relative, digest in listed.items():
            if digest not in there:
                self.write(f"{name}/objects/{digest}", files[relative].read_bytes())
        number = before[-1] + 1 if before else 1
        self.write(f"{name}/snapshot-{number:09d}.json", json.dumps(listed, indent=0).encode())
        self._tidy(name, [*before, number])

    def pull(self, name: str, folder: Path, *, only: str | None = None) -> bool:
        """Makes ``folder`` the newest whole snapshot of ``name``, or fetches one file of it.

        Returns:
            Whether there was one, and it held ``only``.
        """
        for number in reversed(self._lists(name)):
            listed = self._listed(name, number)
            if listed is None or (only is not None and only not in listed):
                continue
            wanted = listed if only is None else {only: listed[only]}
            with contextlib.suppress(_Torn):
                self._fetch(name, folder, wanted)
                if only is None:
                    for relative in set(_files(folder)) - set(listed):
                        if relative.partition("/")[0] in _OF_A_STATE:
                            (folder / relative).unlink()
                return True
        return False

    def _fetch(self, name: str, folder: Path, listed: dict[str, str]) -> None:
        # Whatever says that the rest is there comes last.
        for relative in sorted(listed, key=lambda r: (r == "done.json", r == "state.pt", r)):
            target = folder / relative
            if target.is_file() and self._digest(target) == listed[relative]:
                continue
            content = self._object(name, listed[relative]) or self._object(name, listed[relative])
            if content is None:  # twice: it was not the way here that tore it
                with contextlib.suppress(Exception):  # gone, the next push brings it again
                    self._fs.rm_file(self._at(f"{name}/objects/{listed[relative]}"))
                raise _Torn
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(target, content)

    def _object(self, name: str, digest: str) -> bytes | None:
        """The bytes with this sha256; None where they are missing or others."""
        content = self.read(f"{name}/objects/{digest}")
        whole = content is not None and hashlib.sha256(content).hexdigest() == digest
        return content if whole else None

    def _lists(self, name: str) -> list[int]:
        found = [_LIST.fullmatch(entry) for entry in self._names(name)]
        # A number that no run reaches was not written by one, and would hide all that come after it.
        return sorted(n for match in found if match and (n := int(match[1])) < _MOST_LISTS)

    def _names(self, name: str) -> list[str]:
        def look() -> list[str]:
            self._fs.invalidate_cache()
            found = self._fs.ls(self._at(name), detail=False)
            return [str(path).rstrip("/").rpartition("/")[2] for path in found]

        try:
            names: list[str] = self._patiently(look)
        except FileNotFoundError:
            return []
        return names

    def _listed(self, name: str, number: int) -> dict[str, str] | None:
        """File → sha256 of a list; None where it is torn, foreign or names files outside its folder."""
        try:
            listed: Any = parse_json(self.read(f"{name}/snapshot-{number:09d}.json") or b"")
        except ValueError:
            return None
        if not isinstance(listed, dict) or not listed:
            return None
        good = all(_FILE.fullmatch(file) and _SHA256.fullmatch(str(sha)) for file, sha in listed.items())
        return listed if good else None

    def _tidy(self, name: str, numbers: list[int]) -> None:
        """Removes old lists and what only they name; objects that no list names may be another worker's, on the way."""
        kept, old = (
            [self._listed(name, n) or {} for n in part] for part in (numbers[-_KEPT:], numbers[:-_KEPT])
        )
        wanted = {digest for listed in kept for digest in listed.values()}
        gone = {digest for listed in old for digest in listed.values()} - wanted
        entries = [f"objects/{digest}" for digest in sorted(gone)]
        entries += [f"snapshot-{number:09d}.json" for number in numbers[:-_KEPT]]
        for entry in entries:
            with contextlib.suppress(Exception):  # a store that keeps more than it must harms nobody
                self._fs.rm_file(self._at(f"{name}/{entry}"))

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        size, changed, digest = self._known.get(path, (-1, -1, ""))
        if (size, changed) != (stat.st_size, stat.st_mtime_ns):
            digest = sha256_file(path)
            self._known[path] = stat.st_size, stat.st_mtime_ns, digest
        return digest

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Asks again after a moment's silence; what is not there is no silence."""
        for pause in (*_PAUSES, None):
            try:
                return ask()
            except FileNotFoundError:
                raise
            except Exception as error:
                if pause is None:
                    said = f"{type(error).__name__}: {error}"
                    raise Passing(
                        f"the store {self.url} did not answer: {said}. What it holds is kept; the same command goes on"
                    ) from error
                time.sleep(pause)
        raise AssertionError


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


class _Torn(Exception):
    """A snapshot of which an object is missing or damaged."""
