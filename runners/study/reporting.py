"""``report``: tables of what is complete by now, then the page, built by a process of its own.

Runners import neither analyses nor reports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kdstats.errors import MissingError
from kdstats.json_text import parse_json
from kdstats.provenance import now
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from runners.plan import make_runs
from runners.progress import say
from runners.study.folder import gather, has_study
from runners.study.standing import failed_before
from runners.study.teachers import planned_teachers
from runners.study_file import StudyFile


def report(study: StudyFile, out: Path) -> None:
    """The page of a study, finished or not; a study under way may have it built beside its driver.

    Raises:
        MissingError: No study there, no complete run, or the page could not be built.
    """
    has_study(out)
    paths = StudyPaths(out)
    complete = sum(1 for _ in paths.run_root.glob("*/*/*/*/done.json"))
    card = _card(paths)
    if card is None or card["runs"].get("done") != complete:
        _catch_up(study, paths, card)
    build(out)


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


def _catch_up(study: StudyFile, paths: StudyPaths, card: dict[str, Any] | None) -> None:
    """Tables and card as ``run`` writes them at its end, of the runs that are complete now."""
    sets = study.study.selection.train(), study.study.selection.test()
    with tempfile.TemporaryDirectory(prefix="kdstats-report-") as scratch:
        teachers = planned_teachers(study, sets[0], paths, Path(scratch))
        runs = make_runs(study, sets[0], teachers)
        specs, variants = [spec for _, spec in runs], {spec.digest: name for name, spec in runs}
        ready = sum(is_complete(spec.paths(paths.root)) for spec in specs)
        if not ready:
            raise MissingError(
                f"none of the {len(specs)} runs in {paths.root} is complete, so there is nothing to show"
            )
        say(f"{ready} of {len(specs)} runs are complete; the page shows these")
        failed = failed_before(specs, paths.root)
        how = {"started": (card or {}).get("provenance", {}).get("started") or now()}
        gather(study, paths, sets, specs, teachers, failed, how, variants)


def _card(paths: StudyPaths) -> dict[str, Any] | None:
    try:
        card = parse_json((paths.root / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) and isinstance(card.get("runs"), dict) else None
