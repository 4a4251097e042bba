"""The ``kdstats`` command: collects the subcommands and sets the exit codes."""

from __future__ import annotations

import sys
from typing import Any

import typer

from kdstats._version import __version__
from kdstats.cli import datasets, doctor, models, power, schemes
from kdstats.cli.correlate.command import command as correlate
from kdstats.cli.estimate.command import command as estimate
from kdstats.cli.evaluate_da.command import command as evaluate_da
from kdstats.console import INTERRUPTED, run_program

app = typer.Typer(
    name="kdstats",
    help="Which data augmentation should a student be distilled with? Measured on the teacher alone, with "
    "intervals.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("evaluate-da")(evaluate_da)
app.command("correlate")(correlate)
app.command("estimate")(estimate)
app.add_typer(schemes.app, name="schemes")
app.add_typer(power.app, name="power")
app.command("datasets")(datasets.command)
app.command("models")(models.command)
app.command("doctor")(doctor.command)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"kdstats {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Entry point of the console script; exits with the codes of DESIGN (0, 1, 2, 3, 4, 5, 130, 143)."""
    sys.exit(run_program("kdstats", _run))


# Newer typer carries its own copy of click, so the base class is found through typer's public names.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _run() -> int:
    try:
        code = int(app(standalone_mode=False) or 0)
    except typer.Exit as done:
        return int(done.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _ClickException as error:
        error.show()
        if "--json" in error.format_message():
            typer.echo("Did you mean --format json?", err=True)
        return int(error.exit_code)
    if code == INTERRUPTED:  # typer turns Ctrl-C into a silent exit; the user is told what became of the work
        raise KeyboardInterrupt
    return code


if __name__ == "__main__":
    main()
