"""An index over many studies: what each one answers, on one page.

python -m reports.index ROOT [--out FILE]

Reads the small ``report.json`` that lies beside every page and the card of every study; runs no analysis. A study
without a page is listed with the command that makes one, a damaged one with what is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analyses.study.card import read_card
from analyses.study.shape import read_json
from analyses.words import count, listed
from kdstats.console import run_program
from kdstats.errors import KdstatsError, MissingError, UsageError
from kdstats.pages.environment import make_environment
from kdstats.provenance import provenance
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.paths import StudyPaths
from reports import TEMPLATES
from reports.place import REPORT_SCHEMA, check_page, check_single

CARD = "study.json"
_PAGE = re.compile(r"[^/\\\x00-\x1f]{1,200}\.html?", re.IGNORECASE)
# A study's own folders: no study lies below them, and there may be many thousand.
INNER = frozenset({"runs", "t_stddev", "report", "teachers"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One study of the index.

    Attributes:
        folder: Relative to the root, with ``/``.
        name: Of the study; of the folder where the card cannot be read.
        title: The question of its page.
        size: Pairs, settings, schemes and seeds.
        state: ``complete``, ``incomplete`` or ``damaged``.
        answer: The page's answer; empty without a page.
        note: What the reader must know: runs missing, no page, page out of date, what is damaged.
        command: Makes the page where there is none or an old one.
        link: Address of the page relative to the index; empty without one.
        date: When the study was started, as its card says.
        version: Of kdstats, as its card says.
    """

    folder: str
    name: str
    title: str = ""
    size: str = ""
    state: str = "damaged"
    answer: str = ""
    note: str = ""
    command: str = ""
    link: str = ""
    date: str = ""
    version: str = ""


def find(root: Path) -> Iterator[Path]:
    """Folders below ``root`` that hold a study, ``root`` itself included, in order of their names."""
    for folder, inner, files in os.walk(root):
        here = CARD in files
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not (here and name in INNER))
        if here:
            yield Path(folder)


def entries(root: Path) -> list[Entry]:
    """What the index says of every study below ``root``, the latest first, damaged ones last.

    Raises:
        MissingError: No such folder.
    """
    if not root.is_dir():
        raise MissingError(f"no folder {str(root)!r}")
    found = [read_entry(root, folder) for folder in find(root)]
    found.sort(key=lambda entry: entry.date, reverse=True)
    return sorted(found, key=lambda entry: entry.state == "damaged")


def read_entry(root: Path, folder: Path) -> Entry:
    """The entry of one study; what cannot be read is said in its note."""
    where = _utf8(folder.relative_to(root).as_posix())
    name = _utf8(folder.name or folder.resolve().name)
    try:
        card = read_card(folder / CARD)
    except (KdstatsError, OSError, ValueError) as error:
        return Entry(where, name, note=_one_line(error))
    paths = StudyPaths(folder)
    absent = card.planned - card.done
    notes = [f"{card.done} of {count(card.planned, 'run')} finished"] if absent > 0 else []
    notes += [f"{len(card.failed)} failed"] if card.failed else []
    entry = {
        "name": card.name,
        "size": card.size,
        "state": "incomplete" if notes else "complete",
        "date": str(card.provenance.get("started") or ""),
        "version": str(card.provenance.get("version") or ""),
    }
    command = _utf8(f"python -m reports.build {shlex.quote(str(folder))}")
    report = paths.report / "report.json"
    if not report.is_file():
        return Entry(where, **entry, note="; ".join([*notes, "no page yet; this makes it:"]), command=command)
    try:
        said = read_json(report, "report")
        if said.get("schema") != REPORT_SCHEMA:
            raise MissingError(f"{report} has schema {said.get('schema')!r}, expected {REPORT_SCHEMA!r}")
        if not _PAGE.fullmatch(str(said["page"])):
            raise MissingError(
                f"{report} names {str(said['page'])[:80]!r} as its page, which is no file beside it"
            )
        page = paths.report / str(said["page"])
        if not page.is_file():
            raise MissingError(f"{page} is missing")
        title, answer = str(said["title"]), str(said["answer"])
        if not said["complete"]:
            entry["state"] = "incomplete"
            notes = notes or [str(said["incomplete"])]
    except (KdstatsError, OSError, ValueError, KeyError, TypeError) as error:
        return Entry(
            where, **entry, note="; ".join([*notes, f"its page: {_one_line(error)}"]), command=command
        )
    old = _older(report, [folder / CARD, paths.runs, paths.study])
    if old:
        notes.append("the study is newer than its page")
    return Entry(
        where,
        **entry,
        title=title,
        answer=answer,
        note="; ".join(notes),
        command=command if old else "",
        link=quote(os.fsencode(page.relative_to(root))),
    )


def _older(report: Path, sources: list[Path]) -> bool:
    made = report.stat().st_mtime
    return any(path.is_file() and path.stat().st_mtime > made for path in sources)


def _one_line(error: BaseException) -> str:
    text = f"lacks {error}" if isinstance(error, KeyError) else str(error)
    return _utf8(" ".join(text.split()))


def _utf8(text: str) -> str:
    """Names of folders need not be UTF-8, a page is."""
    return text.encode("utf-8", "backslashreplace").decode()


def summary(found: list[Entry]) -> str:
    """How many there are, of which kind."""
    if not found:
        return "No study lies here."
    parts = [
        f"{n} {kind}"
        for kind in ("complete", "incomplete", "damaged")
        if (n := sum(entry.state == kind for entry in found))
    ]
    total = f"{len(found)} stud{'y' if len(found) == 1 else 'ies'}"
    return f"{total}: {listed(parts)}."


def write(root: Path, out: Path | None = None) -> tuple[list[Entry], Path]:
    """Writes the index of ``root``.

    Args:
        root: Where studies lie, at any depth.
        out: The page; ``root/index.html`` by default. Links hold from there only.

    Returns:
        The entries, and where the page is.

    Raises:
        MissingError: No such folder.
        UsageError: ``out`` is no place for a page, or a study's own page.
    """
    target = out or root / "index.html"
    check_page(target)
    check_single(target, "")
    found = entries(root)
    if not target.parent.is_dir():
        raise MissingError(f"no folder {str(target.parent)!r}; create it first")
    base = os.path.relpath(root, target.parent)
    fields: dict[str, Any] = {
        "title": _utf8(root.resolve().name),
        "summary": summary(found),
        "entries": found,
        "base": "" if base == "." else f"{quote(os.fsencode(base))}/",
        "command": _utf8(f"python -m reports.index {shlex.quote(str(root))}"),
        "built": provenance(),
    }
    page = make_environment([TEMPLATES]).get_template("index.html.j2").render(**fields)
    write_bytes_atomic(target, page.encode())
    return found, target


def main(argv: list[str] | None = None) -> int:
    """The program; see the module's head."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.index", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder with studies below it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page; default ROOT/index.html")
    options = parser.parse_args(argv)
    if options.out is not None and not options.out.suffix:
        raise UsageError(f"{str(options.out)!r} is no place for a page; name a file that ends in .html")
    found, target = write(options.root, options.out)
    sys.stdout.write(f"{summary(found)}\n")
    for entry in found:
        if entry.state == "damaged":
            sys.stdout.write(f"{entry.folder}: {entry.note}\n")
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("reports.index", main))
