"""What travels to other machines: the code as it is now, and weights that they can open."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kdstats.errors import UsageError
from kdstats.provenance import sha256_file
from kdstats.records.atomic import write_bytes_atomic
from kdstats.teacher.sources import is_file_source
from runners.run_spec import RunSpec

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("kdstats", "runners")


def ship_code(study: Path) -> Path:
    """A copy of the code below the study's folder: jobs that start later run what was planned.

    Returns:
        The folder to put on ``PYTHONPATH``; it is named after its content, so the same code is copied once.
    """
    files = [
        path
        for package in _PACKAGES
        for path in sorted((_ROOT / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted = {path.relative_to(_ROOT).as_posix(): sha256_file(path) for path in files}
    digest = hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in wanted.items()).encode())
    target = study.resolve() / ".code" / digest.hexdigest()[:12]
    if ":" in str(target):
        raise UsageError(
            f"{study} has a colon in its path, which parts the entries of PYTHONPATH; choose another --out"
        )
    # The folder may be another's, or damaged: what lies there is believed only if it is the code, and nothing but it.
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
    there = {
        path.relative_to(target).as_posix(): path for path in sorted(target.rglob("*")) if not path.is_dir()
    }
    for name in there.keys() - wanted.keys():
        there[name].unlink()
    for name, sha in wanted.items():
        copy = there.get(name)
        if copy is None or copy.is_symlink() or sha256_file(copy) != sha:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(target / name, (_ROOT / name).read_bytes())
    return target


def ship_specs(specs: Iterable[RunSpec], study: Path) -> list[RunSpec]:
    """The specs with paths that hold from any folder of any machine that sees the study's folder.

    Weights from outside are copied into ``teachers/``; neither they nor the place of the data enter a digest.
    """
    placed: dict[str, str] = {}
    shipped = []
    for spec in specs:
        if spec.teacher_weights not in placed:
            placed[spec.teacher_weights] = _place(spec, study.resolve())
        data = None if spec.data is None else str(Path(spec.data).resolve())
        shipped.append(replace(spec, teacher_weights=placed[spec.teacher_weights], data=data))
    return shipped


def _place(spec: RunSpec, study: Path) -> str:
    if not is_file_source(spec.teacher_weights):
        return spec.teacher_weights
    weights = Path(spec.teacher_weights).resolve()
    if weights.is_relative_to(study):
        return str(weights)
    copy = study / "teachers" / f"{spec.teacher_sha256[:12]}{weights.suffix}"
    for source in (weights, weights.with_suffix(".json")):  # its card, where there is one
        if source.is_file():
            write_bytes_atomic(copy.with_suffix(source.suffix), source.read_bytes())
    return str(copy)


def environment(code: Path) -> dict[str, str]:
    """Variables for the workers: the shipped code comes first, and what the user set for kdstats goes along."""
    own = {k: v for k, v in os.environ.items() if k.startswith("KDSTATS_")}
    return own | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
