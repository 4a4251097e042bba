"""What was asked for and is not in the numbers, and why."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analyses.study import Study
from analyses.words import count

QUESTION = "What was left out, and why?"
KINDS = ("failed", "missing", "excluded", "not measured")
COLUMNS = ["kind", "pair", "scheme", "seed", "why"]


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """The result: ``table`` has ``kind`` (see :data:`KINDS`), ``pair, scheme, seed`` (or NA), ``why``."""

    table: pd.DataFrame
    findings: tuple[str, ...]

    def count(self, kind: str) -> int:
        """Rows of one kind."""
        return int((self.table["kind"] == kind).sum())


def run(study: Study) -> LeftOut:
    """Lists failed, missing and excluded runs, and schemes without a teacher-only measurement."""
    rows: list[tuple[str, str, str, int | None, str]] = []
    for run_ in study.card.failed:
        why = run_.error + (f" (log: {run_.log})" if run_.log else "")
        rows.append(("failed", run_.pair, run_.scheme, run_.seed, why))
    for row in study.missing.to_dict("records"):
        rows.append(
            (
                "missing",
                row["pair"],
                row["scheme"],
                int(row["seed"]),
                "no finished run and no error on record",
            )
        )
    reasons = study.runs[study.runs["excluded"]]
    for row in reasons.to_dict("records"):
        given = row.get("reason")
        text = given if isinstance(given, str) and given else "no reason given"
        rows.append(("excluded", row["pair"], row["scheme"], int(row["seed"]), text))
    rows += _unmeasured(study)
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64"})
    return LeftOut(table, _findings(study, table))


def _unmeasured(study: Study) -> list[tuple[str, str, str, int | None, str]]:
    out: list[tuple[str, str, str, int | None, str]] = []
    for pair in study.card.pairs:
        rows = study.study[study.study["pair"] == pair]
        have = set(rows[rows["t_stddev"].notna()]["scheme"]) | set(study.measured(pair))
        skipped: dict[str, str] = {}
        for document in study.documents.get(pair.split("/")[0], ()):
            skipped |= document.skipped
        for scheme in study.card.schemes:
            if scheme not in have:
                out.append(
                    ("not measured", pair, scheme, None, skipped.get(scheme, "no T. stddev on record"))
                )
    return out


def _findings(study: Study, table: pd.DataFrame) -> tuple[str, ...]:
    used = len(study.used)
    if table.empty:
        return (f"Nothing was left out: all {count(study.card.planned, 'run')} are in the numbers.",)
    kinds = [f"{int((table['kind'] == k).sum())} {k}" for k in KINDS if (table["kind"] == k).any()]
    return (
        f"{used} of {count(study.card.planned, 'planned run')} are in the numbers; left out: "
        f"{', '.join(kinds)}.",
    )
