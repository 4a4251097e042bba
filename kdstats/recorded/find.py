"""Which run directories are meant, and what each of them is."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdstats.errors import MissingError, UsageError
from kdstats.json_text import parse_json
from kdstats.records.arrow import open_part
from kdstats.records.paths import RunPaths, epoch_parts, local
from kdstats.records.writer import read_done, verify_done


@dataclass(frozen=True, slots=True)
class Found:
    """A run directory.

    Attributes:
        paths: Its files.
        named: The user named it, rather than a folder or pattern that holds it: it is never passed over.
    """

    paths: RunPaths
    named: bool


def find_runs(given: Iterable[str | Path]) -> list[Found]:
    """Run directories, study folders (any folder above runs) and patterns, as run directories in order.

    Raises:
        UsageError: Nothing given, or a URL.
        MissingError: A folder is not there, or holds no run.
    """
    found: dict[Path, Found] = {}
    words = list(given)
    if not words:
        raise UsageError("name a run directory, a study folder, or a pattern")
    for word in words:
        path = local(word)
        if path.is_dir():
            runs, named = _below(path), _is_run(path)
        elif glob.has_magic(str(word)):
            runs = [
                run for match in sorted(glob.glob(str(word), recursive=True)) for run in _below(Path(match))
            ]
            named = False
            if not runs:
                raise MissingError(f"no run directory matches {str(word)!r}")
        else:
            what = "is a file, not a run directory" if path.exists() else "does not exist"
            raise MissingError(f"{path} {what}")
        if not runs:
            raise MissingError(
                f"{path} holds no run: a run directory has run.json or samples/epoch=….parquet"
            )
        for run in runs:
            real = run.root.resolve()
            if named and real in found and found[real].named:
                raise UsageError(f"{run.root} is given twice")
            found[real] = Found(run, named or (real in found and found[real].named))
    return list(found.values())


def _is_run(path: Path) -> bool:
    run = RunPaths(path)
    return run.run_json.is_file() or run.done.is_file() or bool(epoch_parts(run.samples))


def _below(path: Path) -> list[RunPaths]:
    if not path.is_dir():
        return []
    if _is_run(path):
        return [RunPaths(path)]
    folders = {file.parent for file in path.rglob("run.json")} | {
        file.parent for file in path.rglob("samples")
    }
    return [RunPaths(folder) for folder in sorted(folders) if _is_run(folder)]


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a run is, as far as its files say.

    Attributes:
        dataset: Data set; empty where it is not said. Likewise the others.
        teacher: Teacher.
        student: Student.
        scheme: Augmentation scheme.
        seed: Seed.
        recipe: Digest of everything but scheme and seed; runs are averaged only where it agrees.
        draws: ``batch`` or ``sample``.
        classes: Number of classes.
        digest: Of the run itself; the same twice is the same run twice.
    """

    dataset: str
    teacher: str
    student: str
    scheme: str
    seed: int | None
    recipe: str
    draws: str
    classes: int | None
    digest: str

    @property
    def key(self) -> tuple[str, ...]:
        """Runs with equal keys are seeds of one thing."""
        return (self.dataset, self.teacher, self.student, self.scheme, self.recipe)

    @property
    def pair(self) -> str:
        """Teacher and student."""
        return f"{self.teacher}/{self.student}" if self.teacher or self.student else ""


def check_done(paths: RunPaths) -> dict[str, Any]:
    """The parts that ``done.json`` lists, once their shapes are right and their sizes are those on disk.

    Raises:
        MissingError: The run is incomplete, or not as its ``done.json`` says.
    """
    parts: dict[str, Any] = read_done(paths)["parts"]
    for name, said in parts.items():
        what = f"{paths.done}: what it says of {name!r}"
        size, rows = (_mapping(said, what).get(key) for key in ("bytes", "rows"))
        if not _is_count(size) or not (rows is None or _is_count(rows)):
            raise MissingError(
                f"{what} has bytes {size!r} and rows {rows!r}; both are whole numbers of 0 or more"
            )
    if problems := verify_done(paths, quick=True):
        raise MissingError(f"{paths.root} is not as its done.json says: {'; '.join(problems[:3])}")
    return parts


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MissingError(f"{what} is damaged: a {type(value).__name__} where a mapping belongs")
    return value


def identify(paths: RunPaths) -> RunIdentity:
    """From ``run.json`` where kdstats trained the student, otherwise from what the Recorder was told.

    Raises:
        MissingError: The run is incomplete or not as its ``done.json`` says, its first part is damaged or foreign, or
            ``run.json`` is damaged.
    """
    parts = epoch_parts(paths.samples)
    if not parts:
        raise MissingError(f"{paths.root} holds no samples (looked for {paths.samples}/epoch=….parquet).")
    check_done(paths)
    with open_part(parts[0][1], "samples") as (_, header):
        said = _mapping(header.meta, f"{parts[0][1]}: its metadata")
        digest = header.digest
    card: dict[str, Any] = {}
    if paths.run_json.is_file():
        try:
            card = _mapping(parse_json(paths.run_json.read_text(encoding="utf-8")), str(paths.run_json))
        except MissingError:
            raise
        except (OSError, ValueError) as error:
            raise MissingError(f"{paths.run_json} is damaged: {error}") from None
    meta, identity = (
        _mapping(said.get(key) or {}, f"{parts[0][1]}: {key!r} of its metadata")
        for key in ("meta", "identity")
    )
    known = {**meta, **identity, **_mapping(card.get("run") or {}, f"{paths.run_json}: 'run'")}
    recipe = card.get("recipe_digest")
    if not recipe:
        # A loop of one's own: runs that say the same of themselves, but for seed and scheme.
        rest = {k: v for k, v in meta.items() if k not in ("seed", "scheme", "digest")}
        settings = {k: v for k, v in said.items() if k not in ("identity", "meta")}
        recipe = hashlib.sha256(json.dumps([rest, settings], sort_keys=True).encode()).hexdigest()
    seed = known.get("seed")
    dataset, teacher, student, scheme, draws = (
        str(known.get(name) or "") for name in ("dataset", "teacher", "student", "scheme", "draws")
    )
    return RunIdentity(
        dataset=dataset,
        teacher=teacher,
        student=student,
        scheme=scheme,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        recipe=str(recipe),
        draws=draws,
        classes=said.get("classes"),
        digest=digest,
    )


def refuse_twice(runs: Iterable[tuple[RunPaths, RunIdentity]]) -> None:
    """Raises ``UsageError`` for copies of one run: counted twice it would shrink standard errors for nothing."""
    seen: dict[tuple[object, ...], RunPaths] = {}
    for paths, run in runs:
        key = (run.digest, *run.key, run.seed)
        if key in seen:
            raise UsageError(
                f"{seen[key].root} and {paths.root} are the same run (scheme {run.scheme or '?'}, seed {run.seed}, "
                f"digest {run.digest[:8]})"
            )
        seen[key] = paths
