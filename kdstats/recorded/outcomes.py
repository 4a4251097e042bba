"""The outcomes of finished runs from their own folders, for where no table ``runs`` was collected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdstats.errors import KdstatsError, MissingError
from kdstats.recorded.find import check_done, find_runs
from kdstats.records.writer import read_done

if TYPE_CHECKING:
    import pandas as pd

    from kdstats.records.paths import RunPaths

IDENTITY = ("dataset", "teacher", "student", "scheme", "seed")


def read_outcomes(given: str | Path | Iterable[str | Path]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row per complete run: what it is and how it ended, as its ``done.json`` says.

    Args:
        given: Run directories or folders above them.

    Returns:
        Columns ``dataset, teacher, student, scheme, seed, recipe`` (first digits of the recipe's digest; runs are
        comparable where it agrees) and the outcome, e.g. ``test_loss_last`` (nats) and ``acc_last`` (a fraction); and
        a note for runs that are left out because they are incomplete or do not say how they ended.

    Raises:
        MissingError: No run there, or none that is complete and says how it ended.
    """
    import pandas as pd

    words = [given] if isinstance(given, str | Path) else list(given)
    rows, refused = [], []
    for found in find_runs(words):
        try:
            rows.append(_row(found.paths))
        except KdstatsError as error:
            refused.append((found.paths.root, str(error)))
    if not rows:
        root, why = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise MissingError(f"no complete run says how it ended: {root}: {why}{more}")
    notes: tuple[str, ...] = ()
    if refused:
        root, why = refused[0]
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        notes = (f"{len(refused)} of {len(rows) + len(refused)} runs are left out: {root}{more} ({why})",)
    return pd.DataFrame(rows), notes


def _row(paths: RunPaths) -> dict[str, Any]:
    check_done(paths)
    extra = read_done(paths).get("extra")
    extra = extra if isinstance(extra, dict) else {}
    outcome, run = extra.get("outcome"), extra.get("run")
    if not isinstance(outcome, dict) or not isinstance(run, dict):
        raise MissingError(
            f"{paths.done} holds no outcome (extra.outcome and extra.run, as python -m runners.student writes them)"
        )
    numbers = {
        name: float(value)
        for name, value in outcome.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    recipe = str(extra.get("recipe_digest") or "")[:8]
    return {**{name: run.get(name) for name in IDENTITY}, "recipe": recipe, **numbers}
