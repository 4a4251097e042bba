"""``kdstats schemes``: the augmentations, their rules, and what they do to real images."""

from __future__ import annotations

from pathlib import Path

import typer

from kdstats.errors import UsageError
from kdstats.tables import check_format

app = typer.Typer(help="The augmentations: list them, or show one with its rules and a sheet of real images.")
COLUMNS = ("name", "family", "draws", "needs", "reference")


@app.callback(invoke_without_command=True, no_args_is_help=True)
def _room() -> None:
    pass


@app.command("list")
def list_command(
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """All augmentations: name, family, granularity of draws, networks they must be given, publication."""
    check_format(fmt)
    from kdstats import schemes
    from kdstats.schemes.scheme import GRANULARITIES
    from kdstats.tables import write

    rows = [
        {
            "name": record.name,
            "family": record.family,
            "draws": ", ".join(GRANULARITIES),
            "needs": ", ".join(sorted(record.needs)),
            "reference": record.reference,
        }
        for record in map(schemes.record, schemes.names())
    ]
    typer.echo(write(fmt, rows, COLUMNS), nl=False)
    return 0


@app.command("show")
def show_command(
    name: str = typer.Argument(help="Augmentation, e.g. cutmix.", metavar="NAME"),
    out: Path | None = typer.Option(
        None,
        help="Also save a sheet of eight real images, originals above and views below: .png, .pdf or .svg.",
        metavar="FILE",
    ),
    dataset: str = typer.Option("digits", help="Data set of the images on the sheet.", metavar="NAME"),
    data: Path | None = typer.Option(
        None, help="Folder with its files; not needed for digits.", metavar="PATH"
    ),
    teacher: Path | None = typer.Option(
        None,
        help="Teacher's weights, for augmentations that ask it. [default: the digits teacher inside kdstats]",
        metavar="FILE",
        show_default=False,
    ),
    arch: str | None = typer.Option(
        None, help="The teacher's network, unless its card says so.", metavar="NAME"
    ),
    student: Path | None = typer.Option(
        None, help="Student's weights, for augmentations that ask it.", metavar="FILE"
    ),
    student_arch: str | None = typer.Option(
        None, "--student-arch", help="The student's network, unless its card says so.", metavar="NAME"
    ),
    draws: str = typer.Option(
        "batch", help="One random draw per batch (as published) or per sample.", metavar="batch|sample"
    ),
    seed: int = typer.Option(0, help="Seed of images and draws."),
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """One augmentation: parameters, rules, publication, and with --out a sheet of real images.

    Example: kdstats schemes show cutmix --out cutmix.png
    """
    check_format(fmt)
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {seed}")
    from kdstats.cli.schemes_show import SheetRequest, describe, render, save_sheet

    facts = describe(name, draws)
    if out is not None:
        from kdstats.figures.style import check_path

        check_path(out)
        request = SheetRequest(dataset, data, teacher, arch, student, student_arch, draws, seed)
        caption = save_sheet(facts.name, request, out)
        typer.echo(f"figure: {out}\ncaption: {caption}", err=True)
    typer.echo(render(facts, fmt), nl=False)
    return 0
