"""How do T. stddev and the covariance of the cross-entropy move while the teacher follows the student?

A teacher that is an average of the student has no one T. stddev. The records hold, for every batch of a recorded epoch,
the mean probabilities of the teacher that taught it, so T. stddev can be followed epoch by epoch. The teacher moves
within an epoch too, which would count as spread; squared differences of successive batches take that out:

    T. stddev of an epoch = (1 + 3/(8K)) · mean over classes of sqrt( Σ_k (p̄_{k+1} − p̄_k)² / (2 (K − 1)) / 5 ),

p̄_k the mean over originals and views of step k of K, 5 batches a pool (von Neumann et al. 1941). The factor takes
out the bias of the square root, 9 % at 4 steps and 2 % at 20, to within 1 %. Differences of disjoint batches of one
epoch have the expectation of independent draws, so the value lacks the correction for a finite training set that the
study's T. stddev has, and is compared with others of its own kind only. The covariance of the teacher–student cross-
entropy is formed from the same differences, position by position. The first step of an epoch is left out: there a
teacher new on its shift answers with the weights of its last one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analyses.inference.over_seeds import against, summarise, t_interval
from analyses.study import Study
from analyses.study.names import is_recursive, setting_names
from analyses.study.settings import FIXED, TrainedRun, trained_runs
from analyses.study.traits import FOLLOWING, Need
from analyses.words import CANNOT, LEVEL, count, estimate, listed, records, sizes
from kdstats.errors import CheckError
from kdstats.estimators.layout import BATCHES_PER_POOL
from kdstats.figures.style import COLUMN, marks, plain, style
from kdstats.recorded.steps import full_steps
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.scanner import scan_pools

QUESTION = (
    "How do T. stddev and the covariance of the cross-entropy move while the teacher follows the student?"
)
NEEDS: tuple[Need, ...] = (FOLLOWING, (lambda has: has.pools, "no run kept mean probabilities of its pools"))
REFERENCE = "identity"
MEASURES = {
    "t_stddev": "T. stddev",
    "mean_covariance": "mean covariance",
    "teacher_entropy": "teacher entropy",
}
PART = 0.25  # the first and the last quarter of the recorded epochs are compared
LEAST_STEPS = 4
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurrentFacts:
    """What the curves show, for their caption."""

    settings: tuple[str, ...]
    seeds: tuple[int, int]
    epochs: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"T. stddev of the teacher that was teaching, from differences of successive batches, at each of "
            f"{count(self.epochs, 'recorded epoch')} ({count(len(self.settings), 'setting')}, {sizes(self.seeds)} "
            f"each). Line: mean over seeds; shade: {LEVEL} interval over seeds. Not comparable with the T. stddev of "
            "other figures, which is corrected for a finite training set."
        )


@dataclass(frozen=True, slots=True, eq=False)
class CurrentTeacher:
    """The result, unrounded.

    Attributes:
        per_epoch: A row per run and recorded epoch: ``setting, pair, scheme, teaching, follows`` (whether the teacher
            follows the student), ``seed, epoch, steps, views`` and every name of :data:`MEASURES` (probability, nats²,
            nats of the views).
        curves: Means over seeds per setting and epoch, ``_low`` and ``_high`` each.
        table: Per setting: T. stddev and covariance over the last quarter of the epochs with ends over seeds, and
            ``change`` = T. stddev of the last over the first quarter (geometric mean of ratios within seeds) with ends
            that hold together over settings.
        contrasts: Per group of settings alike but for the scheme: ``scheme, ratio, low, high`` of late T. stddev to
            that of identity within seeds; the ends of a group hold together.
        findings: In words.
    """

    per_epoch: pd.DataFrame
    curves: pd.DataFrame
    table: pd.DataFrame
    contrasts: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, CurrentFacts] | None:
        """T. stddev over the epochs, a line a setting; None where nothing was recorded."""
        return None if self.curves.empty else _draw(self.curves)


def run(study: Study, *others: Study) -> CurrentTeacher:
    """Follows every recorded run whose teacher follows its student, and fixed ones beside them.

    Args:
        study: A study with ``[teaching] kind = "ema"`` or ``"dual"`` and records.
        others: More of them.

    Raises:
        MissingError: Records or a ``run.json`` are damaged.
        CheckError: A recorded mean is no probability vector, or a cross-entropy is no number.
    """
    empty = pd.DataFrame()
    runs = trained_runs(study, *others)
    following = [r for r in runs if r.settings["teaching"] != FIXED]
    kept = [r for r in runs if epoch_parts(RunPaths(r.folder).samples)]
    findings: list[str] = []
    why = ""
    if not following:
        why = "no run has a teacher that follows the student; a fixed one has one T. stddev, which the study measured"
    elif not any(r in kept for r in following):
        why = "no run with such a teacher recorded samples"
    if why:
        return CurrentTeacher(empty, empty, empty, empty, (f"This {CANNOT} {why}.",))
    names = setting_names(kept)
    changing = [r for r in kept if _changes_within_epochs(r)]
    if changing:
        findings.append(
            f"{listed(sorted({names[r.digest] for r in changing}))}: left out, the teachers take turns within an epoch, "
            "so successive batches have different ones."
        )
    frames = [_read(r, names[r.digest]) for r in kept if r not in changing]
    per_epoch = pd.concat(frames, ignore_index=True) if frames else empty
    if per_epoch.empty:
        findings.append(f"This {CANNOT} no recorded epoch has {LEAST_STEPS} steps of one teacher.")
        return CurrentTeacher(empty, empty, empty, empty, tuple(findings))
    per_run = _early_and_late(per_epoch)
    table, contrasts = _table(per_run), _contrasts(per_run)
    dependent = sorted({r.scheme for r in kept if is_recursive(r.scheme)})
    if dependent:
        findings.append(
            f"{listed(dependent)}: views hold part of the batch before, so differences of successive batches understate "
            "the spread; compare these with themselves only."
        )
    findings += [*_findings(table), *_contrasted(contrasts)]
    findings.append(
        "Not to be had from this study: T. stddev of a teacher held still at an epoch's end, and of teachers off their "
        "shift, because weights of teachers that follow a student are not kept and resting ones are not asked."
    )
    return CurrentTeacher(per_epoch, _curves(per_epoch), table, contrasts, tuple(findings))


def successive(values: Floats) -> Floats:
    """Mean squared difference of successive rows ``[K, …]`` over 2: the variance of a row with slow drift taken out."""
    return np.asarray((np.diff(values, axis=0) ** 2).mean(axis=0) / 2)


def t_stddev_of(means: Floats) -> float:
    """T. stddev of one epoch from the mean probabilities ``[K, C]`` of its batches, see the module."""
    small = 1 + 3 / (8 * len(means))
    return small * float(np.sqrt(successive(means) / BATCHES_PER_POOL).mean())


def covariance_of(u: Floats) -> float:
    """Mean covariance of two positions of a step, nats², from ``[K, N]`` with slow drift taken out.

    From ``Var(mean) = v/N + (N − 1)/N · c`` with v the mean variance of a position.
    """
    n = u.shape[1]
    if n < 2:
        return math.nan
    return float((n * successive(u.mean(axis=1)) - successive(u).mean()) / (n - 1))


def _changes_within_epochs(run_: TrainedRun) -> bool:
    return (
        run_.settings.get("teaching.unit") == "step" and int(run_.settings.get("teaching.teachers") or 1) > 1
    )


def _read(run_: TrainedRun, setting: str) -> pd.DataFrame:
    paths = RunPaths(run_.folder)
    spread = dict(_of_pools(paths))
    rows: list[dict[str, Any]] = []
    for epoch, u, entropy in _of_samples(paths):
        if epoch not in spread or len(u) < LEAST_STEPS:
            continue
        value, steps, views = spread[epoch]
        rows.append(
            {"setting": setting, "pair": run_.pair, "scheme": run_.scheme, "teaching": run_.teaching}
            | {"follows": run_.settings["teaching"] != FIXED, "seed": run_.seed, "epoch": epoch}
            | {"steps": steps, "views": views, "t_stddev": value}
            | {"mean_covariance": covariance_of(u), "teacher_entropy": entropy}
        )
    return pd.DataFrame(rows)


def _of_pools(paths: RunPaths) -> Iterator[tuple[int, tuple[float, int, str]]]:
    """``(epoch, (T. stddev, steps, views))`` from the means of the batches, steps of the usual size only."""
    portions = list(scan_pools(paths))
    if not portions or "step" not in portions[0]:
        raise CheckError(f"{paths.pools} holds ready-made pools; batches are needed here")
    rows = {
        name: np.concatenate([p[name] for p in portions])
        for name in ("epoch", "step", "n", "view", "mean_prob")
    }
    weight = rows["n"].astype(np.float64)
    key = rows["epoch"].astype(np.int64) << 32 | rows["step"].astype(np.int64)
    steps, of = np.unique(key, return_inverse=True)
    sums = np.zeros((len(steps), rows["mean_prob"].shape[1]))
    np.add.at(sums, of, rows["mean_prob"].astype(np.float64) * weight[:, None])
    inputs = np.bincount(of, weight)
    views = "original+augmented" if len(np.unique(rows["view"])) > 1 else "augmented only"
    means, epoch = sums / inputs[:, None], steps >> 32
    for number in np.unique(epoch).tolist():
        own = (epoch == number) & (inputs == inputs.max())
        if own.sum() > LEAST_STEPS:
            yield int(number), (t_stddev_of(means[own][1:]), int(own.sum()) - 1, views)


def _of_samples(paths: RunPaths) -> Iterator[tuple[int, Floats, float]]:
    """``(epoch, ts_ce [K, N] without the first step, mean teacher entropy of the views)`` of every epoch."""
    held: list[tuple[int, Floats, float, int]] = []
    for chunk in full_steps(paths, ("ts_ce", "t_entropy")):
        if held and held[-1][0] != chunk.epoch:
            yield _whole(held)
            held = []
        u = chunk.matrix("ts_ce").astype(np.float64)
        if not np.isfinite(u).all():
            raise CheckError(f"{paths.root}, epoch {chunk.epoch}: a cross-entropy is NaN or infinite")
        entropy = chunk.matrix("t_entropy")[:, chunk.pattern.view == 1]
        held.append((chunk.epoch, u, float(entropy.sum(dtype=np.float64)), entropy.size))
    if held:
        yield _whole(held)


def _whole(held: Sequence[tuple[int, Floats, float, int]]) -> tuple[int, Floats, float]:
    views = sum(n for _, _, _, n in held)
    u = np.concatenate([part for _, part, _, _ in held])[1:]
    return held[0][0], u, sum(total for _, _, total, _ in held) / views if views else math.nan


def _early_and_late(per_epoch: pd.DataFrame) -> pd.DataFrame:
    """One row per run: means over the first and the last quarter of its epochs."""
    rows = []
    for (setting, seed), own in per_epoch.groupby(["setting", "seed"], sort=False):
        epochs = sorted(own["epoch"])
        n = max(1, int(len(epochs) * PART))
        late = own[own["epoch"].isin(epochs[-n:])]
        early = own[own["epoch"].isin(epochs[:n])]
        first = records(own)[0]
        row: dict[str, Any] = {k: first[k] for k in ("pair", "scheme", "teaching", "follows", "views")}
        row |= {"setting": setting, "seed": seed, "epochs": len(epochs)}
        row |= {name: float(late[name].mean()) for name in MEASURES}
        change = float(late["t_stddev"].mean() / early["t_stddev"].mean()) if len(epochs) > 1 else math.nan
        rows.append(row | {"change": change})
    return pd.DataFrame(rows)


def _table(per_run: pd.DataFrame) -> pd.DataFrame:
    groups = per_run.groupby("setting", sort=False)
    rows = []
    for setting, own in groups:
        first = records(own)[0]
        row: dict[str, Any] = {k: first[k] for k in ("pair", "scheme", "teaching", "follows", "views")}
        row |= {"setting": setting, "seeds": int(own["seed"].nunique()), "epochs": int(own["epochs"].min())}
        for name in MEASURES:
            ends = t_interval(own[name])
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        change = [math.exp(v) for v in t_interval(np.log(own["change"].to_numpy()), groups.ngroups)]
        rows.append(row | dict(zip(("change", "change_low", "change_high"), change, strict=True)))
    return pd.DataFrame(rows)


def _contrasts(per_run: pd.DataFrame) -> pd.DataFrame:
    """Late T. stddev of every scheme over that of identity, pair and teaching alike."""
    rows = []
    # Settings of one name for who teaches may differ in more; only one setting per scheme can be compared.
    for (pair, teaching, views), own in per_run.groupby(["pair", "teaching", "views"], sort=False):
        if own.groupby("scheme")["setting"].nunique().max() > 1:
            continue
        found = against(own.assign(pair="one"), "t_stddev", REFERENCE, log=True)
        for (_, scheme), (ratio, low, high) in found.items():
            rows.append(
                {"pair": pair, "teaching": teaching, "views": views, "scheme": scheme}
                | {"ratio": ratio, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def _curves(per_epoch: pd.DataFrame) -> pd.DataFrame:
    return summarise(per_epoch, list(MEASURES), ("setting", "epoch"))


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for row in table.to_dict("records"):
        late = estimate(1e3 * row["t_stddev"], 1e3 * row["t_stddev_low"], 1e3 * row["t_stddev_high"])
        cov = estimate(row["mean_covariance"], row["mean_covariance_low"], row["mean_covariance_high"])
        tail = f"n = {sizes([row['seeds']])}, {count(row['epochs'], 'recorded epoch')}"
        head = (
            f"{row['setting']}: over the last quarter of the recorded epochs T. stddev from successive batches is "
            f"{late} × 10⁻³ and the mean covariance {cov} nats² ({tail})"
        )
        if math.isnan(row["change"]):
            yield f"{head}; one recorded epoch shows no change."
            continue
        times = estimate(row["change"], row["change_low"], row["change_high"], 3)
        if math.isnan(row["change_low"]):
            yield f"{head}; it is {times} times that of the first quarter, and one seed gives no interval."
        elif row["change_low"] <= 1 <= row["change_high"]:
            yield f"{head}; this study cannot tell it from that of the first quarter (ratio {times})."
        else:
            way = "higher" if row["change_low"] > 1 else "lower"
            yield f"{head}; it is {way} than over the first quarter, {times} times."


def _contrasted(contrasts: pd.DataFrame) -> Iterator[str]:
    if contrasts.empty:
        return
    for (pair, teaching), rows in contrasts.groupby(["pair", "teaching"], sort=False):
        told = [
            f"{row['scheme']} at {estimate(row['ratio'], row['low'], row['high'], 3)}"
            for row in records(rows)
            if row["low"] > 1 or row["high"] < 1
        ]
        head = f"{pair}, {teaching}: late T. stddev over that of {REFERENCE}"
        if told:
            yield f"{head}: {listed(told)} (intervals of {count(len(rows), 'scheme')} hold together)."
        else:
            yield f"{head}: no scheme can be told from it ({count(len(rows), 'scheme')})."


def _draw(curves: pd.DataFrame) -> tuple[Figure, CurrentFacts]:
    looks = marks(curves["setting"])
    pairs = {str(setting).split(", ")[0] for setting in looks}
    # Where all are of one pair, its name says nothing, and a legend cuts long names.
    cut = len(pairs.pop()) + 2 if len(pairs) == 1 else 0
    with style():
        figure = Figure(figsize=(COLUMN * 1.3, 2.4 + 0.13 * len(looks)), layout="constrained")
        ax = figure.add_subplot()
        for setting, part in curves.groupby("setting", sort=False):
            look, part = looks[str(setting)], part.sort_values("epoch")
            ax.plot(
                part["epoch"],
                1e3 * part["t_stddev"],
                color=look.color,
                marker=look.marker,
                markevery=max(1, len(part) // 8),
                markersize=3,
                label=plain(str(setting)[cut:]),
            )
            if part["t_stddev_low"].notna().all():
                low, high = 1e3 * part["t_stddev_low"].clip(lower=0), 1e3 * part["t_stddev_high"]
                ax.fill_between(part["epoch"], low, high, color=look.color, alpha=0.12, linewidth=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="epoch", ylabel="T. stddev (10⁻³)")
        ax.set_ylim(bottom=0)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    seeds = [int(n) for n in curves["seeds"]]
    settings = tuple(dict.fromkeys(map(str, curves["setting"])))
    return figure, CurrentFacts(settings, (min(seeds), max(seeds)), int(curves["epoch"].nunique()))
