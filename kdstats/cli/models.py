"""``kdstats models``: the networks and how large they are."""

from __future__ import annotations

import typer

from kdstats.errors import UsageError
from kdstats.tables import check_format, write


def command(
    classes: int = typer.Option(100, help="Number of classes of the last layer.", metavar="C"),
    img_size: int = typer.Option(
        32, "--img-size", help="Height and width of the images in pixels.", metavar="N"
    ),
    channels: int = typer.Option(3, help="3 for colour, 1 for grey images.", metavar="N"),
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """The networks that --arch accepts, with their number of parameters (100 classes, 32x32 unless asked)."""
    check_format(fmt)
    if channels < 1:
        raise UsageError(f"--channels must be 1 or more, got {channels}")
    import torch

    from kdstats import models

    rows = []
    for name in models.names():
        with torch.device("meta"):  # shapes without memory: nothing is allocated or initialised
            network = models.build(name, classes, img_size, channels)
        rows.append({"name": name, "parameters": sum(p.numel() for p in network.parameters())})
    formats = {"parameters": lambda value: f"{value:,}"}
    typer.echo(write(fmt, rows, ("name", "parameters"), None, formats), nl=False)
    return 0
