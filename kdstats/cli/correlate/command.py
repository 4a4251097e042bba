"""``kdstats correlate``: correlation done right for any table of numbers, and for the published panels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdstats.cli.correlate.request import Request
from kdstats.errors import CheckError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdstats.cli.correlate.answer import Answer
    from kdstats.cli.correlate.source import Source
    from kdstats.figures.correlation import CorrelationFacts


def command(
    file: Path | None = typer.Argument(
        None,
        metavar="FILE",
        help="Table with one row per point: .csv, .tsv or .parquet; the first line names the columns.",
        show_default=False,
    ),
    x: str | None = typer.Option(None, help="Column of the predictor, e.g. t_stddev.", metavar="COL"),
    y: str | None = typer.Option(None, help="Column of the outcome, e.g. test_loss.", metavar="COL"),
    group: str | None = typer.Option(
        None,
        help="Columns that tell panels apart, separated by commas; each panel is correlated on its own.",
        metavar="COLS",
    ),
    label: str | None = typer.Option(
        None,
        help="Column that names the points, e.g. scheme; used in results and in the figure.",
        metavar="COL",
    ),
    x_se: str | None = typer.Option(
        None,
        "--x-se",
        help="Column with standard errors of x: slope and correlation are corrected for them, and --plot draws them. "
        "A spread over seeds is not one: divide it by the root of their number. The word repeats takes the spread over "
        "rows of one label.",
        metavar="COL",
    ),
    y_se: str | None = typer.Option(
        None, "--y-se", help="Column with standard errors of y, alike.", metavar="COL"
    ),
    given: str | None = typer.Option(
        None,
        help="Rival predictors, separated by commas, to hold fixed in partial correlations, e.g. entropy.",
        metavar="COLS",
    ),
    repeats: str = typer.Option(
        "mean",
        help="Several rows of one label in a panel (seeds): mean (they are averaged to one point) or keep (each row is "
        "taken as a point, with a note).",
        metavar="NAME",
    ),
    cluster: str | None = typer.Option(
        None,
        help="Columns whose values tell apart what may err together in the regression across panels, e.g. teacher; by "
        "default the panels, and the labels where panels share them.",
        metavar="COLS",
    ),
    published: str | None = typer.Option(
        None,
        help="Correlate a published study instead of a file and check it against its print: wang2022.",
        metavar="NAME",
    ),
    fmt: str = typer.Option(
        "table",
        "--format",
        help="table (for reading), json (one document with everything), csv (coefficients), md or latex.",
        metavar="FORMAT",
    ),
    show: str | None = typer.Option(
        None,
        help="Sections to print, separated by commas: panels (every coefficient), across, choice, errors, given, "
        "without (leave-one-out), mixed, or all. csv prints one.",
        metavar="SECTIONS",
    ),
    plot: Path | None = typer.Option(
        None, help="Also save a scatter figure, one panel per group: .png, .pdf or .svg.", metavar="FILE"
    ),
    out: Path | None = typer.Option(
        None,
        help="Also write a page with everything: index.html, result.json and points.csv in this folder.",
        metavar="DIR",
    ),
    interval: str = typer.Option(
        "z",
        help="Interval of a coefficient: z (normal theory, covers best at few points) or bca (bootstrap).",
        metavar="NAME",
    ),
    confidence: float = typer.Option(0.95, help="Confidence of all intervals, between 0 and 1."),
    choose: str = typer.Option(
        "lowest",
        help="Which end of x would be chosen when asking what the choice costs: lowest or highest.",
        metavar="END",
    ),
    better: str | None = typer.Option(
        None,
        help="Which end of y is better: lowest (a loss; so by default) or highest (an accuracy).",
        metavar="END",
    ),
    seed: int = typer.Option(
        0, help="Seed of the random pairings and resamples; the same seed gives the same numbers."
    ),
) -> int:
    """Pearson, Spearman and Kendall with intervals, p-values and n, for each panel of a table.

    Example: kdstats correlate study.csv --x t_stddev --y test_loss --group pair --label scheme
    """
    from kdstats.cli.correlate.answer import compute
    from kdstats.cli.correlate.render import render
    from kdstats.cli.correlate.source import file_source, published_source

    request = Request(
        file, x, y, group, label, x_se, y_se, given, cluster, published, fmt, show, plot, interval, confidence, choose,
        better or "lowest", seed, repeats, better is not None,
    )  # fmt: skip
    request.check()
    source = published_source(request) if published is not None else file_source(request)
    answer = compute(request, source)
    typer.echo(render(request, source, answer), nl=False)
    if plot is not None:
        _plot(request, source, answer, plot)
    if out is not None:
        from kdstats.cli.correlate.out import write_out

        # A page shows every section; what the terminal shows must not depend on whether one is written.
        full = replace(request, fmt="json", show=None)
        whole = compute(full, source)
        typer.echo(f"page: {write_out(full, source, whole, _figure(full, source, whole), out)}", err=True)
    if answer.unreproduced:
        raise CheckError("not all printed numbers are reproduced: " + "; ".join(answer.unreproduced))
    return 0


def _plot(request: Request, source: Source, answer: Answer, path: Path) -> None:
    from kdstats.figures.style import save

    figure, facts = _figure(request, source, answer)
    typer.echo(f"figure: {save(figure, path)}\ncaption: {facts.caption()}", err=True)


def _figure(request: Request, source: Source, answer: Answer) -> tuple[Figure, CorrelationFacts]:
    from kdstats.figures.correlation import correlation_figure

    study = source.study
    return correlation_figure(
        source.table,
        x=source.x,
        y=source.y,
        group=source.groups,
        label=source.label,
        x_se=source.x_se,
        y_se="test_loss_std" if study is not None else source.y_se,
        results=answer.results,
        x_name=source.x_name,
        y_name=source.y_name,
        titles=source.panel_names,
        bars="± 1 standard error"
        if study is None
        else "± 1 standard deviation over runs, inferred from marker areas",
        source="" if study is None else study.citation,
    )
