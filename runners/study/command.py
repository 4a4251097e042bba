"""The command: its verbs, their options, and what each starts. Running a study again continues it.

python -m runners.study run runners/studies/quickstart.toml --out kdstats-out/quickstart
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kdstats.allocator import keep_pages
from kdstats.errors import UsageError
from runners import executors
from runners.study.init import init, templates
from runners.study.page import build, up_to_date

_VERBS = {
    "init": "write a study file to start from",
    "plan": "show runs, hours, disk and memory before anything starts",
    "run": "carry out the study, or continue it",
    "retry": "carry out only the runs that failed",
    "status": "show how far every run is, and when it will end",
    "report": "build the page of what is complete by now",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.study", description=(__doc__ or "").splitlines()[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(_VERBS))
    for verb, text in _VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        if verb == "init":
            sub.add_argument("file", type=Path, metavar="FILE", help="name of a template, or file to write")
            sub.add_argument(
                "--template", help=f"one of {', '.join(templates())}; by default what FILE is named"
            )
            continue
        sub.add_argument("file", type=Path, metavar="STUDY.toml", help="the study file, TOML or YAML")
        sub.add_argument(
            "--out", type=Path, required=True, help="folder of the study; the same folder continues"
        )
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="for example kd.temperature=2"
        )
        if verb in ("plan", "run", "retry"):
            sub.add_argument(
                "--executor",
                default="local",
                metavar="|".join(executors.names()),
                help="where runs are carried out (default: local)",
            )
            sub.add_argument(
                "--workers",
                type=int,
                help="runs at the same time (default: one per core locally, what the cluster gives elsewhere)",
            )
            sub.add_argument(
                "--device", default="auto", help="auto, cpu, cuda (GPUs in turn) or cuda:N (default: auto)"
            )
        if verb == "status":
            sub.add_argument(
                "--watch", action="store_true", help="renew the table until the study is complete"
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.verb == "init":
        return init(args.file, args.template)
    if getattr(args, "workers", None) is not None and args.workers < 1:
        raise UsageError(f"at least 1 worker is needed, not {args.workers}")
    if args.verb == "report" and args.file.is_file() and not args.set and up_to_date(args.out):
        build(args.out)
        return 0
    from runners.study_file import read_study  # loads torch, for which what comes before need not wait

    study = read_study(args.file, args.set)
    if args.verb == "report":
        from runners.study.reporting import report

        report(args.file, study, args.out)
        return 0
    if args.verb == "status":
        from runners.study.status import status

        return status(study, args.out, watch=args.watch)
    keep_pages()
    executor = executors.get(args.executor, args.workers, args.device, study.executor)
    if args.verb == "plan":
        from runners.study.planning import plan

        return plan(study, args.out, executor, args.device)
    from runners.study.carrying import run

    return run(args.file, study, args.out, executor, args.device, only_failed=args.verb == "retry")
