"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(folder: Path) -> int | None:
    """Bytes that are free where ``folder`` is or will be; None where nobody tells."""
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        try:
            if place.is_dir():
                return shutil.disk_usage(place).free
        except OSError:
            return None
    return None
