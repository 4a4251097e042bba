"""The page of a study, built by a process of its own: runners import neither analyses nor reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.records.paths import StudyPaths


def build(out: Path) -> None:
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


def up_to_date(out: Path) -> bool:
    """Whether the card was written when as many runs were complete as there are."""
    card = card_of(out)
    if card is None:
        return False
    # Beside the runs asked for there may be those of a larger grid before; earlier cards count the former only.
    then = card.get("complete_folders", card["runs"].get("done"))
    return bool(then == complete_folders(out))


def complete_folders(out: Path) -> int:
    """Runs below a study's folder that are marked as complete, those of no present grid too."""
    return sum(1 for _ in StudyPaths(out).run_root.glob("*/*/*/*/done.json"))


def card_of(out: Path) -> dict[str, Any] | None:
    """``study.json`` as it is; None where it is not there, or damaged."""
    try:
        card = parse_json((out / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) and isinstance(card.get("runs"), dict) else None
