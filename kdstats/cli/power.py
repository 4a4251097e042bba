"""``kdstats power``: how many seeds, schemes and pairs a question needs, and what a planned study can show."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from kdstats.errors import MissingError, UsageError
from kdstats.tables import check_format

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

app = typer.Typer(
    help="Plan a study: seeds needed to see a gap, schemes and pairs needed to see a correlation, or what a planned "
    "study can show."
)


def _number(text: str) -> float:
    """A number from the command line; says how to write one that has a decimal comma or a percent sign."""
    from kdstats.association.number_text import what_is_wrong

    try:
        return float(text)
    except ValueError:
        remedy = what_is_wrong(text)
        raise typer.BadParameter(f"{text!r} is no number{f', {remedy}' if remedy else ''}") from None


_TARGET = typer.Option(0.8, "--power", help="Power to reach, between alpha and 1.")
_ALPHA = typer.Option(0.05, help="Two-sided level, for all comparisons together.")
_COMPARISONS = typer.Option(1, help="Number of comparisons that alpha is divided over.")
_ADJUST = typer.Option(
    "holm",
    help="holm (planned at its first step, where it is bonferroni's), bonferroni, or none.",
    metavar="NAME",
)
_FORMAT = typer.Option(
    "table",
    "--format",
    help="table (for reading), json (one document with the curves), csv (full precision), md or latex.",
    metavar="FORMAT",
)
_PLOT = typer.Option(None, help="Also save the power curve: .png, .pdf or .svg.", metavar="FILE")


@app.callback(invoke_without_command=True, no_args_is_help=True)
def _room() -> None:
    pass


@app.command("gap")
def gap_command(
    gap: list[float] = typer.Option(
        [],
        help="Difference between two schemes to be seen, unit of the outcome; can be repeated.",
        show_default=False,
        parser=_number,
        metavar="NUMBER",
    ),
    seeds: list[int] = typer.Option([], help="Seeds of each scheme; can be repeated.", show_default=False),
    sd: float | None = typer.Option(
        None, help="Standard deviation over seeds of one scheme.", parser=_number, metavar="NUMBER"
    ),
    correlation: float | None = typer.Option(
        None,
        help="Of two schemes' outcomes over common seeds, if they are compared seed by seed; goes with --sd.",
        show_default=False,
    ),
    df: float | None = typer.Option(
        None, help="Degrees of freedom behind --sd (its seeds less one); without it the sd is taken as known."
    ),
    runs: Path | None = typer.Option(
        None,
        help="Pilot runs instead of --sd: a study's folder, a folder of complete runs, or a .csv, .tsv or .parquet with "
        "one row a run.",
    ),
    value: str = typer.Option("test_loss_last", help="Column of the outcome in --runs.", metavar="COL"),
    scheme: str = typer.Option("scheme", help="Column of the scheme in --runs.", metavar="COL"),
    seed: str = typer.Option("seed", help="Column of the seed in --runs.", metavar="COL"),
    group: str | None = typer.Option(
        None,
        help="Columns of --runs that tell pairs apart, separated by commas; by default those of dataset, teacher, "
        "student, pair that are there.",
        metavar="COLS",
    ),
    unpaired: bool = typer.Option(
        False, "--unpaired", help="Compare the schemes of --runs without pairing them by seed."
    ),
    pooled: int = typer.Option(2, help="Schemes whose spread the test pools; 2 is the plain t test."),
    target: float = _TARGET,
    alpha: float = _ALPHA,
    comparisons: int = _COMPARISONS,
    adjust: str = _ADJUST,
    confidence: float = typer.Option(0.95, help="Of the interval that the pilot's uncertain spread leaves."),
    fmt: str = _FORMAT,
    plot: Path | None = _PLOT,
) -> int:
    """Seeds needed to see a gap (give --gap), the smallest gap (give --seeds), or the power (give both).

    Example: kdstats power gap --gap 0.01 --runs out/my-study --comparisons 8
    """
    from kdstats.association.pilot import GROUPS, Spread, spread_of
    from kdstats.association.power_gap import gap_power, with_unpaired

    _check(fmt, plot, max(len(gap), 1) * max(len(seeds), 1))
    if (sd is None) == (runs is None):
        raise UsageError("the spread over seeds is needed once: --sd, or --runs of a pilot")
    if runs is not None and (correlation is not None or df is not None):
        raise UsageError("--correlation and --df go with --sd; --runs brings its own")
    if not gap and not seeds:
        raise UsageError(
            "give --gap (to learn the seeds), --seeds (to learn the smallest gap), or both (power)"
        )
    if sd is not None and unpaired:
        raise UsageError(
            "--unpaired goes with --runs; with --sd schemes are paired where --correlation is given"
        )
    if runs is not None:
        table, said = _table(runs)
        columns = None if group is None else [name.strip() for name in group.split(",") if name.strip()]
        if columns is None and "recipe" in table.columns:
            columns = [name for name in (*GROUPS, "recipe") if name in table.columns]
        names: dict[str, Any] = {"value": value, "scheme": scheme, "seed": seed, "group": columns}
        spread = spread_of(table, **names, paired=not unpaired)
        spread = replace(spread, notes=(*said, *spread.notes))
    else:
        spread = Spread.given(
            sd if sd is not None else 0.0,
            correlation=correlation,
            df=float("inf") if df is None else df,
        )
    plans = [
        gap_power(
            spread,
            gap=g,
            seeds=n,
            target=target,
            alpha=alpha,
            comparisons=comparisons,
            adjust=adjust,
            pooled=pooled,
            confidence=confidence,
        )
        for g in _each(gap)
        for n in _each(seeds)
    ]
    if runs is not None and not unpaired:
        alone = spread_of(table, **names, paired=False)
        plans = [with_unpaired(plan, alone) for plan in plans]
    from kdstats.cli.power_text import gap_answer, plot_to

    typer.echo(gap_answer(plans, fmt, _command()), nl=False)
    if plot is not None:
        plot_to(plot, plans)
    return 0


@app.command("correlation")
def correlation_command(
    r: list[float] = typer.Option(
        [],
        help="True correlation within a pair; can be repeated.",
        show_default=False,
        parser=_number,
        metavar="NUMBER",
    ),
    schemes: list[int] = typer.Option([], help="Schemes in a pair; can be repeated.", show_default=False),
    pairs: list[int] = typer.Option(
        [],
        help="Teacher-student pairs; can be repeated. Left out with --r and --schemes, it is solved for.",
        show_default=False,
    ),
    tau: float = typer.Option(0.0, help="Spread of the true correlations over pairs, on Fisher's z scale."),
    reliability: float = typer.Option(
        1.0, help="Share of the outcome's variance over schemes that is not noise over seeds."
    ),
    target: float = _TARGET,
    alpha: float = _ALPHA,
    comparisons: int = _COMPARISONS,
    adjust: str = _ADJUST,
    fmt: str = _FORMAT,
    plot: Path | None = _PLOT,
) -> int:
    """Schemes or pairs needed to see a correlation, the smallest one a design shows, or its power.

    Example: kdstats power correlation --r 0.8
    """
    from kdstats.association.power_correlation import correlation_power

    _check(fmt, plot, max(len(r), 1) * max(len(schemes), 1) * max(len(pairs), 1))
    if not r and not schemes:
        raise UsageError("give --r (to learn the schemes), --schemes (to learn the smallest r), or both")
    plans = [
        correlation_power(
            r=size,
            schemes=n,
            pairs=k,
            tau=tau,
            reliability=reliability,
            target=target,
            alpha=alpha,
            comparisons=comparisons,
            adjust=adjust,
        )
        for size in _each(r)
        for n in _each(schemes)
        for k in _each(pairs)
    ]
    from kdstats.cli.power_text import correlation_answer, plot_to

    typer.echo(correlation_answer(plans, fmt, _command()), nl=False)
    if plot is not None:
        plot_to(plot, plans)
    return 0


def _check(fmt: str, plot: Path | None, plans: int) -> None:
    check_format(fmt)
    if plot is not None:
        from kdstats.figures.power import MOST
        from kdstats.figures.style import check_path

        check_path(plot)
        if plans > MOST:
            raise UsageError(f"--plot shows up to {MOST} plans, not {plans}; ask for fewer at a time")


def _command() -> str:
    return shlex.join(["kdstats", *sys.argv[1:]])


def _each(given: Sequence[T]) -> Sequence[T | None]:
    """What was given, or one None: to be solved for."""
    return given or [None]


def _table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Runs from a study's folder, a folder of runs or a file, and what there is to say of how they were read."""
    if path.is_dir():
        from kdstats.records.paths import StudyPaths
        from kdstats.records.scanner import read_runs

        table = StudyPaths(path).runs
        if table.is_file():
            return read_runs(path), []
        from kdstats.recorded.outcomes import read_outcomes

        try:
            found, notes = read_outcomes(path)
        except MissingError as error:
            raise MissingError(
                f"{path} has no {table.name}, and no runs to read instead ({error}); name a study's folder, a folder of "
                "complete runs, or a .csv with one row a run: scheme, seed and the outcome (--value)"
            ) from None
        return found, [f"{len(found)} runs read from their folders; there is no {table.name}", *notes]
    from kdstats.association.reading import read_with_layout

    frame, layout = read_with_layout(path)
    return frame, [layout] if layout else []
