"""``kdstats models``: the networks, how large they are and what images they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from kdstats.errors import UsageError
from kdstats.tables import check_format, write

COLUMNS = ("name", "parameters", "multiply_adds", "features", "shapes", "sizes")
HEADERS = {"multiply_adds": "multiply-adds", "shapes": "channels@side of each", "sizes": "image sizes"}


def command(
    classes: int = typer.Option(100, help="Number of classes of the last layer.", metavar="C"),
    img_size: int = typer.Option(
        32, "--img-size", help="Height and width of the images in pixels.", metavar="N"
    ),
    channels: int = typer.Option(3, help="3 for colour, 1 for grey images.", metavar="N"),
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """The networks that --arch accepts: parameters, multiply-adds, features, image sizes.

    Counted for 100 classes and colour images of 32x32 unless asked otherwise. Multiply-adds are those of the
    convolutions and linear layers for one image (twice that many FLOPs). Features are what
    model(x, features=True) gives: the stem's map, one map per stage, and the pooled vector. A network that does
    not take the size asked for shows its image sizes alone.
    """
    check_format(fmt)
    if channels < 1:
        raise UsageError(f"--channels must be 1 or more, got {channels}")
    if classes < 2:
        raise UsageError(
            f"--classes must be 2 or more (a classifier needs at least 2 classes), got {classes}"
        )
    # One image of the size is made to be counted on.
    for flag, value, most in (
        ("--classes", classes, 100_000),
        ("--img-size", img_size, 1024),
        ("--channels", channels, 1024),
    ):
        if value > most:
            raise UsageError(f"{flag} must be {most:,} or less, got {value:,}")
    from kdstats import models
    from kdstats.models.measure import measure
    from kdstats.models.registry import family_of

    rows: list[dict[str, Any]] = []
    refusals = []
    for name in models.names():
        family = family_of(name)
        row: dict[str, Any] = {"name": name, "sizes": family.sizes()}
        refusal = family.why_not(name, img_size)
        if refusal is None:
            counted = measure(name, classes, img_size, channels)
            row |= {
                "parameters": counted.parameters,
                "multiply_adds": counted.multiply_adds,
                "features": len(counted.features),
                "shapes": counted.features if fmt == "json" else _short(counted.features),
            }
        else:
            refusals.append(refusal)
        rows.append(row)
    if len(refusals) == len(rows):
        raise UsageError(refusals[0])
    formats = {"parameters": _thousands, "multiply_adds": _millions}
    typer.echo(write(fmt, rows, COLUMNS, HEADERS, formats), nl=False)
    return 0


def _short(shapes: Sequence[tuple[int, ...]]) -> str:
    """``16@32`` for 16 channels of 32x32 pixels, ``64`` for a vector."""
    return " ".join(f"{shape[0]}@{shape[1]}" if len(shape) == 3 else str(shape[0]) for shape in shapes)


def _thousands(value: int) -> str:
    return f"{value:,}"


def _millions(value: int) -> str:
    return f"{value / 1e6:,.2f} M"
