"""The command that writes the page of the published study."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analyses.published_wang2022.page import write_page
from analyses.published_wang2022.reanalysis import QUESTION, run
from kdstats.console import run_program
from kdstats.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m analyses.published_wang2022 --out DIR [--seed 0]``."""
    parser = argparse.ArgumentParser(prog="python -m analyses.published_wang2022", description=QUESTION)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the page and its numbers"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of permutations and bootstraps (default 0)")
    options = parser.parse_args(arguments)

    def work() -> int:
        if options.seed < 0:
            raise UsageError(f"--seed must be 0 or more, got {options.seed}")
        if options.out.exists() and not options.out.is_dir():
            raise UsageError(f"{str(options.out)!r} is a file; --out names a folder")
        for path in write_page(run(seed=options.seed), options.out):
            sys.stdout.write(f"{path}\n")
        return 0

    return run_program("published_wang2022", work)


if __name__ == "__main__":
    sys.exit(main())
