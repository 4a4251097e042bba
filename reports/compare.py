"""Compares two studies on one page: what is unlike, what changed, and whether the schemes keep their order.

python -m reports.compare DIR DIR [--out FILE]

The first study is the one that the second is measured against. Beside the page lies the same as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from analyses.inference.two_studies import Comparison, PairComparison, compare
from analyses.study import load_study
from analyses.words import LEVEL, estimate, number, p_value, records
from kdstats.association.coefficients import SYMBOLS
from kdstats.console import run_program
from kdstats.errors import UsageError
from kdstats.pages.environment import make_environment
from kdstats.pages.parts import TablePart, plain_table
from kdstats.provenance import provenance
from kdstats.records.atomic import write_bytes_atomic
from kdstats.tables import to_json
from reports import TEMPLATES, captions
from reports.comparison_figure import comparison_drawing
from reports.place import check_own, check_page, check_single
from reports.table_view import Column, Row, TableView, missing

SCHEMA = "kdstats/comparison/1"
MOST_NAMED = 80  # characters of a folder's name in that of a page


def write(first: Path, second: Path, out: Path | None = None, *, seed: int = 0) -> tuple[Comparison, Path]:
    """Writes the page that compares two studies.

    Args:
        first: Directory of the study compared with.
        second: Directory of the other one.
        out: The page; ``second/report/against-NAME.html`` by default, NAME that of the first study's folder.
        seed: Seed of everything that resamples.

    Returns:
        The comparison, and where its page is.

    Raises:
        MissingError: One of them is no study.
        UsageError: They are one study, have nothing in common, or ``out`` is no place for a page.
    """
    if first.resolve() == second.resolve():
        raise UsageError(f"{str(first)!r} is compared with itself; name two studies")
    studies = load_study(first, seed=seed), load_study(second, seed=seed)
    name = first.resolve().name
    stem = re.sub(r"[^\w.-]+", "-", name)
    if len(stem) > MOST_NAMED:  # cut, and told apart from another that is cut to the same
        stem = f"{stem[:MOST_NAMED]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    target = out or studies[1].paths.report / f"against-{stem}.html"
    check_page(target)
    check_single(target, SCHEMA)
    if out is None:
        check_own(studies[1].paths.report, studies[1].paths.root)
    found = compare(*studies)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(target, html(found).encode())
    write_bytes_atomic(target.with_suffix(".json"), to_json(document(found)).encode())
    return found, target


def names_of(found: Comparison) -> tuple[str, str]:
    """Names of the two studies, told apart by their folders where they are equal."""
    one, two = found.first.card.name, found.second.card.name
    if one != two:
        return one, two
    folders = [study.paths.root.resolve().name for study in (found.first, found.second)]
    return (folders[0], folders[1]) if folders[0] != folders[1] else (f"{one} (first)", f"{two} (second)")


def document(found: Comparison) -> dict[str, Any]:
    """The comparison for programs, unrounded; differences are second minus first."""
    return {
        "schema": SCHEMA,
        "studies": [
            {"name": name, "directory": str(study.paths.root), "provenance": dict(study.card.provenance)}
            for name, study in zip(names_of(found), (found.first, found.second), strict=True)
        ],
        "pairs": [
            {
                "pairs": list(one.pairs),
                "findings": list(one.findings),
                "unlike": [{"what": u.what, "first": u.first, "second": u.second} for u in one.terms.unlike],
                "refused": {"test_loss": one.terms.outcome, "t_stddev": one.terms.t_stddev},
                "same_runs": one.same_runs,
                "schemes": records(one.table),
                "only_first": list(one.only[0]),
                "only_second": list(one.only[1]),
                "ranks": records(one.ranks),
            }
            for one in found.pairs
        ],
        "left_out": list(found.left_out),
        "built": {key: value for key, value in provenance().items() if key in ("version", "git", "python")},
    }


def html(found: Comparison) -> str:
    """The page."""
    names = names_of(found)
    pairs = []
    for at, one in enumerate(found.pairs, start=1):
        suffix = f"-{at}" if len(found.pairs) > 1 else ""
        pairs.append(
            {
                "id": f"pair{suffix}",
                "name": " and ".join(dict.fromkeys(one.pairs)),
                "findings": one.findings,
                "unlike": _unlike(one, names, suffix),
                "table": _table(one, names, suffix).part(),
                "ranks": _ranks(one, suffix).part() if len(one.ranks) else None,
                "figure": comparison_drawing(f"comparison{suffix}", one, names).part(),
                "only": [(name, mine) for name, mine in zip(names, one.only, strict=True) if mine],
            }
        )
    contents = [{"id": p["id"], "title": p["name"], "below": ()} for p in pairs]
    contents += [
        {"id": anchor, "title": title, "below": ()}
        for anchor, title in (("method", "Method"), ("reproduce", "Reproduce"), ("provenance", "Provenance"))
    ]
    return (
        make_environment([TEMPLATES])
        .get_template("compare.html.j2")
        .render(
            names=names,
            sizes=[study.card.size for study in (found.first, found.second)],
            incomplete=[text for s in (found.first, found.second) if (text := captions.incomplete(s))],
            studies=(found.first, found.second),
            pairs=pairs,
            left_out=found.left_out,
            contents=contents,
            directories=[shlex.quote(str(s.paths.root)) for s in (found.first, found.second)],
            built=provenance(),
        )
    )


def _unlike(one: PairComparison, names: tuple[str, str], suffix: str) -> TablePart | None:
    if not one.terms.unlike:
        return None
    rows = [[item.what, item.first, item.second] for item in one.terms.unlike]
    caption = "Every setting in which the two studies differ; a difference of test loss holds the effect of all of them."
    return plain_table(f"unlike{suffix}", caption, ["what", *names], rows, [""] * len(rows))


def _table(one: PairComparison, names: tuple[str, str], suffix: str) -> TableView:
    def gap(row: Row, kind: str, scale: float = 1.0) -> str:
        values = [row[f"{kind}_{part}"] for part in ("difference", "low", "high")]
        if missing(values[0]):
            return ""
        return estimate(*(scale * value for value in values))

    def ratio(row: Row) -> str:
        value = row["t_stddev_ratio"]
        return (
            "" if missing(value) else estimate(value, row["t_stddev_ratio_low"], row["t_stddev_ratio_high"])
        )

    refused = [
        f"{what} not compared: {why}"
        for what, why in (("test loss and accuracy", one.terms.outcome), ("T. stddev", one.terms.t_stddev))
        if why
    ]
    paired = bool(one.table["paired"].iloc[0])
    caption = (
        f"Per common scheme, {names[1]} minus {names[0]}; {LEVEL} intervals over seeds, "
        f"{'runs of one seed compared with each other' if paired else 'seeds are not shared'}; the intervals of all "
        "schemes hold together (Bonferroni). T. stddev: ratio, second over first."
    )
    if refused:
        caption += f" {'; '.join(refused)[0].upper()}{'; '.join(refused)[1:]}."

    def mean(kind: str, side: str, places: int, scale: float = 1.0) -> Column:
        name = {"test_loss": "test loss (nats)", "acc": "accuracy (%)"}[kind]
        head = f"{name}, {names[0] if side == 'first' else names[1]}"
        return Column(head, lambda row: number(scale * row[f"{kind}_{side}"], places))

    return TableView(
        f"differences{suffix}",
        caption,
        one.table,
        (
            Column("scheme", lambda row: row["scheme"], True),
            mean("test_loss", "first", 4),
            mean("test_loss", "second", 4),
            Column("difference (nats)", lambda row: gap(row, "test_loss")),
            mean("acc", "first", 2, 100),
            mean("acc", "second", 2, 100),
            Column("difference (points)", lambda row: gap(row, "acc", 100)),
            Column("T. stddev, ratio", ratio),
            Column("seeds", lambda row: f"{row['seeds_first']} and {row['seeds_second']}"),
        ),
        lambda row: "reference" if row["scheme"] == "identity" else "",
    )


def _ranks(one: PairComparison, suffix: str) -> TableView:
    names = {method: f"{method.capitalize()} {symbol}" for method, symbol in SYMBOLS.items()}
    n = int(one.ranks["n"].iloc[0])
    return TableView(
        f"agreement{suffix}",
        f"Mean test loss in one study against the other, n = {n} schemes; {LEVEL} intervals. A high rank correlation "
        "means that the schemes keep their order.",
        one.ranks,
        (
            Column("coefficient", lambda row: names[row["method"]], True),
            Column("estimate", lambda row: number(row["estimate"], 2)),
            Column(f"{LEVEL} interval", lambda row: f"[{number(row['low'], 2)}, {number(row['high'], 2)}]"),
            Column(
                "permutation p",
                lambda row: p_value(row["p_permutation"]).removeprefix("p = ").removeprefix("p "),
            ),
            Column("n", lambda row: str(int(row["n"]))),
        ),
    )


def main(argv: list[str] | None = None) -> int:
    """The program; see the module's head."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.compare", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("first", type=Path, metavar="DIR", help="the study compared with")
    parser.add_argument("second", type=Path, metavar="DIR", help="the other study")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page; default DIR/report/against-FIRST.html"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default 0)")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {options.seed}")
    found, target = write(options.first, options.second, options.out, seed=options.seed)
    for one in found.pairs:
        head = f"{' and '.join(dict.fromkeys(one.pairs))}: " if len(found.pairs) > 1 else ""
        for text in one.findings:
            sys.stdout.write(f"{head}{text}\n")
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("reports.compare", main))
