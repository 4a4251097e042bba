"""Builds the page of a study, with its figures and tables as files.

python -m reports.build DIR [--ask NAME[,NAME…]|all] [--with DIR …] [--out FILE] [--trust]

Beside the page: figures/ (SVG, PNG, PDF and their data as CSV), tables/ (CSV, Markdown, LaTeX), report.json for
programs, report.md for a pull request, report.tex for a paper.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import analyses
from analyses.study import Study, load_study
from kdstats.console import run_program
from kdstats.errors import UsageError
from kdstats.records.atomic import clean_temps, write_bytes_atomic
from reports import published, written
from reports.offers import fitting, offers
from reports.page import Page, make_page
from reports.place import BEGUN, FOLDERS, check_not_foreign, check_own, check_page, check_report
from reports.table_view import FORMATS, plain_csv

ALL = "all"


def build(
    root: Path,
    out: Path | None = None,
    *,
    seed: int = 0,
    quiet: bool = True,
    ask: Sequence[str] = (),
    others: Sequence[Path] = (),
    trusted: bool = False,
) -> tuple[Page, Path]:
    """Writes the page of the study in ``root``.

    Args:
        root: The study's directory.
        out: The page; ``root/report/index.html`` by default. Figures and tables go into folders beside it.
        seed: Seed of everything that resamples.
        quiet: Whether to say nothing on stderr on the way.
        ask: Analyses on request; ``all`` stands for those that fit the study and do not take long.
        others: Directories of further studies, for analyses that compare settings over several.
        trusted: Whether the studies are trusted to name code and files, see :class:`analyses.study.Study`.

    Returns:
        What the page holds, and where it is.

    Raises:
        MissingError: Not a study, or a part of it is damaged.
        CheckError: Its tables contradict each other.
        UsageError: ``out`` is no place for a page, or an analysis of another name; see :mod:`reports.place`.
    """
    study = load_study(root, seed=seed, trusted=trusted)
    target = out or study.paths.index_html
    check_page(target)
    if target.parent.absolute() == study.paths.report.absolute():
        check_own(study.paths.report, study.paths.root)
        check_not_foreign(target)
        clean_temps(study.paths.report)
    else:
        check_report(target)
    more = tuple(load_study(path, seed=seed, trusted=trusted) for path in others)
    page = make_page(study, (lambda text: None) if quiet else _say, _asked(study, ask), more)
    folder = target.parent
    write_bytes_atomic(folder / BEGUN, b"")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for drawing in page.every_drawing():
        drawing.write(folder / "figures")
    for view in page.every_table():
        for fmt, suffix in FORMATS.items():
            write_bytes_atomic(folder / "tables" / f"{view.name}{suffix}", view.write(fmt).encode())
    for section in page.sections:
        for stem, frame in section.data.items():
            write_bytes_atomic(folder / "tables" / f"{stem}.csv", plain_csv(frame).encode())
    write_bytes_atomic(target, page.html().encode())
    write_bytes_atomic(folder / "report.md", written.markdown(page).encode())
    write_bytes_atomic(folder / "report.tex", written.latex(page).encode())
    # Last, because an index takes it for the sign that a page is whole.
    write_bytes_atomic(folder / "report.json", written.json_text(page, target.name).encode())
    (folder / BEGUN).unlink(missing_ok=True)
    return page, target


def _asked(study: Study, ask: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip().replace("-", "_") for given in ask for name in given.split(",") if name.strip()]
    fit = list(fitting(offers(study))) if ALL in names else []
    return tuple(dict.fromkeys(name for given in names for name in (fit if given == ALL else [given])))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: list[str] | None = None) -> int:
    """The program; see the module's head."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.build", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "study",
        type=Path,
        metavar="DIR",
        help="directory of a study (python -m runners.study run), or published:wang2022, the paper's own numbers",
    )
    parser.add_argument(
        "--ask",
        action="append",
        default=[],
        metavar="NAME[,NAME…]",
        help=f"further questions, or 'all' that fit and do not take long: {', '.join(analyses.ON_REQUEST)}",
    )
    parser.add_argument(
        "--with",
        dest="others",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a further study, for questions that compare settings over several; may be repeated",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page; default DIR/report/index.html")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default 0)")
    parser.add_argument(
        "--trust", action="store_true", help="load networks that the study names as code or by address"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {options.seed}")
    if (name := str(options.study)).startswith(published.PREFIX):
        if options.ask or options.others or options.trust:
            raise UsageError(f"{name} is no study of yours: --ask, --with and --trust do not apply to it")
        result, target = published.write(name.removeprefix(published.PREFIX), options.out, seed=options.seed)
        sys.stdout.write(f"{published.verdicts(result)}\n{target}\n")
        return 0
    page, target = build(
        options.study,
        options.out,
        seed=options.seed,
        quiet=options.quiet,
        ask=options.ask,
        others=options.others,
        trusted=options.trust,
    )
    sys.stdout.write("\n".join([*page.caveats(), page.sentence(), str(target)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("reports.build", main))
