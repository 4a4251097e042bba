"""What does a scheme cost in training time, against the same training without it?"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.inference.over_seeds import against
from analyses.study import Study, used_folders
from analyses.study.logs import log_rows
from analyses.study.shape import read_json
from analyses.study.traits import LOGS, SEVERAL, Need
from analyses.words import CANNOT, estimate, number, records, sizes

QUESTION = "What does a scheme cost in training time, against the same training without it?"
NEEDS: tuple[Need, ...] = (SEVERAL, LOGS)
REFERENCE = "identity"
HEADS = {"seconds": "seconds an epoch (median)"}


@dataclass(frozen=True, slots=True, eq=False)
class Overhead:
    """The result.

    Attributes:
        per_run: ``pair, scheme, seed, seconds`` (median over epochs of an epoch's wall time), ``machine``.
        table: A row per pair and scheme: ``seeds, seconds`` (median over runs), ``ratio, ratio_low, ratio_high``
            against identity within seeds (geometric mean; the intervals of a pair hold together).
        findings: In words.
    """

    per_run: pd.DataFrame
    table: pd.DataFrame
    findings: tuple[str, ...]


def run(study: Study) -> Overhead:
    """Compares wall times of epochs, seed by seed.

    The median over epochs stands for a run, because a first epoch warms up and a busy machine makes single epochs
    long. Runs of another machine than the reference of their seed are left out.

    Raises:
        MissingError: A log or the card of a run is broken.
    """
    rows = []
    for pair, scheme, seed, folder in used_folders(study):
        seconds = _seconds(folder / "metrics.jsonl")
        if seconds:
            rows.append(
                {"pair": pair, "scheme": scheme, "seed": seed, "seconds": float(np.median(seconds))}
                | {"machine": _machine(folder / "run.json")}
            )
    per_run = pd.DataFrame(rows)
    if per_run.empty:
        return Overhead(per_run, pd.DataFrame(), (f"This {CANNOT} no run logged the time of its epochs.",))
    order = {name: at for at, name in enumerate(study.card.schemes)}
    per_run = per_run.sort_values(
        ["pair", "scheme", "seed"], key=lambda c: c.map(order) if c.name == "scheme" else c, ignore_index=True
    )
    alike = _same_machine(per_run)
    ratios = against(alike, "seconds", REFERENCE, log=True)
    table: list[dict[str, Any]] = []
    for (of, name), part in per_run.groupby(["pair", "scheme"], sort=False):
        ratio = ratios.get((str(of), str(name)), (math.nan,) * 3)
        table.append(
            {"pair": of, "scheme": name, "seeds": int(part["seed"].nunique())}
            | {"seconds": float(part["seconds"].median())}
            | dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
        )
    frame = pd.DataFrame(table)
    aside = len(per_run) - len(alike)
    findings = list(_findings(frame))
    if aside:
        findings.append(
            f"{aside} of {len(per_run)} runs were on another machine than {REFERENCE} of their seed."
        )
    return Overhead(per_run, frame, tuple(findings))


def _same_machine(per_run: pd.DataFrame) -> pd.DataFrame:
    base = per_run[per_run["scheme"] == REFERENCE].set_index(["pair", "seed"])["machine"].to_dict()
    keys = zip(per_run["pair"], per_run["seed"], strict=True)
    expected = [base.get(key) for key in keys]
    return per_run[[due is None or own == due for own, due in zip(per_run["machine"], expected, strict=True)]]


def _seconds(log: Path) -> list[float]:
    if not os.path.lexists(log):
        return []
    rows = log_rows(log, optional=("seconds",)).values()
    return [row["seconds"] for row in rows if row.get("seconds", 0.0) > 0]


def _machine(card: Path) -> str:
    if not os.path.lexists(card):
        return ""
    provenance = read_json(card, "card of a run").get("provenance")
    if not isinstance(provenance, dict):
        return ""
    return f"{provenance.get('machine', '')} {provenance.get('device', '')}".strip()


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for pair, rows in table.groupby("pair", sort=False):
        if REFERENCE not in set(rows["scheme"]):
            yield f"{pair}: the cost of a scheme {CANNOT} {REFERENCE} was not run."
            continue
        base = float(rows[rows["scheme"] == REFERENCE]["seconds"].iloc[0])
        rest = rows[rows["ratio"].notna()].sort_values("ratio", ascending=False)
        if rest.empty:
            yield f"{pair}: the cost of a scheme {CANNOT} no scheme shares a seed and a machine with {REFERENCE}."
            continue
        first = records(rest)[0]
        said = estimate(first["ratio"], first["ratio_low"], first["ratio_high"], 2)
        sure = "" if first["ratio_low"] > 1 else ", which could be none"
        yield (
            f"{pair}: an epoch under {REFERENCE} takes {number(base, 2)} s; the dearest of {len(rest)} other schemes is "
            f"{first['scheme']} at {said} times that{sure} (n = {sizes([int(k) for k in rest['seeds']])}; wall time, "
            "other work on the machine included)."
        )
