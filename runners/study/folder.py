"""What a study's folder says about itself: who is at work in it, its settings, its card."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from kdstats.data import LabelledImages
from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.json_text import parse_json
from kdstats.provenance import provenance
from kdstats.records.atomic import write_bytes_atomic, write_error, write_json_atomic
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete
from kdstats.teacher.accuracy import remembered
from kdstats.teacher.network import Network
from runners.claim import Claim
from runners.run_spec import RunSpec
from runners.study.collect import collect
from runners.study.grid import recipe_of
from runners.study.page import complete_folders
from runners.study_file import StudyFile

# A grid may grow; what makes another run of the same pair, scheme and seed may not change under the same tables and
# page: both would lie in the folder, and whatever reads the runs there would take them for one setting.
_FIXED = ("study", "teacher", "train", "kd", "teaching", "log")
# A name is no setting, and a data folder may move: its images are compared themselves.
_FREE = frozenset({"study.name", "study.data"})


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """The folder of a study, made if need be, with this process as its only driver.

    Raises:
        UsageError: Another driver is at work there, or its name cannot be written down.
        KdstatsError: The folder cannot be made or written to.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of the folder {str(out)!r} is not UTF-8, so no table or log can name it"
        ) from None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    with Claim(out) as claim:
        owner = claim.settle()
        if owner is not None:
            raise UsageError(
                f"another process is running the study in {out} ({owner}); wait for it or choose another --out. "
                "`status` shows how far it is."
            )
        for temp in (
            *out.glob(".*.tmp"),
            *(p for f in ("t_stddev", "teachers") for p in (out / f).rglob(".*.tmp")),
        ):
            temp.unlink(missing_ok=True)  # nobody else writes here
        yield


def has_study(out: Path) -> None:
    """Refuses a folder in which no study was begun.

    Raises:
        MissingError: It is not there, or another one.
    """
    if not StudyPaths(out).study_toml.is_file():
        raise MissingError(
            f"no study was begun in {out}; `python -m runners.study run STUDY.toml --out {out}` does"
        )


def keep_settings(study: StudyFile, paths: StudyPaths, images: LabelledImages) -> None:
    """Writes the settings with all overrides as ``study.toml``; refuses a folder that holds another study.

    A folder without any run takes any settings.

    Raises:
        UsageError: ``study.toml`` there, or the images of its runs, differ in what decides the numbers of a run.
    """
    settings = study.model_dump(by_alias=True, exclude_none=True, mode="json")
    card = next(paths.run_root.glob("*/*/*/*/run.json"), None)
    if paths.study_toml.exists() and card is not None:
        before = _known(paths.study_toml)
        changed = [
            f"{section}.{key}"
            for section in _FIXED
            for key in _differing(before.get(section), settings.get(section))
            if f"{section}.{key}" not in _FREE
        ]
        if before.get("grid", {}).get("draws") != study.grid.draws:
            changed.append("grid.draws")
        if before.get("executor", {}).get("threads") != study.executor.threads:
            changed.append("executor.threads")  # the only key there on which numbers depend
        known = {v["name"]: v for v in before.get("variant", ())}
        changed += [f"variant {v['name']!r}" for v in settings["variant"] if known.get(v["name"], v) != v]
        if changed:
            raise UsageError(
                f"{paths.root} holds a study with another {', '.join(changed)} (see {paths.study_toml}); choose another "
                "--out"
            )
        _refuse_other_images(card, images, paths)
    write_bytes_atomic(paths.study_toml, tomli_w.dumps(settings).encode())


def _differing(before: Any, now: Any) -> list[str]:
    before, now = (part if isinstance(part, dict) else {} for part in (before, now))
    return [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]


def _refuse_other_images(card: Path, images: LabelledImages, paths: StudyPaths) -> None:
    """The same settings may find other files in the data's folder; tables would mix what was trained on either."""
    try:
        trained_on = parse_json(card.read_text(encoding="utf-8"))["settings"]["dataset_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # a damaged card is told of where the run is read
    if trained_on != images.digest:
        raise UsageError(
            f"the images have changed since {paths.root} was begun (sha256 {images.digest[:12]}, was {trained_on[:12]}); "
            "bring them back, or choose another --out"
        )


def _known(file: Path) -> dict[str, Any]:
    """Its settings with the defaults of today, so that a key that came since is no difference."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
        return StudyFile.model_validate(raw).model_dump(by_alias=True, exclude_none=True, mode="json")
    except (ValueError, KdstatsError):
        return {}


def gather(
    study: StudyFile,
    paths: StudyPaths,
    sets: tuple[LabelledImages, LabelledImages],
    specs: list[RunSpec],
    teachers: dict[str, Network],
    failed: list[tuple[RunSpec, str]],
    how: dict[str, Any],
    variants: Mapping[str, str],
) -> list[tuple[RunSpec, str]]:
    """Tables and card of every complete run; arguments as of :func:`write_card`.

    Returns:
        ``failed``, and the runs whose parts turned out to be damaged, with one line each.
    """
    # `report` may come while `run` is at its end: each writes tables and card of one moment.
    with Claim(paths.run_root) as claim:
        while claim.attempt() is not None:
            claim.pause()
        # Counted first: a run that ends from here on makes the card look old, never newer than the tables.
        folders = complete_folders(paths.root)
        failed = failed + collect(paths, specs, study.exclude, variants)
        write_card(study, paths, sets, specs, teachers, failed, how, variants, folders)
    return failed


def write_card(
    study: StudyFile,
    paths: StudyPaths,
    sets: tuple[LabelledImages, LabelledImages],
    specs: list[RunSpec],
    teachers: dict[str, Network],
    failed: list[tuple[RunSpec, str]],
    how: dict[str, Any],
    variants: Mapping[str, str],
    folders: int,
) -> None:
    """Writes ``study.json``: what was asked, what there is, what failed.

    Args:
        study: Its file.
        paths: Its files.
        sets: Training and test images.
        specs: All planned runs.
        teachers: By name.
        failed: Runs that failed, with one line each.
        how: When it began, its seconds, where it ran; into the provenance.
        variants: Digest of a run → its variant.
        folders: Runs that were complete below the folder when the tables were begun, those of a larger grid before too;
            see :func:`runners.study.page.up_to_date`.
    """
    train_set, test_set = sets
    write_json_atomic(
        paths.root / "study.json",
        {
            "schema": "kdstats/study-card/1",
            "name": study.study.name,
            "dataset": {
                "name": train_set.name,
                "sha256": train_set.digest,
                "train": len(train_set),
                "test": len(test_set),
                "classes": train_set.classes,
            },
            "pairs": list(study.over_arms("pairs")),
            "schemes": list(study.over_arms("schemes")),
            "seeds": list(study.over_arms("seeds")),
            **({"variants": {name: _arm(arm) for name, arm in study.arms.items()}} if study.variant else {}),
            "draws": study.grid.draws,
            "recipe": _recipe(study),
            "kd": study.kd.fields(),
            "teaching": study.teaching.kind,
            "threads": study.executor.threads,
            "probe": study.probe.model_dump(),
            "teachers": {name: _teacher_card(n, test_set) for name, n in teachers.items()},
            "runs": {
                "planned": len(specs),
                "done": sum(is_complete(spec.paths(paths.root)) for spec in specs),
                "failed": [
                    {"teacher": s.teacher, "student": s.student, "scheme": s.scheme, "seed": s.seed}
                    | ({"variant": variants[s.digest]} if study.variant else {})
                    | {"error": error, "log": str(s.paths(paths.root).log)}
                    for s, error in failed
                ],
            },
            "complete_folders": folders,
            "common_random_numbers": "order, standard augmentation and draws are functions of (seed, epoch, step), "
            "the same for all schemes and pairs",
            "selection": "last epoch",
            "provenance": provenance("cpu") | how,
        },
    )


def _arm(arm: StudyFile) -> dict[str, Any]:
    """What a variant asked for."""
    return {
        "pairs": list(arm.grid.pairs),
        "schemes": list(arm.grid.schemes),
        "seeds": list(arm.grid.seeds),
        "recipe": _recipe(arm),
        "kd": arm.kd.fields(),
        "teaching": None if (teaching := arm.teaching.resolve()) is None else asdict(teaching),
    }


def _recipe(arm: StudyFile) -> dict[str, Any]:
    """The recipe's fields; where students have values of their own, those by student."""
    students = dict.fromkeys(pair.partition("/")[2] for pair in arm.over_arms("pairs"))
    each = {student: asdict(recipe_of(arm, student)) for student in students}
    first = next(iter(each.values()))
    return {
        key: value
        if all(recipe[key] == value for recipe in each.values())
        else {student: recipe[key] for student, recipe in each.items()}
        for key, value in first.items()
    }


def _teacher_card(network: Network, test_set: LabelledImages) -> dict[str, Any]:
    result = remembered(network, test_set)
    return {
        "arch": network.arch,
        "sha256": network.sha256,
        "path": network.source,
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
    }
