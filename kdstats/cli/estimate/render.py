"""The answer of ``kdstats estimate`` as text, as rows in CSV, or as the whole document in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdstats.cli.estimate.text import page
from kdstats.provenance import provenance
from kdstats.tables import to_json, write

if TYPE_CHECKING:
    from kdstats.cli.estimate.answer import Answer
    from kdstats.cli.estimate.request import Request
    from kdstats.recorded.estimate import RunEstimate

SCHEMA = "kdstats/estimate/1"


def render(request: Request, answer: Answer) -> str:
    """The answer in the format asked for."""
    from kdstats.recorded.summary import COLUMNS

    if request.fmt == "json":
        return to_json(_document(request, answer))
    if request.fmt == "csv":
        return write("csv", [row.to_dict() for row in answer.rows], COLUMNS)
    return page(request, answer)


def _document(request: Request, answer: Answer) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "definition": {
            "by": request.by,
            "epochs": request.epochs or ("all" if request.by == "epoch" else "last quarter of the recorded"),
            "observation": "one full training step, originals and views; shorter steps left out",
            "variances": "within epochs",
            "temperature": 1.0,
            "components": request.components,
            "confidence": request.confidence,
            "over_seeds": "mean over runs of one recipe, Student's t with n − 1 degrees of freedom; "
            "T. stddev: geometric mean of the bias-corrected values, t on the log scale",
        },
        "results": [row.to_dict() for row in answer.rows],
        "runs": [_run(run) for run in answer.runs],
        "notes": answer.notes,
        "refused": [{"run": path, "reason": why} for path, why in answer.refused],
        "provenance": provenance() | {"command": request.command()},
    }


def _run(found: RunEstimate) -> dict[str, Any]:
    parts = found.whole.components
    return {
        "run": str(found.paths.root),
        **asdict(found.run),
        "epochs": list(found.epochs),
        "rows": found.rows,
        "steps": found.whole.covariance.observations if found.whole.covariance else 0,
        "definition": found.definition,
        "components": None
        if parts is None
        else {
            "method": parts.method,
            "images": parts.images,
            "views": parts.views,
            "epochs": parts.epochs,
            "batches": parts.batches,
            "dropped": parts.dropped,
            "thinning": found.thinning,
            "joined": list(parts.joined),
            "table": list(parts.table),
        },
        "notes": list(found.notes),
    }
