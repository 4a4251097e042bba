"""``kdstats estimate``: from the records of training runs to covariance, T. stddev and variance components."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdstats.errors import IncompleteError, UsageError, unknown
from kdstats.tables import check_format

if TYPE_CHECKING:
    from kdstats.cli.estimate_answer import Answer

BY = ("scheme", "run", "epoch")
COMPONENTS = ("anova", "reml", "none")


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
    from kdstats.cli.estimate_answer import compute, render

    request = Request(tuple(runs), by, epochs, components, confidence, fmt, plot)
    request.check()
    answer = compute(request)
    typer.echo(render(request, answer), nl=False)
    if plot is not None:
        _plot(request, answer, plot)
    if answer.refused:
        from kdstats.cli.estimate_answer import reasons

        count = len(answer.refused)
        raise IncompleteError(
            f"{count} run{'s are' if count > 1 else ' is'} left out: {reasons(answer.refused)}"
        )
    return 0


@dataclass(frozen=True, slots=True)
class Request:
    """The options as given."""

    runs: tuple[str, ...]
    by: str
    epochs: str | None
    components: str
    confidence: float
    fmt: str
    plot: Path | None

    def check(self) -> None:
        """Refuses options that make no sense, before anything is read."""
        from kdstats.estimators.intervals import check_confidence

        check_format(self.fmt)
        check_confidence(self.confidence)
        if self.by not in BY:
            raise unknown("value of --by", self.by, BY)
        if self.components not in COMPONENTS:
            raise unknown("value of --components", self.components, COMPONENTS)
        self.span()
        if self.plot is not None:
            from kdstats.figures.style import check_path

            check_path(self.plot)

    def span(self) -> tuple[int | None, int | None] | None:
        """First and last epoch asked for; None: the default."""
        if self.epochs is None:
            return (None, None) if self.by == "epoch" else None
        first, colon, last = self.epochs.strip().partition(":")
        try:
            ends = (int(first) if first else None, int(last) if last else None)
            if not colon:
                ends = (int(first), int(first))
        except ValueError:
            raise UsageError(
                f"--epochs {self.epochs!r} is no range; write A:B, for example 40:60, or : for all"
            ) from None
        if None not in ends and ends[0] > ends[1]:  # type: ignore[operator]
            raise UsageError(f"--epochs {self.epochs}: the first epoch lies after the last")
        return ends

    def command(self) -> str:
        """The command line that gives this result again."""
        words = ["kdstats", "estimate", *self.runs, "--by", self.by]
        words += ["--epochs", self.epochs] if self.epochs is not None else []
        words += [
            "--components",
            self.components,
            "--confidence",
            f"{self.confidence:g}",
            "--format",
            self.fmt,
        ]
        words += ["--plot", str(self.plot)] if self.plot is not None else []
        return shlex.join(words)


def _plot(request: Request, answer: Answer, path: Path) -> None:
    from kdstats.figures.estimates import epochs_figure, schemes_figure
    from kdstats.figures.style import save

    draw = epochs_figure if request.by == "epoch" else schemes_figure
    figure, facts = draw(answer.frame(request.by), confidence=request.confidence)
    typer.echo(f"figure: {save(figure, path)}\ncaption: {facts.caption()}", err=True)
