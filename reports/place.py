"""Where a page may be written: never through a link out of a study, never over what is not a page's.

A page comes with files beside it, whose names (``report.tex``, ``tables/ranking.csv``) people use too.
"""

from __future__ import annotations

import os
from pathlib import Path

from analyses.study.shape import read_json
from kdstats.errors import MissingError, UsageError

REPORT_SCHEMA = "kdstats/report/1"
MARK = 'content="kdstats"'  # of the generator, in the head of every page
_HEAD = 4096  # bytes in which it stands
BEGUN = ".kdstats-report"  # in a folder while a report is written there, so that the same command may go on
FOLDERS = ("figures", "tables")
BESIDE = ("report.md", "report.tex", "report.json", *FOLDERS)


def check_page(target: Path) -> None:
    """Refuses what is no place for a page.

    Raises:
        UsageError: Not an .html file, a folder, or a folder that cannot be written to.
    """
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise UsageError(f"{str(target)!r} is no place for a page; name a file that ends in .html")
    folder = next(part for part in (target.parent, *target.parent.parents) if part.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"the folder {str(folder)!r} cannot be written to; name another place with --out FILE.html"
        )


def check_own(folder: Path, study: Path) -> None:
    """Refuses a study's folder for pages, or one in it, that leads out of the study; files are replaced, not followed.

    Raises:
        UsageError: There is a symbolic link.
    """
    for part in (folder, *(folder / name for name in FOLDERS)):
        if part.is_symlink() and not part.resolve().is_relative_to(study.resolve()):
            raise UsageError(
                f"{str(part)!r} is a symbolic link to {str(part.resolve())!r}, outside of the study; remove it, or name "
                "another place with --out FILE.html"
            )


def check_report(target: Path) -> None:
    """Refuses a folder that holds files by the names of a report's and no report of ours.

    Raises:
        UsageError: Such a file, or a page by another program.
    """
    folder = target.parent
    check_not_foreign(target)
    if schema_of(folder / "report.json") == REPORT_SCHEMA or (folder / BEGUN).is_file():
        return
    there = [name for name in (*BESIDE, target.name) if os.path.lexists(folder / name)]
    if there:
        raise UsageError(
            f"{str(folder)!r} holds {there[0]!r}, which is not known to be of a report (no report.json of one is there) "
            "and would be written over; name a folder of its own: --out FOLDER/index.html"
        )


def check_not_foreign(target: Path) -> None:
    """Refuses to write a page over what is none of ours; raises ``UsageError``. A link is replaced, so it may be any."""
    if target.exists() and not target.is_symlink() and not is_page(target):
        raise UsageError(
            f"{str(target)!r} is no page of kdstats and would be written over; name another file"
        )


def check_single(target: Path, schema: str) -> None:
    """Refuses to write a page, and the document beside it, over files that are not of its kind.

    Args:
        target: The page.
        schema: Of the document; "" where there is none.

    Raises:
        UsageError: What lies there is of another kind.
    """
    check_not_foreign(target)
    document = target.with_suffix(".json")
    if schema and os.path.lexists(document) and schema_of(document) != schema:
        raise UsageError(
            f"{str(document)!r} is not of such a page and would be written over; name another file"
        )
    report = target.parent / "report.json"
    if schema_of(report) == REPORT_SCHEMA and read_json(report, "report").get("page") == target.name:
        raise UsageError(
            f"{str(target)!r} is the page of a study and would be written over; name another file"
        )


def schema_of(path: Path) -> str:
    """What a JSON file says it is; "" where there is none, or it says nothing."""
    try:
        return str(read_json(path, "document").get("schema") or "")
    except MissingError:
        return ""


def is_page(path: Path) -> bool:
    """Whether a file was written as a page of kdstats."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return MARK.encode() in stream.read(_HEAD)
