"""Builds the page of a study, with its figures and tables as files.

python -m reports.build DIR [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analyses.study import load_study
from kdstats.console import run_program
from kdstats.errors import UsageError
from kdstats.figures.style import SUFFIXES, save
from kdstats.records.atomic import write_bytes_atomic
from reports.page import Page, make_page

FORMATS = {"csv": ".csv", "md": ".md", "latex": ".tex"}


def build(root: Path, out: Path | None = None, *, seed: int = 0, quiet: bool = True) -> tuple[Page, Path]:
    """Writes the page of the study in ``root``.

    Args:
        root: The study's directory.
        out: The page; ``root/report/index.html`` by default. Figures and tables go into folders beside it.
        seed: Seed of everything that resamples.
        quiet: Whether to say nothing on stderr on the way.

    Returns:
        What the page holds, and where it is.

    Raises:
        MissingError: Not a study, or a part of it is damaged.
        CheckError: Its tables contradict each other.
        UsageError: ``out`` is no place for a page.
    """
    study = load_study(root, seed=seed)
    target = out or study.paths.index_html
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise UsageError(f"{str(target)!r} is no place for a page; name a file that ends in .html")
    page = make_page(study, (lambda text: None) if quiet else lambda text: _say(text))
    for folder in ("figures", "tables"):
        (target.parent / folder).mkdir(parents=True, exist_ok=True)
    for name, drawing in page.drawings.items():
        for suffix in SUFFIXES:
            save(drawing.figure, target.parent / "figures" / f"{name}{suffix}")
    for name, view in page.tables.items():
        for fmt, suffix in FORMATS.items():
            write_bytes_atomic(target.parent / "tables" / f"{name}{suffix}", view.write(fmt).encode())
    write_bytes_atomic(target, page.html().encode())
    return page, target


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: list[str] | None = None) -> int:
    """The program; see the module's head."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.build", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "study", type=Path, metavar="DIR", help="directory of a study (python -m runners.study run)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page; default DIR/report/index.html")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default 0)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {options.seed}")
    page, target = build(options.study, options.out, seed=options.seed, quiet=options.quiet)
    sys.stdout.write(f"{page.sentence()}\n{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("reports.build", main))
