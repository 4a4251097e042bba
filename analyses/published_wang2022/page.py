"""The worked analysis of the published study as Markdown, JSON, CSV and one figure."""

from __future__ import annotations

import platform
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas as pd
import scipy

from analyses.published_wang2022.accuracy import CAUTION, LONG, RUNS, dataset_name
from analyses.published_wang2022.claims import claims, findings
from analyses.published_wang2022.reanalysis import QUESTION, X, Y
from analyses.published_wang2022.tables import (
    accuracy_table,
    claim_table,
    contrast_table,
    error_table,
    mean_table,
    panel_table,
)
from analyses.words import records
from kdstats._version import __version__
from kdstats.figures.correlation import CorrelationFacts, correlation_figure
from kdstats.figures.style import save
from kdstats.provenance import git_commit, sha256_file
from kdstats.tables import to_csv, to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analyses.published_wang2022.reanalysis import Panels, Published

SCHEMA = "kdstats/published-wang2022/1"
BARS = "± 1 standard deviation over runs, inferred from marker areas"
CLAIMS_NOTE = "Statements of the paper in our words; the verdict follows from the intervals."
PANELS_NOTE = (
    "r without: the weakest r when one scheme is left out. Holm: over the ten panels, on the p-value of r."
)
ERRORS_NOTE = (
    "Errors of the test loss: standard deviation over runs, inferred from marker areas, over √3; T. stddev taken as "
    "exact. ImageNet is a single run and has none."
)
ACCURACY_NOTE = f"Mean ± standard deviation (n = {RUNS} runs), top-1 in percent. {CAUTION}"
CONTRASTS_NOTE = (
    "Differences between methods, in points, with pairs as the units (t over pairs; two teachers have two students, "
    "so the last column takes teachers as units). Holm: over the contrasts of a data set. Alone: pairs whose own "
    "3-against-3-run interval excludes 0."
)


def write_page(result: Published, out: Path) -> list[Path]:
    """Writes ``README.md, result.json, correlations.csv, contrasts.csv, panels.png`` into ``out``.

    Args:
        result: Of :func:`analyses.published_wang2022.run`.
        out: A folder; made if absent.

    Returns:
        The files, in that order.
    """
    out.mkdir(parents=True, exist_ok=True)
    drawn, facts = figure(result)
    texts = {
        "README.md": markdown(result, facts),
        "result.json": to_json(document(result)),
        "correlations.csv": _csv(result.every.correlations),
        "contrasts.csv": _csv(result.accuracy.contrasts),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [*(out / name for name in texts), save(drawn, out / "panels.png")]


def reproduced(result: Published) -> str:
    """How much there is, and whether the printed numbers follow from it."""
    printed = 6 * len(result.study.titles)
    return (
        "Ten panels (pair on a data set) of nine schemes, and the accuracy tables. "
        f"{printed - len(result.unreproduced)} of {printed} numbers printed above the panels are reproduced."
    )


def figure(result: Published) -> tuple[Figure, CorrelationFacts]:
    """All ten panels with lines, bands and intervals, and the facts of the caption."""
    return correlation_figure(
        result.study.points,
        x=X,
        y=Y,
        group="panel",
        label="scheme",
        y_se="test_loss_std",
        results=result.every.correlations,
        x_name="T. stddev",
        y_name="student test loss (nats)",
        titles=result.study.names(),
        bars=BARS,
        source=result.study.citation,
    )


def provenance(result: Published) -> dict[str, Any]:
    """What made the numbers; no time, so that the same commit writes the same files."""
    root = Path(str(resources.files("kdstats.published")))
    return {
        "version": __version__,
        "git": git_commit(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "pandas": pd.__version__,
        "seed": result.seed,
        "command": f"python -m analyses.published_wang2022 --out DIR --seed {result.seed}",
        "data": {path.name: sha256_file(path) for path in sorted(root.glob("wang2022_*.csv"))},
    }


def document(result: Published) -> dict[str, Any]:
    """Every number, unrounded."""
    return {
        "schema": SCHEMA,
        "question": QUESTION,
        "source": result.study.citation,
        "unreproduced": list(result.unreproduced),
        "claims": [
            {"statement": c.statement, "verdict": c.verdict, "evidence": c.evidence} for c in claims(result)
        ],
        "findings": list(findings(result)),
        "all_schemes": _panels(result.every),
        "without_cutmix_pick": _panels(result.plain),
        "means": _rows(result.means),
        "repeated": result.repeated.to_dict(),
        "repeated_standardised": result.standardised.to_dict(),
        "regression": _rows(result.regression),
        "wild_bootstrap": [
            {"columns": columns, "clusters_by": by, **found.to_dict()}
            for (columns, by), found in result.wild.items()
        ],
        "mixed_model": result.mixed.to_dict(),
        "beyond_the_scheme": _rows(result.beyond),
        "scheme_mean_of_other_panels": result.others.to_dict(),
        "corrected_for_errors": _rows(result.corrected),
        "sensitivity_to_errors": _rows(result.sensitivity),
        "accuracy": {
            "contrasts": _rows(result.accuracy.contrasts),
            "pairs": _rows(result.accuracy.pairs),
            "caution": CAUTION,
        },
        "provenance": provenance(result),
    }


def _panels(found: Panels) -> dict[str, Any]:
    return {
        "correlations": _rows(found.correlations),
        "leave_one_out": _rows(found.leave_one_out),
        "readings": {name: reading.kind for name, reading in found.readings.items()},
        "regret": found.regret.to_dict(),
        "leave_one_pair_out": found.pair_out.to_dict(),
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{k: None if v != v else v for k, v in row.items()} for row in records(frame)]


def _csv(frame: pd.DataFrame) -> str:
    return to_csv(_rows(frame), [str(c) for c in frame.columns])


def markdown(result: Published, facts: CorrelationFacts) -> str:
    """The page."""
    made = provenance(result)
    parts = [
        f"# {result.study.citation}: the published numbers, with intervals",
        f"{QUESTION} {reproduced(result)}",
        "## Claims and what the numbers say",
        CLAIMS_NOTE,
        claim_table(result).write("md"),
        "## What intervals add",
        "\n".join(f"- {text}" for text in findings(result)),
        "## Panels",
        "![Test loss against T. stddev, ten panels](panels.png)",
        facts.caption(),
        panel_table(result).write("md"),
        f"{PANELS_NOTE} Full table: `correlations.csv`.",
        "## Over panels",
        mean_table(result).write("md"),
        "## Errors of measurement",
        error_table(result).write("md"),
        ERRORS_NOTE,
        "## Accuracy tables",
        ACCURACY_NOTE,
        *(f"**{dataset_name(d)}**\n\n{accuracy_table(result, d).write('md')}" for d in LONG),
        CONTRASTS_NOTE,
        contrast_table(result).write("md"),
        "## Provenance",
        "\n".join(f"- {name}: {value}" for name, value in made.items() if not isinstance(value, dict)),
        "\n".join(f"- {name}: sha256 `{digest}`" for name, digest in made["data"].items()),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
