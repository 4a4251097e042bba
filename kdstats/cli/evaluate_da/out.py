"""The folder that ``kdstats evaluate-da --out`` writes: document, batch means, figure and page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdstats.errors import UsageError
from kdstats.json_text import parse_json
from kdstats.records.atomic import write_bytes_atomic

if TYPE_CHECKING:
    from kdstats.teacher.evaluation import Evaluation

RESULT, POOLS, FIGURE, PAGE = FILES = ("result.json", "pools.parquet", "convergence.png", "index.html")
ORIGINALS = "original"


def check_folder(folder: Path) -> None:
    """Refuses, before anything is computed, a folder in which something of others would be lost.

    Only files of an earlier evaluation are ever replaced, and ``result.json`` tells whether they are that.
    Other files may lie beside them and stay.

    Raises:
        UsageError: ``folder`` is a file, or holds a file under one of our names that is not ours.
    """
    at = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not at.is_dir():
        raise UsageError(f"--out {folder}: {at} is a file; name a folder")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not _is_ours(folder / RESULT):
        raise UsageError(
            f"--out {folder} already holds {there[0]}, which no kdstats evaluate-da wrote; name another "
            "folder"
        )


def _is_ours(path: Path) -> bool:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and str(found.get("schema", "")).startswith("kdstats/evaluate-da/")


def write_folder(
    folder: Path, evaluation: Evaluation, document: Mapping[str, Any], reproduce: str, data_note: str
) -> list[Path]:
    """Writes the four files, each whole or not at all, and returns their paths.

    Args:
        folder: Made if it is not there.
        evaluation: What was measured.
        document: Its document.
        reproduce: The command that gives it again.
        data_note: Why this data set, where the user did not say so.

    Raises:
        UsageError: See :func:`check_folder`.
        KdstatsError: A file cannot be written.
    """
    from kdstats.pages.evaluate_da import render
    from kdstats.pages.evaluate_da_facts import worth
    from kdstats.tables import to_json

    check_folder(folder)
    said = worth(document["shared"]["seed"])
    page = render(document, evaluation.convergence, reproduce=reproduce, worth=said, data_note=data_note)
    picture = _picture(evaluation)
    # The document first: from then on the folder is known to be ours, whatever happens.
    write_bytes_atomic(folder / RESULT, to_json(document).encode())
    _write_pools(folder / POOLS, evaluation, document)
    write_bytes_atomic(folder / FIGURE, picture)
    write_bytes_atomic(folder / PAGE, page.encode())
    return [folder / name for name in FILES]


def _picture(evaluation: Evaluation) -> bytes:
    from kdstats._version import __version__
    from kdstats.figures.convergence import convergence_figure
    from kdstats.figures.style import style

    figure, _ = convergence_figure(evaluation.convergence, confidence=evaluation.setting.confidence)
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", metadata={"Software": f"kdstats {__version__}"})
    return buffer.getvalue()


def _write_pools(path: Path, evaluation: Evaluation, document: Mapping[str, Any]) -> None:
    """One row per batch and scheme, and one per batch of originals (scheme ``original``), which all share."""
    import numpy as np

    from kdstats.records.part import write_table

    blocks = {ORIGINALS: evaluation.batch_means[ORIGINALS]}
    blocks |= {result.scheme: evaluation.batch_means[result.scheme] for result in evaluation.results}
    sizes = evaluation.view_sizes
    counts = [len(block) for block in blocks.values()]  # a scheme stops when its interval is narrow enough
    data = {
        "epoch": np.concatenate([np.array(evaluation.epoch[:n], dtype=np.int32) for n in counts]),
        "step": np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        "n": np.concatenate([np.array(sizes[name], dtype=np.int32) for name in blocks]),
        "view": np.repeat([ORIGINALS if name == ORIGINALS else "augmented" for name in blocks], counts),
        "mean_prob": np.concatenate(list(blocks.values())),
        "scheme": np.repeat(list(blocks), counts),
    }
    meta = {
        "kind": "evaluate-da",
        "scheme": f"the scheme of the views; {ORIGINALS!r}: the originals of the batch, shared by all",
        **{key: document[key] for key in ("definition", "teacher", "dataset")},
        "seed": document["shared"]["seed"],
    }
    write_table(path, "pools", data, meta=meta)
