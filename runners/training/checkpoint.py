"""The state of a run at the end of an epoch: written atomically, checked on reading, read without running code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdstats.records.atomic import write_bytes_atomic

_DIGEST = 32


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and strings to ``path``: the sha256 of the rest, then PyTorch's format.

    PyTorch does not notice damaged tensor bytes on loading; a run must not continue from such a state.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    payload = stream.getvalue()
    write_bytes_atomic(path, hashlib.sha256(payload).digest() + payload)


def load_state(
    path: Path,
    identity: str,
    say: Callable[[str], None] = lambda text: None,
    otherwise: str = "the run starts anew",
) -> dict[str, Any] | None:
    """What :func:`save_state` wrote to ``path``, if it is whole and belongs to ``identity``; None otherwise.

    Args:
        path: The file.
        identity: Of the run, and of the layout.
        say: Told when there is a file that cannot be used.
        otherwise: What is done without it.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        say(f"{path} is damaged: {otherwise}")
        return None
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("identity") != identity:
        say(f"{path} belongs to another run or version: {otherwise}")
        return None
    return state
