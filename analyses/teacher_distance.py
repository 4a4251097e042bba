"""How far do teacher and student stay from each other in training, under one average and under temporary teachers?

Distances are those of ``distances.jsonl``, measured on one fixed set of test images after every epoch where the
teachers follow the student. Dual Teacher's premise is that a single average comes too close to its student.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analyses.inference import seeds as seeds_
from analyses.inference.over_seeds import t_interval
from analyses.study import Study
from analyses.study.names import setting_names
from analyses.study.settings import TrainedRun, stratum_key, trained_runs
from analyses.study.traits import Need
from analyses.words import CANNOT, CONFIDENCE, count, estimate, listed, number, p_value, records, sizes
from kdstats.association.multiplicity import holm
from kdstats.errors import CheckError
from kdstats.figures.style import COLUMN, marks, plain, style
from kdstats.records.distances import FILE, read_distances

QUESTION = "How far does a student stay from its teacher in training, under one average and under temporary teachers?"
NEEDS: tuple[Need, ...] = ((lambda has: has.distances, "no run logged distances to its teachers"),)
# Name in the file → how it is called, and its unit.
DISTANCES = {
    "kl_mean": ("KL(teacher ‖ student)", "nats"),
    "symmetric_kl_mean": ("symmetric KL", "nats"),
    "probability_l2_mean": ("L2 distance of probabilities", ""),
    "disagreement_mean": ("share of images with another class", ""),
    "parameter_relative": ("relative L2 distance of parameters", ""),
    "parameter_cosine": ("cosine of parameters", ""),
    "cka": ("linear CKA of last features", ""),
}
PRIMARY = "kl_mean"
# Who teaches; the schemes of the shifts are not among it, they change the views.
WHO = ("teachers", "period", "unit", "restart", "decay", "warmup", "buffers")
LATE = 0.5  # the second half of training: early on every network is far from every other


@dataclass(frozen=True, slots=True)
class DistanceFacts:
    """What the curves show, for their caption."""

    name: str
    settings: tuple[str, ...]
    seeds: tuple[int, int]
    epochs: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"{self.name} on a fixed set of images after each of {count(self.epochs, 'epoch')} "
            f"({count(len(self.settings), 'setting')}, {sizes(self.seeds)} each). Line: mean over seeds; shade: ± the "
            "standard deviation over images, averaged over seeds."
        )


@dataclass(frozen=True, slots=True, eq=False)
class TeacherDistance:
    """The result, unrounded.

    Attributes:
        per_epoch: A row per run, epoch and pair of networks: ``setting, pair, scheme, teaching, seed, epoch, t, s``,
            every name of :data:`DISTANCES`, and ``kl_sd`` etc. (over images) where the file has them.
        curves: Over seeds: ``setting, epoch, distance, mean, low, high, image_sd, seeds``.
        table: Per setting and distance over the second half of the epochs: ``mean, low, high`` over seeds,
            ``epoch_sd`` (over epochs, averaged over seeds), ``image_sd``, ``seeds``.
        contrasts: Settings alike but for who teaches, per distance: ``a, b, distance, difference, low, high, p,
            p_holm``.
        findings: In words.
    """

    per_epoch: pd.DataFrame
    curves: pd.DataFrame
    table: pd.DataFrame
    contrasts: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self, distance: str = PRIMARY) -> tuple[Figure, DistanceFacts] | None:
        """One distance over the epochs, a line a setting; None where it was not measured."""
        if self.curves.empty:
            return None
        here = self.curves[(self.curves["distance"] == distance) & self.curves["mean"].notna()]
        return _draw(here, distance) if len(here) else None


def run(study: Study, *others: Study) -> TeacherDistance:
    """Reads the distances of every used run that has them.

    Args:
        study: A study with ``[teaching] kind = "ema"`` or ``"dual"``.
        others: More of them, one for each way of teaching.

    Raises:
        MissingError: A ``distances.jsonl`` or ``run.json`` is damaged.
        CheckError: A line lacks the primary distance, or an epoch is there twice for one pair of networks.
    """
    runs = [r for r in trained_runs(study, *others) if (r.folder / FILE).is_file()]
    empty = pd.DataFrame()
    if not runs:
        why = f"no run logged distances: they are measured where teachers follow the student ({FILE})"
        return TeacherDistance(empty, empty, empty, empty, (f"This {CANNOT} {why}.",))
    names = setting_names(runs)
    frames = [_read(r, names[r.digest]) for r in runs]
    per_epoch = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    if per_epoch.empty:
        why = "the logs of distances hold no epoch"
        return TeacherDistance(empty, empty, empty, empty, (f"This {CANNOT} {why}.",))
    late = _late(per_epoch)
    table = _table(late)
    contrasts = _contrasts(late, runs, names)
    findings = (*_findings(table), *_said(contrasts), *_unfair(contrasts, table))
    return TeacherDistance(per_epoch, _curves(per_epoch), table, contrasts, findings)


def _read(run_: TrainedRun, setting: str) -> pd.DataFrame:
    path = run_.folder / FILE
    rows = []
    for row in read_distances(path):
        if not isinstance(row.get(PRIMARY), int | float):
            raise CheckError(f"{path}, epoch {row['epoch']}: no {PRIMARY}")
        measured = {k: v for k, v in row.items() if k in DISTANCES or k.endswith("_sd")}
        rows.append(
            {"setting": setting, "pair": run_.pair, "scheme": run_.scheme, "teaching": run_.teaching}
            | {"seed": run_.seed, "digest": run_.digest, "epoch": row["epoch"]}
            | {"t": row.get("t", "teacher"), "s": row.get("s", "student")}
            | {k: math.nan if v is None else float(v) for k, v in measured.items()}
        )
    frame = pd.DataFrame(rows)
    if len(frame) and frame.duplicated(["epoch", "t", "s"]).any():
        again = records(frame[frame.duplicated(["epoch", "t", "s"])])[0]
        raise CheckError(f"{path} has epoch {again['epoch']} twice for {again['t']} and {again['s']}")
    return frame


def _sd_of(distance: str) -> str:
    return f"{distance.removesuffix('_mean')}_sd"


def _late(per_epoch: pd.DataFrame) -> pd.DataFrame:
    """One row per run and distance: its mean and spread over the second half of its epochs."""
    rows = []
    for digest, own in per_epoch.groupby("digest", sort=False):
        # Several pairs of networks an epoch (two teachers) count as one epoch.
        numeric = own.groupby("epoch").mean(numeric_only=True)
        half = numeric[numeric.index > numeric.index.max() * (1 - LATE)]
        first = records(own)[0]
        for name in DISTANCES:
            if name not in half or half[name].isna().all():
                continue
            values = half[name].dropna()
            sd = _sd_of(name)
            rows.append(
                {k: first[k] for k in ("setting", "pair", "scheme", "teaching", "seed")}
                | {"digest": digest, "distance": name, "mean": float(values.mean())}
                | {"epoch_sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan}
                | {"image_sd": float(half[sd].mean()) if sd in half else math.nan}
            )
    return pd.DataFrame(rows)


def _table(late: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (setting, name), own in late.groupby(["setting", "distance"], sort=False):
        mean, low, high = t_interval(own["mean"].to_numpy())
        rows.append(
            {"setting": setting, "pair": own["pair"].iloc[0], "scheme": own["scheme"].iloc[0]}
            | {"teaching": own["teaching"].iloc[0], "distance": name, "mean": mean, "low": low, "high": high}
            | {"epoch_sd": float(own["epoch_sd"].mean()), "image_sd": float(own["image_sd"].mean())}
            | {"seeds": int(own["seed"].nunique())}
        )
    return pd.DataFrame(rows)


def _curves(per_epoch: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (setting, epoch), own in per_epoch.groupby(["setting", "epoch"], sort=False):
        by_seed = own.groupby("seed").mean(numeric_only=True)
        for name in DISTANCES:
            if name not in by_seed or by_seed[name].isna().all():
                continue
            values = by_seed[name].dropna()
            mean, low, high = t_interval(values.to_numpy())
            sd = _sd_of(name)
            rows.append(
                {"setting": setting, "epoch": int(str(epoch)), "distance": name}
                | {"mean": mean, "low": low, "high": high, "seeds": len(values)}
                | {"image_sd": float(by_seed[sd].mean()) if sd in by_seed else math.nan}
            )
    return pd.DataFrame(rows).sort_values(["setting", "distance", "epoch"], ignore_index=True)


def _contrasts(late: pd.DataFrame, runs: Sequence[TrainedRun], names: dict[str, str]) -> pd.DataFrame:
    """Every two settings that differ in who teaches only, within seeds where they share them."""
    free = frozenset({"teaching", *(f"teaching.{name}" for name in WHO)})
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for r in runs:
        own = groups.setdefault(stratum_key(r, free), [])
        if names[r.digest] not in own:
            own.append(names[r.digest])
    two = [(a, b) for own in groups.values() for i, a in enumerate(sorted(own)) for b in sorted(own)[i + 1 :]]
    rows = []
    for a, b in two:
        for name in DISTANCES:
            part = late[(late["distance"] == name) & late["setting"].isin((a, b))]
            if part["setting"].nunique() < 2:
                continue
            frame = pd.DataFrame(
                {"pair": "both", "scheme": part["setting"], "seed": part["seed"], "distance": part["mean"]}
            )
            found = seeds_.of_runs(frame, "both", "distance")
            at = (found.schemes.index(a), found.schemes.index(b))
            # All pairs of settings hold together for a distance.
            gap, low, high = found.difference(*at, len(two))
            rows.append(
                {"a": a, "b": b, "distance": name, "difference": gap, "low": low, "high": high}
                | {"p": found.homogeneity()[1], "seeds": int(found.n.min()), "paired": found.paired}
            )
    frame = pd.DataFrame(rows)
    if len(frame):
        known = frame["p"].notna()
        frame["p_holm"] = math.nan
        frame.loc[known, "p_holm"] = holm(frame.loc[known, "p"].to_numpy(dtype=float))
    return frame


def _findings(table: pd.DataFrame) -> Iterator[str]:
    label, unit = DISTANCES[PRIMARY]
    for row in table[table["distance"] == PRIMARY].to_dict("records"):
        yield (
            f"{row['setting']}: over the second half of training the mean {label} is "
            f"{estimate(row['mean'], row['low'], row['high'])} {unit} (standard deviation {_sd(row['epoch_sd'])} "
            f"over epochs, {_sd(row['image_sd'])} over images; n = {sizes([row['seeds']])})."
        )


def _sd(value: float) -> str:
    return "unknown" if math.isnan(value) else number(value, 4)


def _said(contrasts: pd.DataFrame) -> Iterator[str]:
    if contrasts.empty:
        return
    label, unit = DISTANCES[PRIMARY]
    for row in contrasts[contrasts["distance"] == PRIMARY].to_dict("records"):
        if math.isnan(row["low"]):
            yield f"{row['a']} and {row['b']}: one seed each gives no interval for their difference."
            continue
        gap = (
            f"{estimate(row['difference'], row['low'], row['high'])} {unit}, n = {sizes([row['seeds']])} each"
        )
        if row["low"] <= 0 <= row["high"]:
            yield f"This study cannot tell the mean {label} under {row['a']} from that under {row['b']} ({gap})."
        else:
            way = "further from" if row["low"] > 0 else "nearer to"
            yield f"Under {row['a']} the student stays {way} its teacher than under {row['b']} ({gap})."
        agree = contrasts[(contrasts["a"] == row["a"]) & (contrasts["b"] == row["b"])]
        others = [
            f"{DISTANCES[r['distance']][0]} ({p_value(r['p_holm'])})"
            for r in agree.to_dict("records")
            if r["distance"] != PRIMARY and r["p_holm"] < 1 - CONFIDENCE
        ]
        if others:
            yield f"By other distances the two differ in {listed(others)}, Holm over {len(contrasts)} tests."


def _unfair(contrasts: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    if len(contrasts):
        return
    settings = table["setting"].nunique()
    why = (
        "all of them have one way of teaching"
        if table["teaching"].nunique() == 1
        else ("no two settings differ in who teaches only")
    )
    yield f"One average against temporary teachers {CANNOT} {why} ({count(settings, 'setting')} with distances)."


def _draw(curves: pd.DataFrame, distance: str) -> tuple[Figure, DistanceFacts]:
    looks = marks(curves["setting"])
    label, unit = DISTANCES[distance]
    with style():
        figure = Figure(figsize=(COLUMN * 1.3, 2.7), layout="constrained")
        ax = figure.add_subplot()
        for setting, part in curves.groupby("setting", sort=False):
            look = looks[str(setting)]
            every = max(1, len(part) // 8)
            ax.plot(
                part["epoch"],
                part["mean"],
                color=look.color,
                marker=look.marker,
                markevery=every,
                markersize=3,
                label=plain(str(setting)),
            )
            if part["image_sd"].notna().all():
                low, high = part["mean"] - part["image_sd"], part["mean"] + part["image_sd"]
                ax.fill_between(
                    part["epoch"], low.clip(lower=0), high, color=look.color, alpha=0.1, linewidth=0
                )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="epoch", ylabel=f"{label} ({unit})" if unit else label)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    seeds = [int(n) for n in curves["seeds"]]
    settings = tuple(dict.fromkeys(map(str, curves["setting"])))
    facts = DistanceFacts(label, settings, (min(seeds), max(seeds)), int(curves["epoch"].nunique()))
    return figure, facts
