"""How much better do students look at their best epoch than at their last, and does that change the order of schemes?

A best epoch that is chosen on the test images is optimistic by construction: the gap cannot be negative.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.inference import seeds as seeds_
from analyses.inference.over_seeds import summarise
from analyses.study import Study, used_folders
from analyses.study.shape import read_json
from analyses.study.traits import Need
from analyses.words import CANNOT, CONFIDENCE, estimate, number, p_value, records, sizes
from kdstats.association.coefficients import coefficient

QUESTION = "How much better do students look at their best epoch than at the last, and does the order of schemes change?"
NEEDS: tuple[Need, ...] = ()
TEST, VALIDATION, UNKNOWN = "test images", "validation images", "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class BestAndLast:
    """The result.

    Attributes:
        per_run: ``pair, scheme, seed, loss_gap`` (last minus best, nats), ``acc_gap`` (best minus last, fraction),
            ``epoch_best, epochs``.
        table: Means over seeds with intervals, a row per pair and scheme.
        orders: A row per pair: ``tau`` (Kendall, order of schemes by last against by best mean test loss), the lowest
            by either, ``f`` and ``p`` of "the gap is the same for all schemes".
        chosen_by: ``test images``, ``validation images``, ``unknown``, or several of them.
        findings: In words.
    """

    per_run: pd.DataFrame
    table: pd.DataFrame
    orders: pd.DataFrame
    chosen_by: tuple[str, ...]
    findings: tuple[str, ...]


def run(study: Study) -> BestAndLast:
    """Compares last and best epoch of every used run.

    Raises:
        MissingError: The ``done.json`` of a run is damaged.
    """
    used = study.used
    known = used[used["test_loss_best"].notna() & used["acc_best"].notna()]
    per_run = pd.DataFrame(
        {
            "pair": known["pair"],
            "scheme": known["scheme"],
            "seed": known["seed"],
            "loss_gap": known["test_loss_last"] - known["test_loss_best"],
            "acc_gap": known["acc_best"] - known["acc_last"],
            "epoch_best": known["epoch_best"],
            "epochs": known["epochs"],
        }
    ).reset_index(drop=True)
    if per_run.empty:
        empty = pd.DataFrame()
        return BestAndLast(per_run, empty, empty, (), (f"This {CANNOT} no run states its best epoch.",))
    chosen = _chosen_by(study)
    table = summarise(per_run, ["loss_gap", "acc_gap"])
    orders = pd.DataFrame([_order(known, per_run, pair) for pair in dict.fromkeys(per_run["pair"])])
    findings = (*_findings(table, orders), _choice(chosen))
    return BestAndLast(per_run, table, orders, chosen, findings)


def _order(known: pd.DataFrame, per_run: pd.DataFrame, pair: str) -> dict[str, object]:
    means = known[known["pair"] == pair].groupby("scheme")[["test_loss_last", "test_loss_best"]].mean()
    several = len(means) > 2 and all(means[name].nunique() > 1 for name in means)
    gaps = seeds_.of_runs(per_run, pair, "loss_gap")
    f, p = gaps.homogeneity()
    return {
        "pair": pair,
        "schemes": len(means),
        "tau": float(coefficient("kendall", means["test_loss_last"], means["test_loss_best"]).estimate)
        if several
        else math.nan,
        "lowest_last": str(means["test_loss_last"].idxmin()),
        "lowest_best": str(means["test_loss_best"].idxmin()),
        "f": f,
        "p": p,
    }


def _chosen_by(study: Study) -> tuple[str, ...]:
    found = set()
    for _, _, _, folder in used_folders(study):
        path = folder / "done.json"
        # A table may be without its folders, and runs of early versions do not say it.
        said: Any = read_json(path, "list of what a run finished with") if os.path.lexists(path) else {}
        for key in ("extra", "outcome", "best_chosen_by"):
            said = said.get(key) if isinstance(said, dict) else None
        found.add(said if isinstance(said, str) else UNKNOWN)
    return tuple(sorted(found or {UNKNOWN}))


def _choice(chosen: tuple[str, ...]) -> str:
    if chosen == (VALIDATION,):
        return "The best epoch was chosen on images held out from training, so it is no better than it looks."
    if chosen == (TEST,):
        return "The best epoch was chosen on the test images, so its numbers are optimistic."
    return "What images chose the best epoch is not on record for every run; read its numbers as optimistic."


def _findings(table: pd.DataFrame, orders: pd.DataFrame) -> Iterator[str]:
    for row in orders.to_dict("records"):
        here = table[table["pair"] == row["pair"]].sort_values("loss_gap", ascending=False)
        top = records(here)[0]
        if top["loss_gap"] == 0 and here["acc_gap"].max() == 0:
            yield (
                f"{row['pair']}: the last epoch was the best in every run (n = "
                f"{sizes([int(n) for n in here['seeds']])} a scheme)."
            )
            continue
        loss = estimate(top["loss_gap"], max(top["loss_gap_low"], 0.0), top["loss_gap_high"])
        acc = number(100 * float(here["acc_gap"].max()), 2)
        text = (
            f"{row['pair']}: the last epoch's mean test loss is above the lowest by {loss} nats under {top['scheme']}, "
            f"less under the others; the largest mean gap in accuracy is {acc} points (n = "
            f"{sizes([int(n) for n in here['seeds']])} a scheme)"
            if len(here) > 1
            else f"{row['pair']}, {top['scheme']}: the last epoch's test loss is above the lowest by {loss} nats, its "
            f"accuracy {acc} points below the highest (n = {sizes([int(n) for n in here['seeds']])})"
        )
        yield f"{text}."
        if row["p"] < 1 - CONFIDENCE:
            yield (
                f"{row['pair']}: the gap differs between schemes by more than seeds explain ({p_value(row['p'])}), so "
                "choosing the best epoch favours some of them."
            )
        if row["lowest_last"] != row["lowest_best"]:
            yield (
                f"{row['pair']}: {row['lowest_last']} has the lowest mean at the last epoch, {row['lowest_best']} at the "
                f"best: the choice of epoch decides (order of {row['schemes']} schemes, Kendall's τ "
                f"{number(row['tau'], 2) if not math.isnan(row['tau']) else 'unknown'})."
            )
