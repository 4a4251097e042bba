"""To MLflow: a local SQLite database, one experiment per study and one MLflow run per run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdstats.errors import UsageError
from runners.trackers.history import History

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_DIGEST = "kdstats.digest"
_PLACE = "kdstats.run"
_STATUS = "kdstats.status"
# Limits of MLflow's own calls: characters of a parameter, entries of one call.
_LONGEST, _MOST_METRICS, _MOST_PARAMS = 6000, 1000, 100


def uri_of(out: str) -> str:
    """``out`` as an SQLite URI: a file's path, or ``sqlite:///…`` itself.

    Raises:
        UsageError: A server or another kind of store: nothing is sent over a network.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", out):
        return f"sqlite:///{Path(out).absolute()}"
    if not out.startswith("sqlite:///") or out == "sqlite:///":
        raise UsageError(
            f"--out {out}: MLflow is exported into a local database; name a file or sqlite:///FILE"
        )
    return out


def export(histories: Sequence[History], out: str) -> str:
    """Brings the database up to the runs; returns the command that shows it.

    A run is found again by its digest and place. What is there already stays; new epochs are added. Where the
    database holds an epoch with other numbers (the run was trained anew), the old MLflow run is deleted, which
    MLflow can restore, and a new one made.
    """
    uri = uri_of(out)
    # MLflow reads these on import; it would report its use to its makers otherwise.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=uri)
    for study in dict.fromkeys(history.study for history in histories):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            artifacts = (database.parent / f"{database.stem}-artifacts").absolute().as_uri()
            identity = client.create_experiment(study, artifact_location=artifacts)
        else:
            identity = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(identity)
        for history in histories:
            if history.study == study:
                _export(client, identity, history)
    return f"mlflow ui --backend-store-uri {uri}"


def _export(client: MlflowClient, experiment: str, history: History) -> None:
    from mlflow.entities import Metric, Param, RunTag

    def milliseconds(seconds: float) -> int:
        return round(1000 * seconds)

    ends = {epoch: milliseconds(end) for epoch, end in history.times().items()}
    points = {
        (name, epoch): value for epoch, metrics in history.metrics.items() for name, value in metrics.items()
    }
    filter_string = f"tags.`{_DIGEST}` = '{history.digest}'"
    found = [
        run
        for run in client.search_runs([experiment], filter_string)
        if run.data.tags.get(_PLACE) == history.name
    ]
    known: dict[tuple[str, int], float] = {}
    run_id = None
    for run in found:
        known = {
            (name, point.step): point.value
            for name in run.data.metrics
            if not name.startswith("outcome.")
            for point in client.get_metric_history(run.info.run_id, name)
        }
        if all(points.get(place) == value for place, value in known.items()):
            run_id = run.info.run_id
            break
        client.delete_run(run.info.run_id)
        known = {}
    if run_id is None:
        created = client.create_run(experiment, milliseconds(history.began), run_name=history.name)
        run_id = created.info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in history.config.items()]
        for at in range(0, len(params), _MOST_PARAMS):
            client.log_batch(run_id, params=params[at : at + _MOST_PARAMS])
    last = ends[max(ends)] if ends else milliseconds(history.began)
    new = [Metric(k, v, ends[epoch], epoch) for (k, epoch), v in points.items() if (k, epoch) not in known]
    told = client.get_run(run_id).data.metrics
    reached = max(ends, default=0)
    outcome = {f"outcome.{key}": value for key, value in history.outcome.items()}
    new += [Metric(key, value, last, reached) for key, value in outcome.items() if told.get(key) != value]
    for at in range(0, len(new), _MOST_METRICS):
        client.log_batch(run_id, metrics=new[at : at + _MOST_METRICS])
    tags = {_DIGEST: history.digest, _PLACE: history.name, _STATUS: history.status}
    tags |= {f"kdstats.{key}": value for key, value in history.tags.items()}
    client.log_batch(run_id, tags=[RunTag(key, value[:_LONGEST]) for key, value in tags.items()])
    if history.finished:
        client.set_terminated(run_id, "FINISHED", last)
    else:
        client.update_run(run_id, status="RUNNING")
