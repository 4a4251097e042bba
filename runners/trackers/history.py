"""What an exporter reads: the course of one run as its directory tells it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.json_text import parse_json
from kdstats.records import paths as layout
from kdstats.records.distances import FILE, read_distances
from kdstats.records.paths import RunPaths, StudyPaths
from kdstats.records.writer import is_complete, read_done


@dataclass(frozen=True)
class History:
    """One run, finished or not.

    Attributes:
        root: Its directory.
        study: Name of its study.
        name: ``teacher/student/scheme/seed=k/digest8``, unique in the study.
        digest: Of the resolved configuration.
        config: The resolved configuration as dotted keys and plain values.
        tags: What is said about the run beside it: program version, device, command.
        began: When it was started, in seconds since 1970.
        finished: Whether it is complete.
        epochs: How many it is to have, where its configuration says so.
        metrics: One entry per epoch, by its number from 1: name → finite number.
        outcome: The final numbers of a finished run.
    """

    root: Path
    study: str
    name: str
    digest: str
    config: dict[str, str | int | float | bool | None]
    tags: dict[str, str]
    began: float
    finished: bool
    epochs: int | None
    metrics: dict[int, dict[str, float]]
    outcome: dict[str, float]

    @property
    def status(self) -> str:
        """``finished``, or ``unfinished`` with how far it got."""
        if self.finished:
            return "finished"
        reached = max(self.metrics, default=0)
        return f"unfinished, {reached} of {self.epochs or '?'} epochs"

    def times(self) -> dict[int, float]:
        """When each epoch ended, in seconds since 1970: the start plus the time spent training.

        Pauses between a stop and the continuation are not on record, so they are not in here.
        """
        now, ends = self.began, {}
        for epoch, values in self.metrics.items():
            now += values.get("seconds", 0.0)
            ends[epoch] = now
        return ends


def find(path: Path) -> list[History]:
    """The runs of a study, or the one run, at ``path``.

    Raises:
        MissingError: No run there, or its files are damaged.
        CheckError: A metric is NaN or infinite.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        return [read(RunPaths(path))]
    found = [read(run) for run in StudyPaths(path).iter_runs() if run.run_json.is_file()]
    if not found:
        raise MissingError(
            f"no run at {path.absolute()}: neither run.json nor runs/TEACHER__STUDENT/SCHEME/seed=K/DIGEST there"
        )
    return found


def read(paths: RunPaths) -> History:
    """The history of one run; see :func:`find` for what is raised."""
    card = _json(paths.run_json)
    run, digest = card.get("run"), card.get("digest")
    if not isinstance(run, dict) or not isinstance(digest, str):
        raise MissingError(f"{paths.run_json} is no card of a student's run: it has no `run` and `digest`")
    finished = is_complete(paths)
    outcome = read_done(paths).get("extra", {}).get("outcome", {}) if finished else {}
    study, name = _place(paths, run, digest)
    epochs = run.get("recipe", {}).get("epochs")
    metrics = _metrics(paths.metrics, finished)
    _add_distances(paths.root, metrics)
    about = {"scheme": card.get("scheme"), **card.get("provenance", {})}
    return History(
        root=paths.root,
        study=study,
        name=name,
        digest=digest,
        config=_flat(run),
        tags={k: str(v) for k, v in about.items() if v is not None},
        began=_seconds(card.get("started"), paths.run_json),
        finished=finished,
        epochs=epochs if isinstance(epochs, int) else None,
        metrics=metrics,
        outcome={k: float(v) for k, v in outcome.items() if _is_number(v)},
    )


def _place(paths: RunPaths, run: dict[str, Any], digest: str) -> tuple[str, str]:
    try:
        parts = layout.parse(paths.root.absolute())
    except UsageError:  # a run may lie anywhere
        words = [str(run.get(k, "?")) for k in ("teacher", "student", "scheme")]
        return "runs", "/".join([*words, f"seed={run.get('seed', '?')}", digest[:8]])
    words = [parts.teacher, parts.student, parts.scheme, f"seed={parts.seed}", parts.digest]
    return parts.study.name or "runs", "/".join(words)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise MissingError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MissingError(f"{path} is not a JSON object")
    return value


def _metrics(path: Path, finished: bool) -> dict[int, dict[str, float]]:
    """Epoch → its numbers; a half-written last line of an unfinished run does not count."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        if finished:
            raise MissingError(f"{path} is missing although the run is complete") from None
        return {}
    found: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            epoch = row.pop("epoch")
        except (ValueError, KeyError, TypeError, AttributeError):
            if number == len(lines) and not finished:
                break
            raise MissingError(f"{path}, line {number}, is damaged") from None
        if not isinstance(epoch, int) or epoch <= max(found, default=0):
            raise MissingError(f"{path}, line {number}: epoch {epoch!r} after epoch {max(found, default=0)}")
        found[epoch] = {k: float(v) for k, v in row.items() if _is_number(v)}
        for key, value in found[epoch].items():
            if not math.isfinite(value):
                raise CheckError(f"{path}, line {number}: {key} is {value}")
    return found


def _add_distances(root: Path, metrics: dict[int, dict[str, float]]) -> None:
    """Adds what was measured between networks, as ``distance/teacher-student/kl_mean``."""
    path = root / FILE
    if not path.is_file():
        return
    for row in read_distances(path):
        pair = f"distance/{row['t']}-{row['s']}/"
        if row["epoch"] in metrics:  # not one that a stopped run will drop
            values = {k: v for k, v in row.items() if k != "epoch" and _is_number(v)}
            metrics[row["epoch"]] |= {f"{pair}{key}": float(value) for key, value in values.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        parts = [_flat(inner, f"{prefix}{key}.") for key, inner in value.items()]
        return {key: inner for part in parts for key, inner in part.items()}
    plain = json.dumps(value) if isinstance(value, list) else value
    return {prefix[:-1]: plain}


def _seconds(started: Any, path: Path) -> float:
    try:
        moment = datetime.fromisoformat(started)
    except (TypeError, ValueError):
        raise MissingError(f"{path} does not say when the run was started: {started!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
