"""The sentences of :mod:`analyses.convergence`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analyses.convergence.numbers import ALL, SPLITS, of_probe
from analyses.words import count, estimate, listed, number, records


def on_cost(cost: pd.DataFrame, tolerance: float) -> Iterator[str]:
    """Passes and seconds to the tolerance, and what the efficient protocol saves."""
    to = f"±{number(100 * tolerance, 2 if tolerance < 0.01 else 0)} %"
    for row in records(cost):
        head = f"{row['teacher']}, {row['split']} images, {row['protocol']}:"
        passes = estimate(*_ends_of(row, "passes_needed", 1e6), most=3)
        seconds = estimate(*_ends_of(row, "seconds_needed"), most=1)
        yield (
            f"{head} {to} for each of {count(row['schemes'], 'scheme')}, asked about one by one, takes {passes} million "
            f"passes of the teacher; making and asking the views alone takes {seconds} s on this machine (scaled by the "
            "square of the half-width reached)."
        )
        if math.isnan(row["gain"]):
            continue
        gain = estimate(row["gain"], row["gain_low"], row["gain_high"], 2)
        if row["gain_low"] <= 1 <= row["gain_high"]:
            yield f"{head} its interval cannot be told from the published protocol's at equal batches (ratio {gain})."
        else:
            way = "fewer" if row["gain"] > 1 else "more"
            yield f"{head} for equal width it takes {way} batches than the published protocol, by a factor of {gain}."


def _ends_of(row: dict[str, Any], name: str, unit: float = 1.0) -> tuple[float, float, float]:
    return row[name] / unit, row[f"{name}_low"] / unit, row[f"{name}_high"] / unit


def on_ratio(found: pd.DataFrame, a: str, b: str, other: str) -> Iterator[str]:
    """Whether T. stddev of ``a`` and of ``b`` agree, for every group of ``other``."""
    if found.empty:
        return
    for row in records(found[found["scheme"] == ALL]):
        head = f"{row['teacher']}, {row[other]}{' images' if other == 'split' else ''}: "
        said = f"{estimate(row['ratio'], row['low'], row['high'])}, {count(row['repeats'], 'repeat')}"
        own = records(found[(found["teacher"] == row["teacher"]) & (found[other] == row[other])])
        told = [
            f"{r['scheme']} at {estimate(r['ratio'], r['low'], r['high'], 3)}"
            for r in own
            if r["scheme"] != ALL and (r["low"] > 1 or r["high"] < 1)
        ]
        text = f"{head}T. stddev {a} over that {b} is {said}, mean over schemes"
        if row["low"] <= 1 <= row["high"]:
            text += ", which cannot be told from 1"
        yield f"{text}; by themselves {listed(told)}." if told else f"{text}."


def on_order(order: pd.DataFrame, told: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """From which number of batches on the pairs told apart at the end stand rightly."""
    repeats = int(table["repeat"].nunique())
    for key, own in table.groupby(["teacher", "split", "protocol"], sort=False):
        teacher, split, protocol = map(str, key)
        every = math.comb(own["scheme"].nunique(), 2)
        if not every:
            continue
        pairs, most = len(of_probe(told, key)), int(own["batches"].max())
        head = f"{teacher}, {split} images, {protocol}: {repeats} repeats of {most:,} batches tell"
        if not pairs:
            yield f"{head} none of {count(every, 'pair')} of schemes apart, so this cannot say when their order stands."
            continue
        head += f" {pairs} of {count(every, 'pair')} of schemes apart"
        path = of_probe(order, key).sort_values("batches") if len(order) else order
        wrong = path[path["in_order"] < 1]["batches"]
        stands = path[path["batches"] > wrong.max()] if len(wrong) else path
        if stands.empty:
            yield f"{head}; not all of these stand rightly in every single repeat even at the end."
            continue
        first = records(stands)[0]
        since = "the first look on, at" if not len(wrong) else "the look at"
        since += f" {int(first['batches']):,} batches" + ("" if not len(wrong) else " on")
        yield f"{head}; from {since}, all of these stand rightly in these repeats; a new probe may need more."


def on_rank(table: pd.DataFrame, told: pd.DataFrame) -> Iterator[str]:
    """Whether training and test images order the schemes alike, by the pairs that both tell apart."""
    for teacher, protocol in dict.fromkeys(zip(table["teacher"], table["protocol"], strict=True)):
        by = {
            split: {
                (r["a"], r["b"]): r["ratio"] > 1 for r in records(of_probe(told, (teacher, split, protocol)))
            }
            for split in SPLITS
        }
        both = [pair for pair in by["train"] if pair in by["test"]]
        if not both:
            continue
        turned = sum(by["train"][pair] != by["test"][pair] for pair in both)
        yield (
            f"{teacher}, {protocol}: of {count(len(both), 'pair')} of schemes that training and test images both tell "
            f"apart, {turned} {'stands' if turned == 1 else 'stand'} the other way round."
        )
