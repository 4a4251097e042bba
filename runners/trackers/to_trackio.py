"""To trackio: a local folder of databases, one project per study and one trackio run per run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from kdstats.errors import UsageError
from runners.trackers.history import History


def export(histories: Sequence[History], out: str) -> str:
    """Writes every run's metrics by epoch and its configuration; returns the command that shows them.

    A run keeps its identity, the digest, and is written anew as a whole, so that exporting again adds nothing. Its
    place ``kdstats.status`` in the configuration says whether it is finished.
    """
    root = Path(out).absolute()
    root.mkdir(parents=True, exist_ok=True)
    # trackio reads its folder on import; a hub is never asked.
    os.environ |= {"TRACKIO_DIR": str(root), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import TRACKIO_DIR

    if Path(TRACKIO_DIR).absolute() != root:
        raise UsageError(
            f"trackio is loaded in this process with the folder {TRACKIO_DIR}; export to {root} from another process"
        )
    projects = []
    for history in histories:
        project = re.sub(r"[^A-Za-z0-9_-]", "-", history.study)
        projects.append(project)
        SQLiteStorage.delete_run(project, history.name, run_id=history.digest)
        if not history.metrics:
            continue
        ends = history.times()
        rows = [dict(values) for values in history.metrics.values()]
        rows[-1] |= {f"outcome.{key}": value for key, value in history.outcome.items()}
        told = {"kdstats.status": history.status, "kdstats.digest": history.digest}
        SQLiteStorage.bulk_log(
            project,
            history.name,
            rows,
            steps=list(history.metrics),
            timestamps=[datetime.fromtimestamp(ends[epoch], UTC).isoformat() for epoch in history.metrics],
            config={**history.config, **{f"kdstats.{k}": v for k, v in history.tags.items()}, **told},
            run_id=history.digest,
        )
    names = dict.fromkeys(projects)
    return "; ".join(f"TRACKIO_DIR={root} trackio show --project {name}" for name in names)
