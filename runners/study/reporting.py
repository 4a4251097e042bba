"""``report``: tables of what is complete by now, then the page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from kdstats.errors import MissingError
from kdstats.provenance import now
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from runners.progress import say
from runners.study.folder import gather, has_study
from runners.study.grid import make_runs
from runners.study.page import build, card_of, up_to_date
from runners.study.standing import failed_before
from runners.study.teachers import trained_teachers, untrained, weights_of
from runners.study_file import StudyFile


def report(file: Path, study: StudyFile, out: Path) -> None:
    """The page of a study, finished or not; a study under way may have it built beside its driver.

    Raises:
        MissingError: No study there, no complete run, or the page could not be built.
    """
    has_study(out)
    if not up_to_date(out):
        _catch_up(file, study, StudyPaths(out), card_of(out))
    build(out)


def _catch_up(file: Path, study: StudyFile, paths: StudyPaths, card: dict[str, Any] | None) -> None:
    """Tables and card as ``run`` writes them at its end, of the runs that are complete now."""
    missing = list(untrained(study, paths))
    if missing:
        raise MissingError(
            f"the teacher {missing[0]} is not at {weights_of(study, missing[0], paths)}, where `run` kept it; bring it "
            "back, or let `run` train it again"
        )
    sets = study.study.selection.train(), study.study.selection.test()
    teachers = trained_teachers(study, sets[0], paths)
    runs = make_runs(study, sets[0], teachers)
    specs, variants = [spec for _, spec in runs], {spec.digest: name for name, spec in runs}
    ready = sum(is_complete(spec.paths(paths.root)) for spec in specs)
    if not ready:
        raise MissingError(
            f"none of the {len(specs)} runs in {paths.root} is complete, so there is nothing to show"
        )
    say(f"{ready} of {len(specs)} runs are complete; the page shows these")
    # The card tells how the study was made; that a page was built of it is told by the page.
    made = (card or {}).get("provenance") or {}
    again = ["python", "-m", "runners.study", "run", str(file), "--out", str(paths.root)]
    how = {"started": now(), "command": shlex.join(again)}
    kept = ("started", "command", "executor", "seconds")
    how |= {key: made[key] for key in kept if made.get(key) is not None}
    gather(study, paths, sets, specs, teachers, failed_before(specs, paths.root), how, variants)
