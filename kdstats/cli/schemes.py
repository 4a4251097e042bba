"""``kdstats schemes``: the augmentations, their rules, and what they do to real images."""

from __future__ import annotations

from pathlib import Path

import typer

from kdstats.errors import UsageError
from kdstats.tables import check_format

app = typer.Typer(help="The augmentations: list them, or show one with its rules and a sheet of real images.")
COLUMNS = ("name", "family", "draws", "targets", "needs", "presets", "reference")
ALSO = (
    "Also 'NAME(parameter=value)', NAME@PRESET, 'pick(BASE)' and A+B: `kdstats schemes show 'pick(mixup)'` explains "
    "any of them.\nwang2022 stands for the nine of the paper where several schemes can be named.\n"
    "targets: what a view can be taught, the teacher's answer to it, mixed teacher logits or mixed labels."
)


@app.callback(invoke_without_command=True, no_args_is_help=True)
def _room() -> None:
    pass


@app.command("list")
def list_command(
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """All augmentations: family, granularity of draws, targets, networks they need, presets, publication."""
    check_format(fmt)
    from kdstats import schemes
    from kdstats.schemes.naming import plugins
    from kdstats.schemes.naming.catalogue import GRANULARITIES
    from kdstats.schemes.naming.presets import presets_of
    from kdstats.tables import write

    rows, wrong = [], list(plugins.refused())
    for name in schemes.names():
        try:
            record = schemes.record(name)
        except UsageError as error:  # a plug-in that does not load must not hide the others
            wrong.append(str(error))
            continue
        rows.append(
            {
                "name": record.name,
                "family": record.family,
                "draws": ", ".join(GRANULARITIES),
                "targets": ", ".join(record.targets),
                "needs": ", ".join(sorted(record.needs)),
                "presets": ", ".join(presets_of(record.name)),
                "reference": record.reference,
            }
        )
    typer.echo(write(fmt, rows, COLUMNS), nl=False)
    if fmt == "table":
        typer.echo(f"\n{ALSO}")
    for text in wrong:
        typer.echo(f"kdstats: {text}", err=True)
    return 0


@app.command("show")
def show_command(
    name: str = typer.Argument(
        help="Augmentation, e.g. cutmix, cutmix@clovaai, 'cutmix(alpha=0.5)', 'pick(mixup)', crop_flip+cutout.",
        metavar="NAME",
    ),
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
    draws: str | None = typer.Option(
        None,
        help="One random draw per batch or per sample. [default: as the preset says, else batch]",
        metavar="batch|sample",
        show_default=False,
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


@app.command("check")
def check_command(
    name: str = typer.Argument(help="Augmentation, for example one of your own plug-in.", metavar="NAME"),
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """Whether an augmentation keeps what every scheme promises: ids, λ, replay, same key same views, and more.

    For authors of plug-ins. Exit code 5 if a promise is broken. Example: kdstats schemes check cutmix
    """
    check_format(fmt)
    import torch

    from kdstats import schemes
    from kdstats.errors import CheckError
    from kdstats.schemes.checks import Situation, check
    from kdstats.schemes.naming.catalogue import GRANULARITIES
    from kdstats.tables import write

    schemes.record(name)  # a misspelt name is one error, not one for each situation
    shapes = (
        (3, 32, 32, 6, torch.float32),
        (1, 8, 8, 5, torch.float32),
        (3, 24, 40, 4, torch.float32),
        (3, 64, 64, 3, torch.bfloat16),
        (3, 32, 32, 1, torch.float32),
    )
    found = check(name, [Situation(draws, *shape) for draws in GRANULARITIES for shape in shapes])
    rows = [{"situation": str(f.situation), "found": f.text()} for f in found]
    typer.echo(write(fmt, rows, ("situation", "found")), nl=False)
    broken = [text for f in found for text in f.broken]
    if broken:
        raise CheckError(f"{name} breaks its promises: {'; '.join(dict.fromkeys(broken))}")
    if all(f.not_applicable for f in found):
        raise CheckError(f"{name} has no meaning in any of these situations, so nothing was checked")
    return 0
