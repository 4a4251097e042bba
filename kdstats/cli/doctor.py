"""``kdstats doctor``: what this machine offers and what is missing."""

from __future__ import annotations

import typer

from kdstats.tables import check_format


def command(
    fmt: str = typer.Option("table", "--format", help="table, json, csv, md or latex.", metavar="FORMAT"),
) -> int:
    """What kdstats finds on this machine: versions, processors, caches, data, and what to do where one is missing."""
    check_format(fmt)
    from kdstats.cli.doctor_checks import examine
    from kdstats.tables import write

    rows = [{"what": f.what, "found": f.found, "verdict": f.verdict, "advice": f.advice} for f in examine()]
    typer.echo(write(fmt, rows, ("what", "found", "verdict", "advice")), nl=False)
    return 4 if any(row["verdict"] == "missing" for row in rows) else 0
