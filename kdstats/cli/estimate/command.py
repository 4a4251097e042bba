"""``kdstats estimate``: from the records of training runs to covariance, T. stddev and variance components."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdstats.cli.estimate.request import Request
from kdstats.errors import IncompleteError

if TYPE_CHECKING:
    from kdstats.cli.estimate.answer import Answer


def command(
    runs: list[str] = typer.Argument(
        ...,
        metavar="RUN_DIR…",
        help="Run directories, study folders (all complete runs in them), or patterns in quotes.",
        show_default=False,
    ),
    by: str = typer.Option("scheme", help="scheme (over seeds), run, or epoch.", metavar="NAME"),
    epochs: str | None = typer.Option(
        None,
        help="Recorded epochs A:B, both included, either may be left out; ':' is all. By default the last quarter, as "
        "in a study's tables; all with --by epoch.",
        metavar="A:B",
    ),
    components: str = typer.Option(
        "anova",
        help="Variance components by image, view, batch and epoch: anova (closed form), reml (likelihood) or none.",
        metavar="NAME",
    ),
    confidence: float = typer.Option(0.95, help="Confidence of all intervals, between 0 and 1."),
    fmt: str = typer.Option(
        "table",
        "--format",
        help="table (for reading), json (one document with everything), csv (one row per number), md or latex.",
        metavar="FORMAT",
    ),
    plot: Path | None = typer.Option(
        None,
        help="Also save a figure: mean covariance and components per scheme, or along the epochs with --by epoch; "
        ".png, .pdf or .svg.",
        metavar="FILE",
    ),
) -> int:
    """Covariance of the teacher–student cross-entropy, T. stddev and variance components from recorded runs.

    Example: kdstats estimate runs/my-study --format md
    """
    from kdstats.cli.estimate.answer import compute, reasons
    from kdstats.cli.estimate.render import render

    request = Request(tuple(runs), by, epochs, components, confidence, fmt, plot)
    request.check()
    answer = compute(request)
    typer.echo(render(request, answer), nl=False)
    if plot is not None:
        _plot(request, answer, plot)
    if answer.refused:
        count = len(answer.refused)
        raise IncompleteError(
            f"{count} run{'s are' if count > 1 else ' is'} left out: {reasons(answer.refused)}"
        )
    return 0


def _plot(request: Request, answer: Answer, path: Path) -> None:
    from kdstats.figures.estimates import epochs_figure, schemes_figure
    from kdstats.figures.style import save

    draw = epochs_figure if request.by == "epoch" else schemes_figure
    figure, facts = draw(answer.frame(request.by), confidence=request.confidence)
    typer.echo(f"figure: {save(figure, path)}\ncaption: {facts.caption()}", err=True)
