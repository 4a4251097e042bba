"""Which scheme should I use: the one with the lowest T. stddev, the one that trained best, or the usual default?

Three ways of choosing, judged on seeds that had no part in the choice (:mod:`.inference.held_out`). The usual default is
``identity``: the data set's standard augmentation and nothing on top. Choosing is by test loss, and by the same test
images in all seeds; what is held out are seeds, not images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.figures.which_scheme import ChoiceFacts, draw_choices
from analyses.inference import seeds as seeds_
from analyses.inference.held_out import Cells, cells_of
from analyses.inference.spread import note_of_few, scatter
from analyses.study import Study
from analyses.study.shape import read_json
from analyses.study.traits import MEASURED, SEEDS, SEVERAL, Need
from analyses.words import count, estimate, listed, number, probability, records

QUESTION = "Which scheme should I use, and what does each way of choosing it cost?"
NEEDS: tuple[Need, ...] = (SEVERAL, SEEDS, MEASURED)
DEFAULT = "identity"
BY_T, BY_TRAINING, BY_DEFAULT = "lowest T. stddev", "measured best", "default"
WAYS = (BY_T, BY_TRAINING, BY_DEFAULT)
HEADS = {
    "passes": "teacher passes",
    "seconds": "seconds that choosing took",
    "elsewhere": "chosen by the other seeds",
}
COMPARISONS = 3  # each of the first two against the default, and the first against the second


@dataclass(frozen=True, slots=True, eq=False)
class WhichScheme:
    """The result, unrounded.

    Attributes:
        choices: A row per pair and way: ``pair, way, chosen`` (by all seeds), ``elsewhere`` (by the other seeds, for each
            seed), ``loss`` (mean on held-out seeds, nats), ``gain, gain_low, gain_high`` (loss against the default,
            negative is better) and ``gain_acc…`` (accuracy points); ``regret, regret_low, regret_high`` (loss against
            the measured best of the other seeds) and ``regret_acc…``; ``p_best, expected_regret`` (nats) under a
            flat prior; ``seeds, schemes``; ``runs`` trained, ``passes`` of the teacher and ``seconds`` that choosing took
            (NaN where not on record), ``student`` whose help the T. stddev of the choice took; ``p_spread`` of "no
            scheme's seeds scatter more than the others'" and ``loudest``, the one that scatters most. The three
            intervals of loss hold together, those of accuracy too.
        p_best: ``pair, scheme, p_best, expected_regret``.
        refused: Pair, or pair and way → why there is no choice.
        findings: In words.
    """

    choices: pd.DataFrame
    p_best: pd.DataFrame
    refused: dict[str, str]
    findings: tuple[str, ...]

    def figure(self, pair: str) -> tuple[Figure, ChoiceFacts] | None:
        """Gains over the default and probabilities of being best; None for a pair without a choice."""
        if self.choices.empty or pair not in set(self.choices["pair"]):
            return None
        return draw_choices(pair, self.choices, self.p_best)


def run(study: Study, default: str = DEFAULT) -> WhichScheme:
    """Compares the three ways of choosing in every pair.

    Args:
        study: A study with two seeds or more.
        default: Canonical name of the scheme that would be used without looking.

    Raises:
        MissingError: A teacher-only measurement cannot be read.
    """
    refused: dict[str, str] = {}
    frames: list[dict[str, Any]] = []
    chances: list[pd.DataFrame] = []
    for pair in study.pairs:
        points = study.points(pair)
        known = list(study.outcomes[study.outcomes["pair"] == pair]["scheme"].astype(str))
        loss = cells_of(study.used, pair, "test_loss_last", known)
        accuracy = cells_of(study.used, pair, "acc_last", known)
        if loss is None or accuracy is None:
            refused[pair] = "nothing to choose and judge by: two schemes with two seeds in common are needed"
            continue
        best = _posterior(study, pair, loss)
        chances.append(best)
        ways = {BY_TRAINING: loss.lowest_elsewhere()}
        measured = points[points["scheme"].isin(set(loss.schemes))]
        if len(measured) < 2:
            refused[f"{pair}, {BY_T}"] = f"T. stddev is on record for {count(len(measured), 'scheme')}"
        else:
            lowest = records(measured.sort_values(["t_stddev", "scheme"]))[0]
            ways[BY_T] = (str(lowest["scheme"]),) * len(loss.seeds)
        if default in loss.schemes:
            ways[BY_DEFAULT] = (default,) * len(loss.seeds)
        else:
            refused[f"{pair}, {BY_DEFAULT}"] = f"{default} was not run under all common seeds"
        frames += [_row(study, pair, way, ways, (loss, accuracy), best) for way in WAYS if way in ways]
    choices = pd.DataFrame(frames)
    p_best = pd.concat(chances, ignore_index=True) if chances else pd.DataFrame()
    findings = [f"{name}: no choice ({why})." for name, why in refused.items()]
    if len(choices):
        for name, rows in choices.groupby("pair", sort=False):
            findings += _findings(str(name), {row["way"]: row for row in records(rows)})
    return WhichScheme(choices, p_best, refused, tuple(findings))


def _posterior(study: Study, pair: str, cells: Cells) -> pd.DataFrame:
    own = study.used[
        (study.used["pair"] == pair)
        & study.used["scheme"].isin(set(cells.schemes))
        & study.used["seed"].isin(set(cells.seeds))
    ]
    found = seeds_.of_runs(own, pair)
    rows = []
    if found.residual_df == 0 or found.residual == 0:
        chance = regret = [math.nan] * len(found.schemes)
    else:
        draws = found.draws(study.rng(f"which scheme {pair}"))
        lowest = draws.min(axis=1)
        winner = draws.argmin(axis=1)
        chance = [float((winner == i).mean()) for i in range(len(found.schemes))]
        regret = [float((draws[:, i] - lowest).mean()) for i in range(len(found.schemes))]
    for scheme, mean, p, r in zip(found.schemes, found.mean, chance, regret, strict=True):
        rows.append(
            {"pair": pair, "scheme": scheme, "test_loss": float(mean), "p_best": p, "expected_regret": r}
            | {"p_spread": found.equal_spread(), "loudest": found.loudest}
        )
    return pd.DataFrame(rows).sort_values(["test_loss", "scheme"], ignore_index=True)


def _row(
    study: Study,
    pair: str,
    way: str,
    ways: dict[str, tuple[str, ...]],
    cells: tuple[Cells, Cells],
    best: pd.DataFrame,
) -> dict[str, Any]:
    loss, accuracy = cells
    chosen = str(best["scheme"].iloc[0]) if way == BY_TRAINING else ways[way][0]
    mine = best[best["scheme"] == chosen].iloc[0]
    out: dict[str, Any] = {
        "pair": pair,
        "way": way,
        "chosen": chosen,
        "elsewhere": ", ".join(ways[way]),
        "loss": loss.mean_of(ways[way]),
        "acc": accuracy.mean_of(ways[way]),
    }
    for name, against in (("gain", BY_DEFAULT), ("regret", BY_TRAINING)):
        for suffix, table, unit in (("", loss, 1.0), ("_acc", accuracy, 100.0)):
            ends = (math.nan,) * 3
            if against in ways and way != against:
                ends = table.difference(ways[way], ways[against], COMPARISONS)
            keys = (f"{name}{suffix}", f"{name}{suffix}_low", f"{name}{suffix}_high")
            out |= dict(zip(keys, (unit * end for end in ends), strict=True))
    out |= {"p_best": float(mine["p_best"]), "expected_regret": float(mine["expected_regret"])}
    out |= {"p_spread": float(mine["p_spread"]), "loudest": str(mine["loudest"])}
    out |= {"seeds": len(loss.seeds), "schemes": len(loss.schemes)}
    return out | _cost(study, pair, way, chosen, loss)


def _cost(study: Study, pair: str, way: str, chosen: str, cells: Cells) -> dict[str, Any]:
    """What choosing took: runs, teacher passes and seconds; the seconds of a probe are those of its whole document."""
    free: dict[str, Any] = {"runs": 0, "passes": 0.0, "seconds": 0.0, "student": None}
    if way == BY_DEFAULT:
        return free
    if way == BY_TRAINING:
        runs = study.used[(study.used["pair"] == pair) & study.used["scheme"].isin(set(cells.schemes))]
        runs = runs[runs["seed"].isin(set(cells.seeds))]
        seconds = float(runs["seconds"].sum(skipna=False)) if "seconds" in runs else math.nan
        return free | {"runs": len(runs), "seconds": seconds}
    measured = study.measured(pair)
    passes = seconds = 0.0
    for path in dict.fromkeys(found.path for found in measured.values()):
        document = read_json(path, "teacher-only measurement")
        shared = (document.get("shared") or {}).get("originals_forwards", math.nan)
        views = [row.get("teacher_forwards", math.nan) for row in document["results"]]
        passes += float(shared) + float(sum(views))
        seconds += float((document.get("provenance") or {}).get("seconds", math.nan))
    if not measured:
        passes = seconds = math.nan
    student = measured[chosen].student if chosen in measured else None
    return free | {"passes": passes, "seconds": seconds, "student": student}


def _findings(pair: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    named = [
        f"{row['chosen']} by {_WORDS[way]} (P(best) {probability(row['p_best'])})"
        for way in WAYS
        if (row := rows.get(way))
    ]
    any_row = next(iter(rows.values()))
    n = f"n = {count(any_row['seeds'], 'seed')}, {count(any_row['schemes'], 'scheme')}"
    yield f"{pair}: {listed(named)} ({n})."
    told = {
        way: _against(pair, rows[way], "gain", rows[BY_DEFAULT]["chosen"])
        for way in (BY_T, BY_TRAINING)
        if way in rows and BY_DEFAULT in rows
    }
    yield from told.values()
    if BY_T in rows:
        yield _against(pair, rows[BY_T], "regret", "the scheme that trained best under the other seeds")
    if said := scatter(any_row["p_spread"], any_row["loudest"]):
        yield f"{pair}: {said}; the intervals allow for it, P(best) takes one spread for all."
    yield from _costs(pair, rows)
    if BY_DEFAULT in rows:
        yield _advice(pair, rows)


_WORDS = {BY_T: "the lowest T. stddev", BY_TRAINING: "training every scheme", BY_DEFAULT: "default"}


def _against(pair: str, row: dict[str, Any], name: str, other: str) -> str:
    lead = f"{pair}: on seeds that had no part in it, choosing by {_WORDS[row['way']]}"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low == high == 0:
        return f"{lead} is the same as {other} (n = {count(row['seeds'], 'seed')})."
    loss = estimate(row[name], low, high)
    acc = estimate(row[f"{name}_acc"], row[f"{name}_acc_low"], row[f"{name}_acc_high"], 2)
    tail = (
        f"{loss} nats, accuracy {acc} points (n = {count(row['seeds'], 'seed')}; three intervals of a kind hold "
        f"together{note_of_few(row['seeds'])}{_in_sample(row)})"
    )
    if low <= 0 <= high:
        return f"{lead} cannot be told from {other} by the test loss: {tail}."
    return f"{lead} leaves a {'lower' if high < 0 else 'higher'} test loss than {other}: {tail}."


def _in_sample(row: dict[str, Any]) -> str:
    """Said where holding out changed nothing: the winner is then judged by seeds that, all together, named it."""
    if row["way"] != BY_TRAINING or set(row["elsewhere"].split(", ")) != {row["chosen"]}:
        return ""
    return f"; every fold chose {row['chosen']}, so this compares it by the seeds that named it"


def _costs(pair: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    parts = []
    if BY_T in rows:
        row = rows[BY_T]
        if math.isnan(row["passes"]) or math.isnan(row["seconds"]):
            parts.append("what T. stddev cost is not on record")
        else:
            parts.append(
                f"T. stddev of all schemes took {row['passes']:,.0f} teacher passes and {number(row['seconds'], 0)} s"
            )
        if row["student"]:
            parts.append(f"for {row['chosen']} with the help of a trained student ({row['student']})")
    if BY_TRAINING in rows:
        row = rows[BY_TRAINING]
        took = "unknown time" if math.isnan(row["seconds"]) else f"{number(row['seconds'], 0)} s"
        parts.append(f"training took {count(row['runs'], 'run')} and {took}")
    if parts:
        yield f"{pair}: {'; '.join(parts)}."


def _advice(pair: str, rows: dict[str, dict[str, Any]]) -> str:
    """Only a gain whose interval excludes 0 is a reason to leave the default; among shown gains the cheaper way wins."""
    shown = {way for way in (BY_T, BY_TRAINING) if way in rows and rows[way]["gain_high"] < 0}
    default = rows[BY_DEFAULT]["chosen"]
    if not shown:
        return f"{pair}: neither choice is shown to beat {default}; this study gives no reason to leave it."
    if shown == {BY_TRAINING} or (BY_T in shown and rows[BY_T]["regret_low"] > 0):
        return (
            f"{pair}: use {rows[BY_TRAINING]['chosen']}: choosing by training every scheme beats {default}."
        )
    also = ", and training every scheme is not shown to be worth more" if BY_TRAINING in shown else ""
    return f"{pair}: use {rows[BY_T]['chosen']}: it beats {default}{also}."
