"""``kdstats correlate``: correlation done right for any table of numbers, and for the published panels."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdstats.errors import CheckError, UsageError
from kdstats.tables import check_format

if TYPE_CHECKING:
    from kdstats.cli.correlate_answer import Answer, Source


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
        None, "--x-se", help="Column with standard errors of x, drawn as error bars by --plot.", metavar="COL"
    ),
    y_se: str | None = typer.Option(
        None, "--y-se", help="Column with standard errors of y, drawn as error bars by --plot.", metavar="COL"
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
    plot: Path | None = typer.Option(
        None, help="Also save a scatter figure, one panel per group: .png, .pdf or .svg.", metavar="FILE"
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
    better: str = typer.Option(
        "lowest",
        help="Which end of y is better: lowest (a loss) or highest (an accuracy).",
        metavar="END",
    ),
    seed: int = typer.Option(
        0, help="Seed of the random pairings and resamples; the same seed gives the same numbers."
    ),
) -> int:
    """Pearson, Spearman and Kendall with intervals, p-values and n, for each panel of a table.

    Example: kdstats correlate study.csv --x t_stddev --y test_loss --group pair --label scheme
    """
    from kdstats.cli.correlate_answer import compute, file_source, published_source, render

    request = Request(
        file, x, y, group, label, x_se, y_se, published, fmt, plot, interval, confidence, choose, better, seed
    )  # fmt: skip
    request.check()
    source = published_source(request) if published is not None else file_source(request)
    answer = compute(request, source)
    typer.echo(render(request, source, answer), nl=False)
    if plot is not None:
        _plot(request, source, answer, plot)
    if answer.unreproduced:
        raise CheckError("not all printed numbers are reproduced: " + "; ".join(answer.unreproduced))
    return 0


@dataclass(frozen=True, slots=True)
class Request:
    """The options as given."""

    file: Path | None
    x: str | None
    y: str | None
    group: str | None
    label: str | None
    x_se: str | None
    y_se: str | None
    published: str | None
    fmt: str
    plot: Path | None
    interval: str
    confidence: float
    choose: str
    better: str
    seed: int

    def check(self) -> None:
        """Refuses options that contradict each other, before anything is read or computed."""
        from kdstats.association.intervals import check_interval
        from kdstats.estimators.intervals import check_confidence

        check_format(self.fmt)
        check_interval(self.interval)
        check_confidence(self.confidence)
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, got {self.seed}")
        if (self.file is None) == (self.published is None):
            what = "both FILE and --published are given" if self.file else "nothing to correlate"
            raise UsageError(f"{what}: name a table, or use --published wang2022")
        if self.published is not None:
            mine = {"--x": self.x, "--y": self.y, "--group": self.group, "--label": self.label}
            mine |= {"--x-se": self.x_se, "--y-se": self.y_se}
            given = [name for name, value in mine.items() if value is not None]
            if given:
                raise UsageError(f"{given[0]} belongs to a FILE; --published has its own columns")
        elif self.x is None or self.y is None:
            missing = " and ".join(n for n, v in (("--x", self.x), ("--y", self.y)) if v is None)
            raise UsageError(f"{missing} not given: name the columns of the predictor and the outcome")
        if self.plot is None and (self.x_se or self.y_se):
            raise UsageError("--x-se and --y-se are drawn by --plot; give --plot FILE too")
        if self.plot is not None:
            from kdstats.figures.style import check_path

            check_path(self.plot)

    def command(self) -> str:
        """The command line that gives this result again."""
        words = ["kdstats", "correlate"]
        if self.file is not None:
            words.append(str(self.file))
        pairs = {
            "--published": self.published,
            "--x": self.x,
            "--y": self.y,
            "--group": self.group,
            "--label": self.label,
            "--x-se": self.x_se,
            "--y-se": self.y_se,
            "--plot": self.plot,
        }
        words += [part for name, value in pairs.items() if value is not None for part in (name, str(value))]
        words += [
            "--interval",
            self.interval,
            "--confidence",
            f"{self.confidence:g}",
            "--choose",
            self.choose,
        ]
        words += ["--better", self.better, "--seed", str(self.seed), "--format", self.fmt]
        return shlex.join(words)


def _plot(request: Request, source: Source, answer: Answer, path: Path) -> None:
    from kdstats.figures.correlation import correlation_figure
    from kdstats.figures.style import save

    study = source.study
    figure, facts = correlation_figure(
        source.table,
        x=source.x,
        y=source.y,
        group=source.groups,
        label=source.label,
        x_se=request.x_se,
        y_se="test_loss_std" if study is not None else request.y_se,
        results=answer.results,
        x_name=source.x_name,
        y_name=source.y_name,
        titles=source.names,
        bars="± 1 standard error"
        if study is None
        else "± 1 standard deviation over runs, inferred from marker areas",
        source="" if study is None else study.citation,
    )
    typer.echo(f"figure: {save(figure, path)}\ncaption: {facts.caption()}", err=True)
