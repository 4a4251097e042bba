"""Who is at work in a folder: one owner at a time, on any file system, whatever the clocks say.

``flock`` does nothing on some network folders, and wall clocks jump; neither is used. A contender puts a file of
its own, ``.claim-<token>``, into the folder and then looks: it owns the folder if no other living claim is there,
and withdraws otherwise. Of two contenders at least the later one sees the other, so there are never two owners.

An owner proves that it lives by counting in its file. On the owner's machine, its process is looked at instead;
elsewhere a claim is dead when its count stood still for ``patience`` seconds of the *observer's* monotonic clock.
The next owner removes dead claims. An owner that was only asleep finds its file gone and must stop (:meth:`check`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdstats.errors import KdstatsError
from kdstats.json_text import parse_json
from kdstats.provenance import now
from kdstats.records.atomic import write_error

BEAT = 5.0
PATIENCE = 60.0
_PREFIX = ".claim-"
_COUNT = b'"beat": "000000000000"'  # of a contender; an owner counts from 1


class LostClaim(KdstatsError):
    """The folder was taken over while its owner slept; what it would write belongs to another now."""


@dataclass(frozen=True)
class Owner:
    """Who holds a claim, as far as its file can be read."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class Claim:
    """A claim on ``folder``, not yet made; :meth:`attempt` makes it, :meth:`release` ends it.

    Args:
        folder: What is claimed; it exists.
        beat: Seconds between signs of life.
        patience: Seconds without a sign after which a claim from another machine is dead.
    """

    def __init__(self, folder: Path, *, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder, self.beat, self.patience = folder, beat, patience
        self.path = folder / f"{_PREFIX}{secrets.token_hex(8)}"
        self._seen: dict[Path, tuple[bytes, float]] = {}
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def attempt(self) -> Owner | None:
        """Tries once; None means that the folder is ours now, otherwise who holds it.

        Raises:
            KdstatsError: The folder cannot be written to.
        """
        living, dead = self._others()
        if living:
            return living[0]
        content = json.dumps(_self()).encode()[:-1] + b", " + _COUNT + b"}\n"
        try:
            with self.path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # a folder that cannot be written to refuses this too
                self.path.unlink(missing_ok=True)
            raise write_error(self.path, error) from error
        # Look again only now: whoever came in between sees our file, or we see theirs.
        living, late = self._others()
        if living:
            self.path.unlink(missing_ok=True)
            return living[0]
        for path in dead | late:
            path.unlink(missing_ok=True)
        self._count(content, 1)
        self._heart = threading.Thread(target=self._beat, args=(content,), daemon=True)
        self._heart.start()
        return None

    def settle(self) -> Owner | None:
        """Tries until it is clear whether the holder lives: at once on its machine, else within ``patience``.

        Returns:
            None when the folder is ours, otherwise its living owner.
        """
        began: dict[Path, bytes] = {}
        while (owner := self.attempt()) is not None:
            for path, content in self._contents().items():
                first = began.setdefault(path, content)
                if _COUNT in content:
                    continue  # a contender like us, which may yet withdraw
                if first != content or _dead(content) is False:
                    return owner
            self.pause()
        return None

    def pause(self) -> None:
        """Between two attempts. Of several that came at one moment all withdraw; pauses differ, so one comes first."""
        time.sleep(self.beat / 10 * (1 + secrets.randbelow(100) / 100))

    def check(self) -> None:
        """Raises :class:`LostClaim` if another has taken over."""
        if not self.path.exists():
            raise LostClaim(f"another process has taken over {self.folder} while this one did not answer")

    def release(self) -> None:
        """Ends the claim; safe to call at any time and more than once."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _contents(self) -> dict[Path, bytes]:
        found = {}
        for path in sorted(self.folder.glob(f"{_PREFIX}*")):
            if path != self.path and path.is_file():  # a pipe of that name would never answer
                with contextlib.suppress(FileNotFoundError):
                    found[path] = path.read_bytes()
        return found

    def _others(self) -> tuple[list[Owner], set[Path]]:
        """Living owners, and the files of dead ones."""
        living, dead = [], set()
        clock = time.monotonic()
        for path, content in self._contents().items():
            before, since = self._seen.get(path, (None, clock))
            if before != content:
                self._seen[path] = content, clock
                since = clock
            gone = _dead(content)
            if gone or (gone is None and clock - since >= self.patience):
                dead.add(path)
            else:
                living.append(_owner(content))
        return living, dead

    def _beat(self, content: bytes) -> None:
        count = 1
        while not self._stop.wait(self.beat):
            count += 1
            self._count(content, count)

    def _count(self, content: bytes, count: int) -> None:
        # In place and of one length, and never created anew: a file that is gone stays gone.
        with contextlib.suppress(OSError), self.path.open("r+b") as file:
            file.write(content.replace(_COUNT, f'"beat": "{count:012d}"'.encode()))


def running(folder: Path) -> bool:
    """Whether ``folder`` holds a claim that is not known to be dead; a look, without waiting for signs of life."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not _dead(path.read_bytes()):
                return True
    return False


def touched(folder: Path) -> bool:
    """Whether ``folder`` holds any claim, dead or alive."""
    return any(folder.glob(f"{_PREFIX}*"))


def _machine() -> str:
    """This boot of this machine and its process ids' namespace; elsewhere ids mean other processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _birth(pid: int) -> str:
    """When a process began, in the kernel's ticks since boot; tells a reused id from its first owner."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _self() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "birth": _birth(pid),
        "since": now(),
    }


def _read(content: bytes) -> dict[str, Any]:
    try:
        loaded = parse_json(content)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _owner(content: bytes) -> Owner:
    said = _read(content)
    pid = said.get("pid")
    return Owner(str(said.get("host", "?")), pid if isinstance(pid, int) else 0, str(said.get("since", "?")))


def _dead(content: bytes) -> bool | None:
    """Whether the owner's process is gone; None where that cannot be seen from here."""
    said = _read(content)
    if said.get("machine") != _machine() or not isinstance(said.get("pid"), int):
        return None
    if not Path("/proc/self/stat").exists():
        return None if _exists(said["pid"]) else True
    return _birth(said["pid"]) != said.get("birth")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
