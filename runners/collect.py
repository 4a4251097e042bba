"""From complete run directories to the tables ``runs`` and ``study``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.estimators.covariance import LEAST_OBSERVATIONS, CovarianceEstimate, ce_covariance, wang2022_v3
from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths, StudyPaths, epoch_parts
from kdstats.records.scanner import scan
from kdstats.records.writer import is_complete, read_done
from runners.run_spec import RunSpec

# The covariance is taken over the last quarter of the recorded epochs, where the student is near its end.
_LAST_SHARE = 4


def cross_entropy_matrix(paths: RunPaths) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """The teacher–student cross-entropy of a run by step and position.

    Returns:
        ``u`` ``[K, 2B]`` in nats: one row per full step of the last quarter of the recorded epochs, originals
        first and then views; the epoch of each row; the mean teacher entropy of the views in nats.
    """
    numbers = [number for number, _ in epoch_parts(paths.samples)]
    last = numbers[-max(1, len(numbers) // _LAST_SHARE) :]
    columns = ["view", "epoch", "step", "slot", "ts_ce", "t_entropy"]
    batches = list(scan([paths], columns, epochs=last))
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in columns}
    size = int(rows["slot"].max()) + 1
    steps = int(rows["step"].max()) + 1
    cell = (np.searchsorted(last, rows["epoch"]) * steps + rows["step"]).astype(np.int64)
    u = np.full((len(last) * steps, 2 * size), np.nan)
    u[cell, rows["slot"] + size * rows["view"]] = rows["ts_ce"]
    # The short last batch of an epoch has other positions; it is left out, as drop_last would.
    whole = ~np.isnan(u).any(axis=1)
    views = rows["view"] == 1
    return u[whole], np.repeat(last, steps)[whole], float(rows["t_entropy"][views].mean())


def run_row(spec: RunSpec, paths: RunPaths) -> dict[str, Any]:
    """The row of one complete run in the table ``runs``."""
    outcome = read_done(paths)["extra"]["outcome"]
    u, epochs, entropy = cross_entropy_matrix(paths)
    estimate = _covariance(u, epochs)
    return {
        "dataset": spec.dataset,
        "teacher": spec.teacher,
        "student": spec.student,
        "scheme": spec.scheme,
        "seed": spec.seed,
        "recipe_digest": spec.recipe_digest,
        **{k: outcome[k] for k in ("epochs", "test_loss_last", "test_loss_best", "acc_last", "acc_best")},
        "epoch_best": outcome["epoch_best"],
        "seconds": outcome["seconds"],
        "mean_covariance": _value(estimate, "mean_covariance"),
        "mean_covariance_se": math.nan if estimate is None else estimate.mean_covariance.se,
        "risk_variance": _value(estimate, "risk_variance"),
        "design_effect": _value(estimate, "design_effect"),
        "wang2022_v3": wang2022_v3(u) if len(u) >= LEAST_OBSERVATIONS else math.nan,
        "teacher_entropy": entropy,
        "excluded": False,
        "reason": None,
    }


def _covariance(u: NDArray[np.float64], epochs: NDArray[np.int64]) -> CovarianceEstimate | None:
    # Within epochs: the student improves from epoch to epoch, which is no dependence between samples.
    if len(u) < LEAST_OBSERVATIONS or np.unique(epochs, return_counts=True)[1].min() < 2:
        return None
    return ce_covariance(u, groups=epochs)


def _value(estimate: CovarianceEstimate | None, name: str) -> float:
    return math.nan if estimate is None else float(getattr(estimate, name).value)


def measurements(paths: StudyPaths, teacher: str, student: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Scheme → its row in the teacher-only measurements of a study, and the definition as text."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for file in probe_files(paths, teacher, student):
        if not file.is_file():
            continue
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            label = json.dumps(document["definition"], sort_keys=True)
            for row in document["results"]:
                found.setdefault(row["scheme"], (row, label))
        except (ValueError, KeyError, TypeError) as error:
            raise MissingError(f"{file} is not an evaluate-da document: {error!r}") from None
    return found


def probe_files(paths: StudyPaths, teacher: str, student: str) -> tuple[Any, Any]:
    """The file measured with the teacher alone, and the one for schemes that need a student."""
    folder = paths.t_stddev_json(teacher, "identity").parent
    return folder / "teacher-only.json", folder / f"with-{student}.json"


def collect(paths: StudyPaths, specs: Iterable[RunSpec]) -> list[tuple[RunSpec, str]]:
    """Writes ``runs.parquet`` and ``study.parquet`` from every complete run.

    Returns:
        The runs whose parts turned out to be damaged, with what is wrong. They are no longer called complete, so
        that the next start of the study trains them again.

    Raises:
        UsageError: No run is complete.
    """
    rows, damaged = [], []
    for spec in specs:
        run = spec.paths(paths.root)
        if not is_complete(run):
            continue
        try:
            rows.append(run_row(spec, run))
        except (MissingError, CheckError) as error:
            run.done.unlink()
            damaged.append((spec, str(error)))
    if not rows:
        raise UsageError(
            f"no run of {paths.root} is complete; `python -m runners.study run` carries them out"
        )
    runs = pd.DataFrame(rows)
    write_table(paths.runs, "runs", runs)
    study = pd.DataFrame(
        [
            _study_row(dict(zip(("dataset", "teacher", "student", "scheme"), key, strict=True)), group, paths)
            for key, group in runs.groupby(["dataset", "teacher", "student", "scheme"], sort=False)
        ]
    )
    write_table(paths.study, "study", study)
    return damaged


def _study_row(key: dict[str, Any], group: pd.DataFrame, paths: StudyPaths) -> dict[str, Any]:
    measured, label = measurements(paths, key["teacher"], key["student"]).get(key["scheme"], ({}, None))
    row: dict[str, Any] = {
        **key,
        "t_stddev": measured.get("t_stddev", math.nan),
        "t_stddev_se": measured.get("se", math.nan),
        "t_stddev_low": measured.get("low", math.nan),
        "t_stddev_high": measured.get("high", math.nan),
        "t_stddev_definition": label,
        "seeds": int((~group["excluded"]).sum()),
        "excluded": int(group["excluded"].sum()),
    }
    used = group[~group["excluded"]]
    for name, column in (
        ("test_loss", "test_loss_last"),
        ("acc", "acc_last"),
        ("test_loss_best", "test_loss_best"),
        ("acc_best", "acc_best"),
    ):
        values = used[column]
        sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        row |= {
            name: float(values.mean()),
            f"{name}_sd": sd,
            f"{name}_se": sd / math.sqrt(max(len(values), 1)),
        }
    for name in (
        "mean_covariance",
        "risk_variance",
        "design_effect",
        "wang2022_v3",
        "teacher_entropy",
        "seconds",
    ):
        row[name] = float(used[name].mean())
    # Between seeds, which holds the within-run error too; with one seed the run's own jackknife.
    values = used["mean_covariance"]
    row["mean_covariance_se"] = (
        float(values.std(ddof=1)) / math.sqrt(len(values))
        if len(values) > 1
        else float(used["mean_covariance_se"].mean())
    )
    return row
