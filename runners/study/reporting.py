"""``report``: the page, built by a process of its own; runners import neither analyses nor reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kdstats.errors import MissingError


def report(out: Path) -> None:
    """Starts ``python -m reports.build``.

    Raises:
        MissingError: It failed; it has said why.
    """
    root = Path(__file__).resolve().parents[2]
    target = out.resolve()
    # Relative where it can be, so that a page made inside the checkout names no machine's folders.
    shown = target.relative_to(root) if target.is_relative_to(root) else target
    done = subprocess.run([sys.executable, "-m", "reports.build", str(shown)], cwd=root, check=False)
    if done.returncode:
        raise MissingError(
            f"the page of {out} could not be built (exit {done.returncode}); see the line above"
        )
