"""From complete run directories to the tables ``runs`` and ``study``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.estimators.covariance import LEAST_OBSERVATIONS, CovarianceEstimate, ce_covariance, wang2022_v3
from kdstats.estimators.published import v3_sets
from kdstats.json_text import parse_json
from kdstats.provenance import sha256_file
from kdstats.recorded.steps import last_quarter, step_matrix
from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.writer import is_complete, read_done
from runners.run_spec import RunSpec
from runners.study_file.sections import ExcludeSection

# Settings have no place for what other columns say.
_IDENTITY = frozenset({"dataset", "data", "dataset_sha256", "teacher", "student", "scheme", "seed"})


def run_row(spec: RunSpec, paths: RunPaths, variant: str = "") -> dict[str, Any]:
    """The row of one complete run in the table ``runs``.

    Beside the outcome it holds ``settings`` (what decides the numbers but scheme and seed, as JSON), ``threads``, and
    ``covariance_of``: over which inputs of a step the covariance was taken, or why it was not.
    """
    outcome = read_done(paths)["extra"]["outcome"]
    recorded = last_quarter(paths)
    if recorded:
        u, epochs, entropy = step_matrix(paths, recorded)
    else:
        u, epochs, entropy = np.empty((0, 0)), np.empty(0, np.int64), math.nan
    estimate = _covariance(u, epochs)
    if not recorded:
        covariance_of = "none: no samples were recorded"
    elif estimate is None:
        covariance_of = "none: too few full steps were recorded"
    else:
        covariance_of = "originals and views" if spec.originals == "kept" else "views: originals are replaced"
    return {
        "dataset": spec.dataset,
        "teacher": spec.teacher,
        "student": spec.student,
        "scheme": spec.scheme,
        "seed": spec.seed,
        "variant": variant or None,
        "digest": spec.digest,
        "recipe_digest": spec.recipe_digest,
        **{k: outcome[k] for k in ("epochs", "test_loss_last", "test_loss_best", "acc_last", "acc_best")},
        "epoch_best": outcome["epoch_best"],
        "seconds": outcome["seconds"],
        "mean_covariance": _value(estimate, "mean_covariance"),
        "mean_covariance_se": math.nan if estimate is None else estimate.mean_covariance.se,
        "risk_variance": _value(estimate, "risk_variance"),
        "design_effect": _value(estimate, "design_effect"),
        "wang2022_v3": _released(u),
        "covariance_of": covariance_of,
        "teacher_entropy": entropy,
        "threads": _threads(paths),
        "settings": json.dumps(_settings(spec), sort_keys=True),
        "excluded": False,
        "reason": None,
    }


def _released(u: NDArray[np.float64]) -> float:
    """``check_ce_var_v3`` on sets of 6,400 values, as ``kdstats estimate`` has it; NaN with too few of them."""
    sets = v3_sets(list(u)) if len(u) else u
    return wang2022_v3(sets) if len(sets) >= LEAST_OBSERVATIONS else math.nan


def _settings(spec: RunSpec) -> dict[str, Any]:
    """All that runs of a study may differ in but pair, scheme and seed, defaults written out."""
    own = asdict(spec)
    return {
        name: value
        for name, value in own.items()
        if name not in _IDENTITY and not name.startswith(("teacher_", "log_"))
    }


def _scalars(settings: dict[str, Any]) -> dict[str, Any]:
    """One level of plain values: ``teaching.period``, ``objective.version``; the recipe without its names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "teaching":
            found[name] = "fixed" if value is None else "following"
        if name == "objective_params":
            found |= {f"objective.{key}": given for key, given in value}
        elif isinstance(value, Mapping):
            found |= {f"{name}.{key}": given for key, given in value.items()}
        elif name != "teaching":
            found[name] = value
    plain = {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in found.items()
    }
    return {key: value for key, value in plain.items() if key not in ("recipe.name", "recipe.source")}


def varying(runs: pd.DataFrame) -> pd.DataFrame:
    """``setting.<name>`` for each scalar setting that is not the same in all runs; rows as in ``runs``."""
    texts = runs["settings"].unique()
    settings = {text: _scalars(json.loads(text)) for text in texts}
    names = dict.fromkeys(name for found in settings.values() for name in found)
    columns = {}
    for name in names:
        values = {text: found.get(name) for text, found in settings.items()}
        if len({repr(value) for value in values.values()}) > 1:
            kinds = {type(value) for value in values.values() if value is not None}
            mixed = not (kinds <= {int, float} or len(kinds) == 1)
            columns[f"setting.{name}"] = [
                None if values[text] is None else str(values[text]) if mixed else values[text]
                for text in runs["settings"]
            ]
    return pd.DataFrame(columns, index=runs.index)


def _threads(paths: RunPaths) -> int | None:
    """Of the process that trained the run, from its card."""
    try:
        said = parse_json(paths.run_json.read_text(encoding="utf-8"))["provenance"]["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(said) if said is not None else None


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
            document = parse_json(file.read_text(encoding="utf-8"))
            label = json.dumps(document["definition"], sort_keys=True)
            for row in document["results"]:
                found.setdefault(row["scheme"], (row, label))
        except (ValueError, KeyError, TypeError) as error:
            raise MissingError(f"{file} is not an evaluate-da document: {error!r}") from None
    return found


def _changed(run: RunPaths) -> bool:
    """Whether a part is surely not what ``done.json`` says. What cannot be read now may be whole: nothing is decided.

    Raises:
        MissingError: A part cannot be read.
    """
    for name, said in read_done(run)["parts"].items():
        path = run.root / name
        try:
            if path.stat().st_size != said["bytes"] or sha256_file(path) != said["sha256"]:
                return True
        except FileNotFoundError:
            return True
        except OSError as error:
            raise MissingError(
                f"cannot read {path}: {error.strerror or error}. The run keeps its mark as complete; mend that and run "
                "the same command again"
            ) from None
    return False


def probe_files(paths: StudyPaths, teacher: str, student: str) -> tuple[Any, Any]:
    """The file measured with the teacher alone, and the one for schemes that need a student."""
    folder = paths.t_stddev_json(teacher, "identity").parent
    return folder / "teacher-only.json", folder / f"with-{student}.json"


def collect(
    paths: StudyPaths,
    specs: Iterable[RunSpec],
    exclude: Iterable[ExcludeSection] = (),
    variants: Mapping[str, str] | None = None,
) -> list[tuple[RunSpec, str]]:
    """Writes ``runs.parquet`` and ``study.parquet`` from every complete run.

    Args:
        paths: The study's files.
        specs: Its runs.
        exclude: What is left out of every summary; such runs stay in ``runs``, marked with the reason.
        variants: Digest of a run → its variant, where the study has some.

    Returns:
        The runs whose parts turned out to be damaged, with what is wrong. They are no longer called complete, so
        that the next start of the study trains them again.

    Raises:
        UsageError: No run is complete.
    """
    rows, damaged = [], []
    rules = tuple(exclude)
    for spec in specs:
        run = spec.paths(paths.root)
        if not is_complete(run):
            continue
        try:
            variant = (variants or {}).get(spec.digest, "")
            rows.append(run_row(spec, run, variant) | _excluded(spec, rules, variant))
        except (MissingError, CheckError) as error:
            if _changed(run):
                run.done.unlink()
            damaged.append((spec, str(error)))
    if not rows:
        raise UsageError(
            f"no run of {paths.root} is complete; `python -m runners.study run` carries them out"
        )
    write_tables(paths, rows)
    return damaged


def write_tables(paths: StudyPaths, rows: list[dict[str, Any]]) -> None:
    """Writes both tables from the rows of ``runs``."""
    runs = pd.DataFrame(rows)
    runs = pd.concat([runs, varying(runs)], axis=1)
    write_table(paths.runs, "runs", runs)
    keys = ["dataset", "teacher", "student", "scheme", "variant"]
    # Runs of unlike settings are never averaged: a variant has rows of its own.
    study = pd.DataFrame(
        [
            _study_row(dict(zip(keys, key, strict=True)), group, paths)
            for key, group in runs.groupby(keys, sort=False, dropna=False)
        ]
    )
    write_table(paths.study, "study", study)


def _excluded(spec: RunSpec, rules: tuple[ExcludeSection, ...], variant: str) -> dict[str, Any]:
    pair = f"{spec.teacher}/{spec.student}"
    reasons = [rule.reason for rule in rules if rule.matches(pair, spec.scheme, spec.seed, variant)]
    return {"excluded": bool(reasons), "reason": "; ".join(reasons) or None}


def _study_row(key: dict[str, Any], group: pd.DataFrame, paths: StudyPaths) -> dict[str, Any]:
    measured, label = measurements(paths, key["teacher"], key["student"]).get(key["scheme"], ({}, None))
    row: dict[str, Any] = {
        **key,
        "variant": None if pd.isna(key["variant"]) else key["variant"],
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
    row |= {
        column: values.iloc[0]
        for column in (*(c for c in map(str, group) if c.startswith("setting.")), "settings", "covariance_of")
        if (values := group[column]).nunique(dropna=False) == 1
    }
    # Between seeds, which holds the within-run error too; with one seed the run's own jackknife.
    values = used["mean_covariance"]
    row["mean_covariance_se"] = (
        float(values.std(ddof=1)) / math.sqrt(len(values))
        if len(values) > 1
        else float(used["mean_covariance_se"].mean())
    )
    return row
