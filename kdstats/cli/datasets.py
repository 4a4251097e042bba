"""``kdstats datasets``: the data sets and what they need; what the cache of decoded images holds, and emptying it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdstats.errors import UsageError, nearest
from kdstats.tables import check_format, write

if TYPE_CHECKING:
    from kdstats.data.shelf import Shelved

COLUMNS = ("name", "classes", "channels", "img_size", "base", "files", "source")
HEADERS = {
    "img_size": "size",
    "base": "standard augmentation",
    "files": "--data",
}
CACHE_COLUMNS = ("dataset", "split", "img_size", "bytes", "state", "path")
CACHE_HEADERS = {"dataset": "data set", "img_size": "resized to", "bytes": "MB"}


def command(
    what: str | None = typer.Argument(
        None,
        help="A data set, to see all that is known of it; get, to download one; or clear, to remove decoded images "
        "from the cache.",
        metavar="NAME|get|clear",
        show_default=False,
    ),
    name: str | None = typer.Argument(
        None,
        help="After get: the data set to download. After clear: the one whose decoded images are removed. "
        "[default: all]",
        metavar="NAME",
        show_default=False,
    ),
    cache: bool = typer.Option(False, "--cache", help="List the decoded images kept on this machine."),
    to: Path | None = typer.Option(
        None,
        help="After get: the folder to download to. [default: none]",
        metavar="FOLDER",
        show_default=False,
    ),
    offline: bool = typer.Option(
        False, "--offline", help="Never download; the same as KDSTATS_OFFLINE=1 in the environment."
    ),
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """The data sets: classes, image size, standard augmentation, whether files must be named, source.

    `kdstats datasets NAME` says how to get one, `kdstats datasets get cifar100 --to FOLDER` downloads it.
    `kdstats datasets --cache` lists the decoded images that are kept to start faster, `kdstats datasets clear [NAME]`
    removes them; your own files are never touched.
    """
    check_format(fmt)
    if what == "get":
        return _get(name, to, offline)
    if to is not None:
        raise UsageError("--to belongs to `kdstats datasets get NAME`")
    if what == "clear":
        if cache:
            raise UsageError("--cache lists and clear removes; choose one")
        return _clear(name, fmt)
    if name is not None:
        hint = " Did you mean 'clear'?" if nearest(what or "", ["clear"]) else ""
        raise UsageError(f"{name!r} is one word too many; only clear is followed by a name.{hint}")
    if cache:
        return _cache(what, fmt)
    typer.echo(_cards(fmt) if what is None else _card(what, fmt), nl=False)
    return 0


def _get(name: str | None, to: Path | None, offline: bool) -> int:
    """Downloads a data set, after saying what, how much, from where and where to."""
    from kdstats.data import registry
    from kdstats.data.download import archive_of, download
    from kdstats.offline import switch_off

    if name is None or to is None:
        raise UsageError("name the data set and a folder: kdstats datasets get cifar100 --to FOLDER")
    card = registry.card(name)
    archive = archive_of(card.name)
    if offline:
        switch_off()
    typer.echo(
        f"{archive.file}, {archive.size / 1e6:,.0f} MB, from {archive.urls[0]} to {to.absolute()}", err=True
    )
    shown = -1

    def say(have: int, size: int) -> None:
        nonlocal shown
        tenth = 10 * have // size
        if tenth != shown:
            shown = tenth
            typer.echo(f"progress {have}/{size} bytes ({10 * tenth} %)", err=True)

    place = download(archive, to, say)
    typer.echo(
        f"kdstats evaluate-da --scheme cutmix --dataset {card.name} --data {shlex.quote(str(place))} --teacher FILE"
    )
    return 0


def _cards(fmt: str) -> str:
    from kdstats.data import registry

    rows = [
        {
            "name": card.name,
            "classes": card.classes,
            "channels": card.channels,
            "img_size": card.img_size,
            "base": card.base,
            "files": "needed" if card.needs_path else "embedded",
            "source": card.source,
        }
        for card in map(registry.card, registry.names())
    ]
    # Where the files decide, a person is told so; a program gets no number.
    formats = {} if fmt in ("json", "csv") else dict.fromkeys(("classes", "img_size", "base"), str)
    if formats:
        rows = [{k: "from files" if v is None else v for k, v in row.items()} for row in rows]
    return write(fmt, rows, COLUMNS, HEADERS, formats)


def _card(name: str, fmt: str) -> str:
    """Everything on one card, and the layouts that are understood."""
    from kdstats.data import registry
    from kdstats.data.sources import LAYOUTS

    card = registry.card(name)
    facts: dict[str, Any] = {
        "name": card.name,
        "source": card.source,
        "classes": card.classes,
        "channels": card.channels,
        "img_size": card.img_size,
        "mean": None if card.mean is None else ", ".join(map(str, card.mean)),
        "std": None if card.std is None else ", ".join(map(str, card.std)),
        "constants": card.constants,
        "base": card.base,
        "how": card.how,
    }
    for number, layout in enumerate(card.layouts, 1):
        facts[f"layout {number}"] = LAYOUTS[layout].looks_for(card.name)
    rows = [{"name": key, "value": "from files" if v is None else v} for key, v in facts.items()]
    return write(fmt, rows, ("name", "value"))


def _cache(name: str | None, fmt: str) -> int:
    from kdstats.data.cache import datasets_folder
    from kdstats.data.shelf import shelved

    entries = shelved(_named(name))
    typer.echo(_table(entries, fmt), nl=False)
    _side(fmt, f"{_amount(entries)}, in {datasets_folder()}")
    return 0


def _clear(name: str | None, fmt: str) -> int:
    from kdstats.data.cache import datasets_folder
    from kdstats.data.shelf import clear

    done = clear(_named(name))
    typer.echo(_table(done.removed, fmt), nl=False)
    _side(fmt, f"removed {_amount(done.removed)}, from {datasets_folder()}")
    for path, reason in done.left:
        typer.echo(f"kdstats: left alone: {path} ({reason})", err=True)
    return 0


def _named(name: str | None) -> list[str]:
    from kdstats.data import registry

    return registry.names() if name is None else [registry.card(name).name]


def _table(entries: Sequence[Shelved], fmt: str) -> str:
    rows = [
        {
            "dataset": entry.dataset,
            "split": entry.split,
            "img_size": entry.img_size,
            "bytes": entry.bytes,
            "state": "complete" if entry.complete else "left by a run that was killed",
            "path": str(entry.path),
        }
        for entry in entries
    ]
    return write(fmt, rows, CACHE_COLUMNS, CACHE_HEADERS, {"bytes": lambda n: f"{n / 1e6:.1f}"})


def _amount(entries: Sequence[Shelved]) -> str:
    number = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
    return f"{number}, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB"


def _side(fmt: str, text: str) -> None:
    """A line for people: below the table, or beside it where the output is one document."""
    typer.echo(f"\n{text}" if fmt == "table" else text, err=fmt != "table")
