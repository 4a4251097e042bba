"""The folders of a study's runs, and which of them the tables speak of."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from analyses.study.card import networks_of
from analyses.study.loaded import Study
from analyses.study.shape import read_json
from analyses.words import records
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.records.paths import StudyPaths, decode_name
from kdstats.records.scanner import read_runs


@functools.lru_cache(maxsize=4)  # a study in memory is one moment's; several questions walk its folders
def used_folders(study: Study) -> tuple[tuple[str, str, int, Path], ...]:
    """``(pair, scheme, seed, folder)`` of every used run whose folder is there, in the order of :func:`run_folders`.

    A folder may hold runs that the tables do not speak of: with other weights of the teacher, say, or of a variant that
    was taken out again. They are told apart by their digest, in tables without that column by their recipe's.

    Raises:
        CheckError: Two folders of one run, and nothing on record says which of them the tables mean.
    """
    rows: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in records(study.used):
        rows.setdefault((networks_of(row["pair"]), row["scheme"], int(row["seed"])), []).append(row)
    folders: dict[tuple[str, str, int], list[Path]] = {}
    for pair, scheme, seed, folder in run_folders(study.paths):
        folders.setdefault((networks_of(pair), scheme, seed), []).append(folder)
    return tuple(
        (str(row["pair"]), key[1], key[2], its)
        for key, there in folders.items()
        for row in rows.get(key, ())
        if (its := _of(row, there, alone=len(rows[key]) == 1)) is not None
    )


def _of(row: dict[str, Any], folders: list[Path], *, alone: bool) -> Path | None:
    digest = row.get("digest")
    if isinstance(digest, str):
        return next((folder for folder in folders if folder.name == digest[:8]), None)
    if alone and len(folders) == 1:
        return folders[0]
    fit = [folder for folder in folders if _recipe_of(folder) == row["recipe_digest"]]
    if len(fit) > 1:
        raise CheckError(
            f"{row['pair']}, {row['scheme']}, seed {row['seed']} has {len(fit)} folders of one recipe, and the tables do "
            "not say which is meant; `python -m runners.study run` writes them anew"
        )
    return fit[0] if fit else None


def _recipe_of(folder: Path) -> str:
    try:
        return str(read_json(folder / "run.json", "card of a run").get("recipe_digest"))
    except MissingError:
        return ""


def run_folders(paths: StudyPaths) -> list[tuple[str, str, int, Path]]:
    """``(pair, scheme, seed, folder)`` of every run directory on disk, pairs as in the tables."""
    variant_of = _variants(paths)
    out = []
    # As StudyPaths.iter_runs finds them, but each name is read once: a study may have ten thousand runs.
    for pair, folder in _below(paths.run_root):
        sides = [_decoded(side) for side in pair.split("__")]
        if len(sides) != 2 or None in sides:
            continue
        for scheme, inner in _below(folder):
            name = _decoded(scheme)
            for seed, seeded in _below(inner) if name is not None else ():
                if not _SEED.fullmatch(seed):
                    continue
                for digest, root in _below(seeded):
                    if _DIGEST.fullmatch(digest):
                        variant = f" [{variant_of[digest]}]" if digest in variant_of else ""
                        label = f"{sides[0]}/{sides[1]}{variant}"
                        out.append((label, str(name), int(seed.removeprefix("seed=")), root))
    return out


# A run's directory, as kdstats.records.paths reads it.
_SEED = re.compile(r"seed=-?(?:0|[1-9][0-9]*)")
_DIGEST = re.compile(r"[0-9a-f]{8}")


def _below(folder: Path) -> list[tuple[str, Path]]:
    """Name and path of the folders in ``folder``, in the order of their names."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_dir(entry))
    except OSError:
        return []
    return [(name, folder / name) for name in names]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _decoded(folder: str) -> str | None:
    """The name that a folder stands for; None for a foreign one."""
    try:
        return decode_name(folder)
    except UsageError:
        return None


def _variants(paths: StudyPaths) -> dict[str, str]:
    """First digits of a run's digest → its variant; empty for a study without variants."""
    if not paths.runs.is_file():
        return {}
    runs = read_runs(paths)
    if not {"variant", "digest"} <= set(runs) or runs["variant"].isna().all():
        return {}
    return {str(digest)[:8]: str(v) for digest, v in zip(runs["digest"], runs["variant"], strict=True)}
