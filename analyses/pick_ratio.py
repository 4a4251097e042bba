"""What does picking pick: how much further is the student from the teacher on the views it keeps?

Wang et al. (v1, equation 4) track r(t) = mean d over picked / mean d over all drawn views of the batch, d the
divergence KL(p_t ‖ p_s). The records hold the views that were trained on, so the views that were not picked are
unknown. What stands in for them are the views of the base scheme in the run of the same pair and seed, whose student
is another one; the ratio here is therefore r(t) but for the difference between the two students, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analyses.inference.over_seeds import t_interval
from analyses.study import Study
from analyses.study.names import split
from analyses.study.steps import RecordedRun, recorded_runs
from analyses.study.traits import PICKING, SAMPLES, Need
from analyses.words import CANNOT, LEVEL, estimate, listed, sizes
from kdstats.errors import CheckError
from kdstats.figures.style import COLUMN, marks, plain, style

QUESTION = "What does picking pick: how much further is the student from the teacher on the views it keeps?"
NEEDS: tuple[Need, ...] = (PICKING, SAMPLES)
LATE = 0.25  # the last quarter of the recorded epochs stands for the end of training
_NEGATIVE = -1e-3  # KL from float16 records may fall below 0 by rounding, not by more


@dataclass(frozen=True, slots=True)
class PickFacts:
    """What the curves show, for their caption."""

    pair: str
    schemes: tuple[str, ...]
    seeds: tuple[int, int]

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Mean KL(teacher ‖ student) at T = 1 of the views picked, over that of the views of the base scheme in the "
            f"run of the same seed ({self.pair}, {listed(self.schemes)}, {sizes(self.seeds)} each). Above 1: picking "
            f"keeps views on which the student is further away. Geometric mean over seeds; shade: {LEVEL} interval."
        )


@dataclass(frozen=True, slots=True, eq=False)
class PickRatio:
    """The result, unrounded.

    Attributes:
        per_run: ``pair, scheme, base, seed, epoch, share`` (of the training done), ``kl_picked, kl_base`` (nats),
            ``ratio`` and ``entropy_ratio`` (of the teacher's mean entropy).
        curves: Geometric means over seeds per epoch: ``ratio, ratio_low, ratio_high, seeds``.
        table: The same over the last quarter of the recorded epochs, a row per pair and scheme, with
            ``entropy_ratio``; the intervals of a pair's schemes hold together.
        findings: In words.
    """

    per_run: pd.DataFrame
    curves: pd.DataFrame
    table: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, PickFacts] | None:
        """The ratio over training, one line a picking scheme of the first pair; None where there is none."""
        return None if self.curves.empty else _draw(self.curves)


def run(study: Study) -> PickRatio:
    """Compares picked views with those of the base scheme, epoch by epoch.

    Raises:
        MissingError: Records are damaged.
        CheckError: A divergence is below 0 by more than rounding.
    """
    recorded = recorded_runs(study)
    picking = [r for r in recorded if split(r.scheme)[1] is not None]
    wanted = {(r.pair, split(r.scheme)[0]) for r in picking}
    needed = [r for r in recorded if split(r.scheme)[1] is not None or (r.pair, r.scheme) in wanted]
    seen = {(r.pair, r.scheme, r.seed): dict(_per_epoch(r)) for r in needed}
    rows, alone = [], []
    for r in picking:
        base, _ = split(r.scheme)
        twin = seen.get((r.pair, base, r.seed))
        if twin is None:
            alone.append(f"{r.scheme} ({r.pair}, seed {r.seed}) has no run of {base}")
            continue
        last = max(r.epochs)
        for epoch, (kl, entropy) in seen[(r.pair, r.scheme, r.seed)].items():
            if epoch not in twin:
                continue
            kl_base, entropy_base = twin[epoch]
            rows.append(
                {
                    "pair": r.pair,
                    "scheme": r.scheme,
                    "base": base,
                    "seed": r.seed,
                    "epoch": epoch,
                    "share": epoch / last,
                    "kl_picked": kl,
                    "kl_base": kl_base,
                    "ratio": kl / kl_base if kl_base > 0 else math.nan,
                    "entropy_ratio": entropy / entropy_base if entropy_base > 0 else math.nan,
                }
            )
    per_run = pd.DataFrame(rows)
    findings = []
    if not picking:
        why = "no samples were recorded" if not recorded else "no recorded run picks its views"
        findings.append(f"This {CANNOT} {why}.")
    findings += [f"Not compared: {text} of the same seed." for text in alone]
    if per_run.empty:
        return PickRatio(per_run, pd.DataFrame(), pd.DataFrame(), tuple(findings))
    findings.append(
        "The ratio over all views drawn, picked or not, cannot be answered from this study because views that were not "
        "picked are not recorded; the views of the base scheme, with their own student, stand in for them."
    )
    table = _late(per_run)
    return PickRatio(per_run, _curves(per_run), table, (*findings, *_findings(table)))


def _per_epoch(recorded: RecordedRun) -> Iterator[tuple[int, tuple[float, float]]]:
    for steps in recorded.views(("ts_ce", "t_entropy")):
        ce, entropy = steps.columns["ts_ce"].mean(), steps.columns["t_entropy"].mean()
        kl = float(ce - entropy)
        if not kl > _NEGATIVE:
            raise CheckError(f"{recorded.paths.root}, epoch {steps.epoch}: KL(teacher ‖ student) is {kl}")
        yield steps.epoch, (max(kl, 0.0), float(entropy))


def _geometric(values: pd.Series, comparisons: int = 1) -> tuple[float, float, float]:
    logs = np.log(values[values > 0].to_numpy(dtype=float))
    if not len(logs):
        return math.nan, math.nan, math.nan
    mean, low, high = t_interval(logs, comparisons)
    return math.exp(mean), math.exp(low), math.exp(high)


def _curves(per_run: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (pair, scheme, epoch), part in per_run.groupby(["pair", "scheme", "epoch"], sort=False):
        ratio, low, high = _geometric(part["ratio"])
        rows.append(
            {"pair": pair, "scheme": scheme, "epoch": epoch, "share": float(part["share"].mean())}
            | {"ratio": ratio, "ratio_low": low, "ratio_high": high, "seeds": part["seed"].nunique()}
        )
    return pd.DataFrame(rows).sort_values(["pair", "scheme", "epoch"], ignore_index=True)


def _late(per_run: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for pair, own in per_run.groupby("pair", sort=False):
        comparisons = int(own["scheme"].nunique())
        for scheme, part in own.groupby("scheme", sort=False):
            epochs = sorted(part["epoch"].unique())
            late = part[part["epoch"].isin(epochs[-max(1, round(LATE * len(epochs))) :])]
            # Ratios of sums over the late epochs, one number a seed: epochs of a run are not independent.
            sums = late.groupby("seed")[["kl_picked", "kl_base"]].sum()
            ratio, low, high = _geometric(sums["kl_picked"] / sums["kl_base"], comparisons)
            entropy = _geometric(late.groupby("seed")["entropy_ratio"].mean(), comparisons)
            rows.append(
                {"pair": pair, "scheme": scheme, "base": part["base"].iloc[0], "seeds": len(sums)}
                | {"ratio": ratio, "ratio_low": low, "ratio_high": high}
                | dict(
                    zip(("entropy_ratio", "entropy_ratio_low", "entropy_ratio_high"), entropy, strict=True)
                )
            )
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame) -> Iterator[str]:
    for row in table.to_dict("records"):
        ratio = estimate(row["ratio"], row["ratio_low"], row["ratio_high"], 3)
        softer = estimate(row["entropy_ratio"], row["entropy_ratio_low"], row["entropy_ratio_high"], 3)
        head = f"{row['pair']}, {row['scheme']}: over the last quarter of the epochs "
        tail = f"(ratio of KL {ratio}, of the teacher's entropy {softer}; n = {sizes([row['seeds']])})."
        if math.isnan(row["ratio_low"]):
            yield f"{head}one seed gives no interval {tail}"
        elif row["ratio_low"] <= 1 <= row["ratio_high"]:
            yield f"{head}this study cannot tell the views kept from those of {row['base']} {tail}"
        else:
            way = "further from" if row["ratio_low"] > 1 else "nearer to"
            yield f"{head}on the views kept the student is {way} the teacher than on those of {row['base']} {tail}"


def _draw(curves: pd.DataFrame) -> tuple[Figure, PickFacts]:
    pair = str(curves["pair"].iloc[0])
    here = curves[curves["pair"] == pair]
    looks = marks(here["scheme"])
    with style():
        figure = Figure(figsize=(COLUMN * 1.25, 2.5), layout="constrained")
        ax = figure.add_subplot()
        for scheme, part in here.groupby("scheme", sort=False):
            look = looks[str(scheme)]
            ax.plot(part["epoch"], part["ratio"], color=look.color, label=plain(look.text))
            if part["ratio_low"].notna().all():
                low = part["ratio_low"].clip(lower=part["ratio"].min() / 2)
                high = part["ratio_high"].clip(upper=part["ratio"].max() * 2)
                ax.fill_between(part["epoch"], low, high, color=look.color, alpha=0.13, linewidth=0)
        ax.axhline(1, color="#555555", linewidth=0.6)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="epoch", ylabel="KL of picked views / KL of base views")
        ax.legend()
    counts = [int(n) for n in here["seeds"]]
    return figure, PickFacts(pair, tuple(map(str, looks)), (min(counts), max(counts)))
