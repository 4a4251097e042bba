"""Exports the metrics of a run, or of all runs of a study, to an experiment tracker.

python -m runners.export kdstats-out/quickstart --to tensorboard --out kdstats-out/quickstart-tensorboard
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kdstats.console import run_program
from runners import trackers
from runners.trackers import history


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.export", description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, metavar="RUN_OR_STUDY", help="directory of a run or of a study")
    parser.add_argument("--to", required=True, help=f"one of {', '.join(trackers.TRACKERS)}")
    where = "; ".join(f"{name}: {tracker.out}" for name, tracker in trackers.TRACKERS.items())
    parser.add_argument("--out", required=True, help=where)
    args = parser.parse_args(argv)
    export = trackers.get(args.to)
    found = history.find(args.path)
    shown = export(found, args.out)
    unfinished = [run for run in found if not run.finished]
    for run in unfinished:
        sys.stderr.write(f"{run.name}: {run.status}; export again once it has gone on\n")
    print(f"{len(found)} runs, {len(unfinished)} of them unfinished. To look at them: {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runners.export", main, "export again: nothing is doubled"))
