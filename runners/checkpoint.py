"""The state of a run at the end of an epoch: written atomically, checked on reading, read without running code."""

from __future__ import annotations

import hashlib
import io
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


def load_state(path: Path, identity: str) -> dict[str, Any] | None:
    """The state at ``path`` if it is whole and belongs to the run ``identity``; None means: start anew."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state if isinstance(state, dict) and state.get("identity") == identity else None
