"""``kdstats datasets``: the data sets, what they are and what they need."""

from __future__ import annotations

import typer

from kdstats.tables import check_format, write

COLUMNS = ("name", "classes", "channels", "img_size", "base", "files", "source")
HEADERS = {
    "img_size": "size",
    "base": "standard augmentation",
    "files": "--data",
}


def command(
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """The data sets: classes, image size, standard augmentation, whether files must be named, source."""
    check_format(fmt)
    from kdstats.data import registry

    rows = []
    for name in registry.names():
        card = registry.card(name)
        rows.append(
            {
                "name": card.name,
                "classes": card.classes,
                "channels": card.channels,
                "img_size": card.img_size,
                "base": card.base,
                "files": "needed" if card.needs_path else "embedded",
                "source": card.source,
            }
        )
    typer.echo(write(fmt, rows, COLUMNS, HEADERS), nl=False)
    return 0
