"""Which command, version, commit, machine and moment made an artefact."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdstats._version import __version__


def sha256_file(path: str | Path) -> str:
    """sha256 of a file's contents, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_commit() -> str | None:
    """Commit of the checkout that kdstats runs from, ``+`` appended when it has changes; None in a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        run = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return (
            subprocess.run(run, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
        )
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """The command as a user would type it again."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py" or sys.argv[0].endswith(".py"):
        module = getattr(sys.modules.get("__main__"), "__spec__", None)
        name = (
            f"python -m {module.name.removesuffix('.__main__')}" if module is not None else f"python {name}"
        )
    return " ".join([name, *(shlex.quote(word) for word in sys.argv[1:])])


def now() -> str:
    """This moment, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance(device: str | None = None) -> dict[str, Any]:
    """``{version, git, python, torch, threads, device, machine, command}``; torch only if it is loaded.

    Sums on the CPU depend on the number of threads in their last bits, so it belongs to the record.
    """
    torch = sys.modules.get("torch")
    return {
        "version": __version__,
        "git": git_commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__) if torch is not None else None,
        "threads": int(torch.get_num_threads()) if torch is not None else None,
        "device": device,
        "machine": platform.machine(),
        "command": command_line(),
    }
