"""What picking picks: how do the views that it keeps differ from the pool they were picked from?

:mod:`analyses.pick_ratio` reads the records, which hold kept views only. Here the study's own teacher is asked about
the whole pool: all draws of the base scheme are made as in training, ranked by the scheme's own criterion, and the
views kept are compared with all of their pool, batch by batch. Within a batch picked views and pool share images and
draws, so a difference between them comes from the picking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.inference.over_seeds import t_interval
from analyses.study import Study
from analyses.study.names import split
from analyses.study.traits import PICKING, TEACHERS, Need
from analyses.study.views import BATCHES, AskedBatch, Floats, ViewSource, check_batches, not_asked, sources
from analyses.words import CANNOT, LEVEL, estimate, listed, number
from kdstats.figures.style import COLUMN, marks, plain, style

if TYPE_CHECKING:
    from kdstats.schemes import Scheme
    from kdstats.schemes.combined.picking import Pick

QUESTION = (
    "What does picking pick: how do the views that it keeps differ from the pool they were picked from?"
)
NEEDS: tuple[Need, ...] = (PICKING, TEACHERS)
# Name → what it is called, its unit.
MEASURES = {
    "entropy": ("teacher's entropy", "nats"),
    "lam": ("share λ of the base image", ""),
    "right": ("teacher's λ-weighted accuracy", ""),
    "kl_original": ("KL(teacher of the original ‖ teacher of the view)", "nats"),
    "pixel_rms": ("root mean square change of pixels", "standard deviations"),
}


@dataclass(frozen=True, slots=True)
class PickedFacts:
    """What the points show, for their caption."""

    names: tuple[str, ...]
    batches: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Mean over picked views less mean over their pool, in standard deviations of the pool's views "
            f"({listed(self.names)}; {self.batches} batches of training images). Bars: intervals over batches that hold "
            f"together, {LEVEL}. At 0 picking leaves the quantity as it was."
        )


@dataclass(frozen=True, slots=True, eq=False)
class PickedViews:
    """The result, unrounded.

    Attributes:
        per_batch: A row per asker, scheme and batch: mean of every name of :data:`MEASURES` over the views picked
            (``<name>_picked``) and over the pool (``<name>_pool``), ``images`` (share of the batch's images among the
            views picked), ``one_draw`` (largest share of them from one draw of the base scheme).
        table: A row per asker, scheme and measure: ``picked, pool, pool_sd`` (over its views), ``difference`` and
            ``standardised`` with ends; all intervals hold together. ``asker`` is the teacher, or the pair where a
            student picks.
        composition: ``images`` and ``one_draw`` with ends, and ``images_by_chance``, what blind picking would leave.
        findings: In words.
    """

    per_batch: pd.DataFrame
    table: pd.DataFrame
    composition: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, PickedFacts] | None:
        """Standardised differences, one row a measure; None where nothing picks."""
        return None if self.table.empty else _draw(self.table)


def run(study: Study, batches: int = BATCHES) -> PickedViews:
    """Makes, ranks and compares the pools of every picking scheme.

    Args:
        study: A study with weights and the data at hand.
        batches: Batches of training images per scheme.

    Raises:
        UsageError: Too few batches.
        CheckError: The teacher answers with NaN or infinity.
    """
    check_batches(batches)
    missing: list[str] = []
    findings: list[str] = []
    frames: list[dict[str, Any]] = []
    spreads: dict[tuple[str, str], dict[str, float]] = {}

    def wanted(name: str, scheme: Scheme) -> bool:
        return split(name)[1] is not None and hasattr(scheme, "criterion")

    seed = study.seed_for("picked_views")
    for source in sources(study, wanted, seed, missing):
        rows, spread = _compare(source, batches)
        frames += rows
        spreads[(source.name, source.label)] = spread
        if source.student is not None:
            findings.append(
                f"{source.name}, {source.label}: the student that picks is the trained one of seed "
                f"{source.student_seed}; what it picked while it learnt is not on record."
            )
    findings += not_asked(missing)
    per_batch = pd.DataFrame(frames)
    if per_batch.empty:
        if not missing:
            findings.append(f"This {CANNOT} no run picks its views.")
        return PickedViews(per_batch, pd.DataFrame(), pd.DataFrame(), tuple(findings))
    table, composition = _table(per_batch, spreads), _composition(per_batch)
    return PickedViews(per_batch, table, composition, (*findings, *_findings(table), *_composed(composition)))


def whole_pool(pick: Pick, batch_size: int) -> Pick:
    """A scheme that draws as ``pick`` does and keeps all of its pool, in ascending order of the criterion."""
    from kdstats.schemes.combined.picking import Pick

    return Pick(
        pick.name,
        pick.base,
        criterion=pick.criterion,
        runs=pick.runs,
        tau=pick.tau,
        n_pick=pick.runs * batch_size,
    )


def _compare(source: ViewSource, batches: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row per batch, and the standard deviation of every measure over the pools' views."""
    pick: Pick = source.scheme  # type: ignore[assignment]  # only those are wanted
    everything = source.with_scheme(whole_pool(pick, source.batch_size))
    kept = min(pick.n_pick or source.batch_size, pick.runs * source.batch_size)
    rows, squares, total = [], dict.fromkeys(MEASURES, 0.0), 0
    sums = dict.fromkeys(MEASURES, 0.0)
    for at, batch in enumerate(everything.batches(batches)):
        values = of_views(batch)
        row: dict[str, Any] = {"asker": source.name, "scheme": source.label, "batch": at}
        for name, value in values.items():
            row |= {f"{name}_picked": float(value[-kept:].mean()), f"{name}_pool": float(value.mean())}
            sums[name] += float(value.sum())
            squares[name] += float((value**2).sum())
        total += len(batch.answers)
        index = batch.view.index.cpu().numpy()[-kept:]
        draw = batch.view.draw.params["picked"].numpy()[-kept:] // source.batch_size
        row |= {
            "images": len(np.unique(index)) / source.batch_size,
            "one_draw": float(np.bincount(draw).max()) / kept,
            "images_by_chance": by_chance(source.batch_size, pick.runs, kept),
        }
        rows.append(row)
    spread = {
        name: math.sqrt(max(squares[name] - sums[name] ** 2 / total, 0.0) / (total - 1)) for name in MEASURES
    }
    return rows, spread


def of_views(batch: AskedBatch) -> dict[str, Floats]:
    """Per view, ``[V]`` each: see :data:`MEASURES`."""
    index = batch.view.index.cpu().numpy()
    first, second = batch.classes
    log_p, log_o = batch.answers, batch.original[index]
    top = log_p.argmax(axis=1)
    change = (batch.view.images - batch.x[batch.view.index]).double().square().flatten(1).mean(1).sqrt()
    return {
        "entropy": -(np.exp(log_p) * log_p).sum(axis=1),
        "lam": batch.lam,
        "right": batch.lam * (top == first) + (1 - batch.lam) * (top == second),
        "kl_original": (np.exp(log_o) * (log_o - log_p)).sum(axis=1),
        "pixel_rms": np.asarray(change.cpu().numpy()),
    }


def by_chance(images: int, runs: int, kept: int) -> float:
    """Expected share of a batch's images among ``kept`` views picked blindly from ``runs`` views of each."""
    pool = runs * images
    if kept > pool - runs:
        return 1.0
    absent = [(pool - kept - j) / (pool - j) for j in range(runs)]
    return 1 - math.prod(absent)


def _table(per_batch: pd.DataFrame, spreads: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    comparisons = len(spreads) * len(MEASURES)
    rows = []
    for key, spread in spreads.items():
        own = per_batch[(per_batch["asker"] == key[0]) & (per_batch["scheme"] == key[1])]
        for name in MEASURES:
            gap = t_interval(own[f"{name}_picked"] - own[f"{name}_pool"], comparisons)
            sd = spread[name]
            scaled = [value / sd if sd > 0 else math.nan for value in gap]
            rows.append(
                {"asker": key[0], "scheme": key[1], "measure": name, "batches": len(own)}
                | {"picked": float(own[f"{name}_picked"].mean()), "pool": float(own[f"{name}_pool"].mean())}
                | {"pool_sd": sd}
                | dict(zip(("difference", "low", "high"), gap, strict=True))
                | dict(zip(("standardised", "standardised_low", "standardised_high"), scaled, strict=True))
            )
    return pd.DataFrame(rows)


def _composition(per_batch: pd.DataFrame) -> pd.DataFrame:
    rows = []
    groups = per_batch.groupby(["asker", "scheme"], sort=False)
    for (asker, scheme), own in groups:
        row = {"asker": asker, "scheme": scheme, "batches": len(own)}
        for name in ("images", "one_draw"):
            ends = t_interval(own[name], groups.ngroups)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        rows.append(row | {"images_by_chance": float(own["images_by_chance"].iloc[0])})
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for (asker, scheme), own in table.groupby(["asker", "scheme"], sort=False):
        said, open_ = [], []
        for row in own.to_dict("records"):
            label, unit = MEASURES[row["measure"]]
            if row["low"] > 0 or row["high"] < 0:
                way = "higher" if row["low"] > 0 else "lower"
                gap = estimate(abs(row["difference"]), *sorted((abs(row["low"]), abs(row["high"]))))
                said.append(f"{label} {way} by {gap}{unit and ' '}{unit} (pool {number(row['pool'], 3)})")
            else:
                open_.append(label)
        head = f"{asker}, {scheme}: the views picked have "
        over = f"over {int(own['batches'].iloc[0])} batches, all intervals together"
        if said:
            yield f"{head}{listed(said)}; {over}."
        if open_:
            yield (
                f"{asker}, {scheme}: picked views cannot be told from their pool by {listed(open_)}; {over}."
            )


def _composed(composition: pd.DataFrame) -> Iterator[str]:
    for row in composition.to_dict("records"):
        chance = row["images_by_chance"]
        share = estimate(row["images"], row["images_low"], row["images_high"])
        if row["images_low"] <= chance <= row["images_high"]:
            beside = "as many as blind picking would leave, as far as can be told:"
        elif row["images"] > chance:
            beside = "more than blind picking would leave:"
        else:
            beside = "fewer than blind picking would leave:"
        yield (
            f"{row['asker']}, {row['scheme']}: of a batch's images a share of {share} is among the views picked, "
            f"{beside} {number(chance, 3)}."
        )


def _draw(table: pd.DataFrame) -> tuple[Figure, PickedFacts]:
    keys = list(dict.fromkeys(zip(table["asker"], table["scheme"], strict=True)))
    several = len({asker for asker, _ in keys}) > 1
    looks = marks(scheme for _, scheme in keys)
    with style():
        figure = Figure(
            figsize=(COLUMN * 1.3, 0.9 + 0.32 * len(MEASURES) + 0.1 * len(keys)), layout="constrained"
        )
        ax = figure.add_subplot()
        for k, (asker, scheme) in enumerate(keys):
            own = table[(table["asker"] == asker) & (table["scheme"] == scheme)]
            look = looks[scheme]
            y = np.arange(len(own)) + (k - (len(keys) - 1) / 2) * 0.6 / max(len(keys), 1)
            label = f"{asker}, {look.text}" if several else look.text
            ax.plot(own["standardised"], y, look.marker, color=look.color, label=plain(label))
            ax.hlines(y, own["standardised_low"], own["standardised_high"], color=look.color, linewidth=0.8)
        ax.axvline(0, color="#555555", linewidth=0.6)
        ax.set_yticks(range(len(MEASURES)), [label for label, _ in MEASURES.values()])
        ax.invert_yaxis()
        ax.set(xlabel="picked less pool (sd of views)")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    names = tuple(f"{scheme} ({asker})" for asker, scheme in keys)
    return figure, PickedFacts(names, int(table["batches"].iloc[0]))
