"""May a Recorder record into this directory? A fresh one, one to go on with, one to overwrite."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdstats._version import __version__
from kdstats.errors import UsageError
from kdstats.json_text import parse_json
from kdstats.records.arrow import open_part
from kdstats.records.atomic import clean_temps, write_json_atomic
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.writer import split_pools

RUN_VERSION = "kdstats/run/1"


def claim(
    paths: RunPaths,
    settings: Mapping[str, Any],
    meta: Mapping[str, Any],
    digest: str,
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[str, bool]:
    """Make the directory ready for recording.

    Temporary files of dead processes are removed, pools that were merged too early come apart again, and
    ``run.json`` is written unless a runner keeps one of its own there.

    Args:
        paths: The run.
        settings: What must not change within a run.
        meta: What the user said about the run.
        digest: Digest of the run, unless it began with another one.
        resume: Go on with what is there.
        overwrite: Delete what is there.

    Returns:
        The digest of the run, and whether there is something to go on with.

    Raises:
        UsageError: The directory holds records and neither option was given, or the settings differ.
        MissingError: The first part is damaged.
    """
    if paths.root.is_dir():
        clean_temps(paths.root)
    old = epoch_parts(paths.samples)
    resumed = False
    if overwrite:
        paths.done.unlink(missing_ok=True)  # first, so that no half-deleted run looks complete
        paths.pools.unlink(missing_ok=True)
        shutil.rmtree(paths.pool_parts, ignore_errors=True)
        shutil.rmtree(paths.samples, ignore_errors=True)
    elif paths.done.exists():
        raise UsageError(
            f"{paths.root} holds a complete run; record elsewhere or pass overwrite=True to replace it."
        )
    elif old and not resume:
        raise UsageError(
            f"{paths.root} holds epochs {old[0][0]} … {old[-1][0]} of an unfinished run; pass resume=True "
            "to go on after them or overwrite=True to start afresh."
        )
    elif old:
        digest, resumed = _match(paths, old[0][1], settings, meta, digest), True
    if paths.pools.exists():
        split_pools(paths)
        paths.pools.unlink()
    if overwrite or not paths.run_json.exists():
        _describe(paths, settings, meta, digest)
    return digest, resumed


def _match(
    paths: RunPaths, part: Path, settings: Mapping[str, Any], meta: Mapping[str, Any], digest: str
) -> str:
    """The digest the run began with; refuses to go on with other settings."""
    with open_part(part, "samples") as (_, header):
        then, begun = header.meta, header.digest
    for name, now in settings.items():
        if then.get(name) != now:
            raise UsageError(f"{paths.root} was begun with {name}={then.get(name)!r}, not {now!r}.")
    if "digest" in meta and digest != begun:
        raise UsageError(f"{paths.root} was begun with digest {begun!r}, not {digest!r}.")
    return begun


def _describe(paths: RunPaths, settings: Mapping[str, Any], meta: Mapping[str, Any], digest: str) -> None:
    if paths.run_json.exists():
        try:
            ours = parse_json(paths.run_json.read_text(encoding="utf-8")).get("recorder") is True
        except (ValueError, AttributeError, OSError):
            ours = False
        if not ours:
            return
    record = {"schema": RUN_VERSION, "recorder": True, "kdstats": __version__, "digest": digest}
    write_json_atomic(paths.run_json, record | dict(settings) | {"meta": dict(meta)})
