"""How many seeds, schemes and pairs are enough, with this study's own runs as the pilot?

The spread over seeds comes from the study, with the interval that so few runs leave it. The gap comes from it too, and
the best scheme was named after looking, so its gap is too large on average: the seeds needed are therefore also given for
the near end of the gap's interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses import prediction
from analyses.inference import seeds as seeds_
from analyses.inference.association import ONE_SCHEME
from analyses.inference.seeds import Seeds
from analyses.inference.spread import scatter
from analyses.study import Study
from analyses.study.traits import SEEDS, SEVERAL, Need
from analyses.words import CONFIDENCE, count, estimate, interval, number, records
from kdstats.association.attenuation import disattenuate
from kdstats.association.pilot import Spread, spread_of
from kdstats.association.power_correlation import CorrelationPower, correlation_power
from kdstats.association.power_gap import GapPower, gap_power
from kdstats.errors import CheckError, UsageError
from kdstats.figures.power import MOST, PowerFacts, power_figure

QUESTION = "How many seeds are enough for these gaps, and how many schemes and pairs for the correlation?"
NEEDS: tuple[Need, ...] = (SEVERAL, SEEDS)
REFERENCE = "identity"
TARGET = 0.8
# Spread of the true Fisher z over the ten published panels of Wang et al. (2022); see
# kdstats.association.power_correlation. Three pairs say too little of it.
PUBLISHED_TAU = 0.60
TO_REFERENCE, TO_SECOND = "best and identity", "best and second"


@dataclass(frozen=True, slots=True, eq=False)
class SeedsNeeded:
    """The result, unrounded.

    Attributes:
        gaps: A row per pair and gap: ``pair, gap_of`` (:data:`TO_REFERENCE`, :data:`TO_SECOND`), ``best, other, gap,
            gap_low, gap_high`` (nats), ``seeds`` of the study, ``power`` there with ``power_low, power_high``, ``needed``
            for power :data:`TARGET` with ``needed_low, needed_high`` over the pilot's spread, ``needed_if_small`` for the
            near end of the gap (infinite where that is 0), ``visible, visible_low, visible_high``: the smallest gap that
            the study's seeds show; ``comparisons, sd, sd_low, sd_high`` (of a difference of two runs), ``df``.
        correlations: A row per pair with a correlation: ``pair, r, r_low, r_high, schemes, power`` (of that r with these
            schemes), ``needed`` schemes, ``needed_if_small`` for the end of the interval nearer 0, ``pairs_needed`` with
            these schemes and ``spread_between_pairs`` (sd of Fisher's z), ``reliability`` of the test loss.
        plans: Pair → plans of seeds, for the figure.
        refused: What cannot be planned → why.
        findings: In words.
    """

    gaps: pd.DataFrame
    correlations: pd.DataFrame
    plans: dict[str, tuple[GapPower, ...]]
    refused: dict[str, str]
    findings: tuple[str, ...]

    def figure(self, pair: str) -> tuple[Figure, PowerFacts] | None:
        """Power against seeds for the gaps of a pair; None where none can be planned."""
        plans = self.plans.get(pair, ())[:MOST]
        return power_figure(plans) if plans else None


def run(study: Study) -> SeedsNeeded:
    """Plans, pair by pair, from the spread over the study's seeds."""
    refused: dict[str, str] = {}
    gaps: list[dict[str, Any]] = []
    plans: dict[str, tuple[GapPower, ...]] = {}
    for pair in study.pairs:
        found = seeds_.of_runs(study.used, pair)
        if len(found.schemes) < 2:
            refused[pair] = "one scheme only, so there is no gap"
            continue
        own = study.used[study.used["pair"] == pair]
        try:
            spread = spread_of(own, group=["pair"], paired=found.paired)
        except (UsageError, CheckError) as error:
            refused[pair] = str(error)
            continue
        rows = [_gap(pair, kind, found, spread, refused) for kind in (TO_REFERENCE, TO_SECOND)]
        known = [row for row in rows if row]
        plans[pair] = tuple(row.pop("plan") for row in known)
        gaps += known
    correlations = _correlations(study, refused)
    table = pd.DataFrame(gaps)
    findings = (*_of_gaps(table), *_of_correlations(correlations), *_refusals(refused))
    return SeedsNeeded(table, correlations, plans, refused, findings)


def _gap(
    pair: str, kind: str, found: Seeds, spread: Spread, refused: dict[str, str]
) -> dict[str, Any] | None:
    order = sorted(range(len(found.schemes)), key=lambda i: (found.mean[i], found.schemes[i]))
    best, k = order[0], len(order)
    if kind == TO_REFERENCE:
        if REFERENCE not in found.schemes or found.schemes[best] == REFERENCE:
            what = "was not run" if REFERENCE not in found.schemes else "is the best itself"
            refused[f"{pair}, {kind}"] = f"{REFERENCE} {what}"
            return None
        other, family = found.schemes.index(REFERENCE), k - 1
    else:
        # Picked out of all pairs of schemes after looking, which the interval of the gap pays for.
        other, family = order[1], k * (k - 1) // 2
    if other == best or found.mean[other] == found.mean[best]:
        refused[f"{pair}, {kind}"] = "the two have the same mean, so no number of seeds is enough"
        return None
    gap, low, high = found.difference(other, best, family)
    seeds = int(min(found.n[best], found.n[other]))
    # A repetition of the study: all its schemes, each compared with one of them.
    options: dict[str, Any] = {"target": TARGET, "comparisons": k - 1, "pooled": k, "confidence": CONFIDENCE}
    try:
        needed = gap_power(spread, gap=gap, **options)
        now = gap_power(spread, gap=gap, seeds=seeds, **options)
        visible = gap_power(spread, seeds=seeds, **options)
        small = math.inf if low <= 0 else float(gap_power(spread, gap=low, **options).seeds)
    except UsageError as error:
        refused[f"{pair}, {kind}"] = str(error)
        return None
    sd_low, sd_high = spread.interval(CONFIDENCE)
    return {
        "pair": pair,
        "gap_of": kind,
        "best": found.schemes[best],
        "other": found.schemes[other],
        "gap": gap,
        "gap_low": low,
        "gap_high": high,
        "seeds": seeds,
        "power": now.power,
        "power_low": now.low,
        "power_high": now.high,
        "needed": needed.seeds,
        "needed_low": needed.low,
        "needed_high": needed.high,
        "needed_if_small": small,
        "visible": visible.gap,
        "visible_low": visible.low,
        "visible_high": visible.high,
        "comparisons": k - 1,
        "sd": spread.sd,
        "sd_low": sd_low,
        "sd_high": sd_high,
        "df": spread.df,
        "paired": spread.paired,
        "p_spread": found.equal_spread(),
        "loudest": found.loudest,
        "plan": needed,
    }


def _correlations(study: Study, refused: dict[str, str]) -> pd.DataFrame:
    found = prediction.run(study)
    tau = PUBLISHED_TAU
    rows = []
    for pair in study.pairs:
        key = f"{pair}, correlation"
        if pair in found.refused:
            refused[key] = found.refused[pair]
            continue
        reading = found.readings[pair]
        if not 0 < abs(reading.r) < 1 - 1e-12:
            refused[key] = "r is exactly 0 or ±1, which cannot be planned for"
            continue
        here = found.points[found.points["pair"] == pair]
        near = 0.0
        if reading.low > 0 or reading.high < 0:
            near = min(abs(reading.low), abs(reading.high))
        rows.append(
            {"pair": pair, "r": reading.r, "r_low": reading.low, "r_high": reading.high, "schemes": reading.n}
            | {"power": correlation_power(r=reading.r, schemes=reading.n, pairs=1).power}
            | {"needed": _needed(r=reading.r, pairs=1, what="schemes")}
            | {"needed_if_small": _needed(r=near, pairs=1, what="schemes") if near > 0 else math.inf}
            | {
                "pairs_needed": _needed(r=reading.r, schemes=reading.n, tau=tau, what="pairs"),
                "spread_between_pairs": tau,
            }
            | {"reliability": _reliability(here), "kind": reading.kind}
        )
    return pd.DataFrame(rows)


def _needed(*, what: str, **asked: Any) -> float:
    try:
        plan: CorrelationPower = correlation_power(target=TARGET, **asked)
    except UsageError:  # no design of up to a million has that power
        return math.inf
    return float(plan.schemes if what == "schemes" else plan.pairs)


def _reliability(points: pd.DataFrame) -> float:
    """Share of the test loss's variance over schemes that is not noise over seeds; NaN where seeds give no spread."""
    se = points["test_loss_se"].to_numpy(dtype=np.float64)
    if not np.isfinite(se).all():
        return math.nan
    columns = (points[name].to_numpy(dtype=np.float64) for name in ("t_stddev", "test_loss"))
    return disattenuate(*columns, x_se=None, y_se=se).reliability_y


def _of_gaps(table: pd.DataFrame) -> Iterator[str]:
    for row in records(table):
        lead = f"{row['pair']}: {row['best']} and {row['other']} ({row['gap_of']})"
        gap = f"{number(row['gap'], 4)} {interval(row['gap_low'], row['gap_high'], 4)}"
        yield (
            f"{lead} differ by {gap} nats. If that is the truth, {count(int(row['needed']), 'seed')} "
            f"({_whole(row['needed_low'])} to {_whole(row['needed_high'])} over what the pilot leaves open of the "
            f"spread) see it with power {TARGET:g}; the study's {row['seeds']} see it with power "
            f"{estimate(row['power'], row['power_low'], row['power_high'], 2)}, and a gap of "
            f"{estimate(row['visible'], row['visible_low'], row['visible_high'])} nats with power {TARGET:g} "
            f"(sd of a {'paired ' if row['paired'] else ''}difference "
            f"{estimate(row['sd'], row['sd_low'], row['sd_high'])}, {number(row['df'], 0)} degrees of freedom)."
        )
        if math.isinf(row["needed_if_small"]):
            yield f"{lead}: the gap may be 0 or less, so no number of seeds is sure to be enough."
        else:
            yield (
                f"{lead}: at the near end of the gap's interval {count(int(row['needed_if_small']), 'seed')} are needed; "
                "the best was named after looking, so plan for more than the first number."
            )
        if said := scatter(row["p_spread"], row["loudest"]):
            yield f"{lead}: {said}, so one spread for all of them, as the plan takes it, is doubtful."


def _whole(value: float) -> str:
    return "more than a million" if math.isinf(value) else f"{value:,.0f}"


def _of_correlations(table: pd.DataFrame) -> Iterator[str]:
    for row in records(table):
        ends = interval(row["r_low"], row["r_high"], 2)
        text = (
            f"{row['pair']}: a correlation as seen, r {number(row['r'], 2)} {ends} over "
            f"{count(int(row['schemes']), 'scheme')}, is found in one pair with power {TARGET:g} by "
            f"{_whole(row['needed'])} schemes (this study's {int(row['schemes'])} have {number(row['power'], 2)})"
        )
        if math.isinf(row["needed_if_small"]):
            text += "; its interval holds 0, so no number of schemes is sure to be enough"
        else:
            text += f", at the near end of its interval by {_whole(row['needed_if_small'])}"
        if row["kind"] == ONE_SCHEME:
            text += "; but this r rests on one scheme"
        yield (
            f"{text}; as a mean over pairs that differ as the published ones do (standard deviation of z "
            f"{row['spread_between_pairs']:g}) it takes {_whole(row['pairs_needed'])} pairs of "
            f"{int(row['schemes'])} schemes."
        )


def _refusals(refused: dict[str, str]) -> Iterator[str]:
    for what, why in refused.items():
        yield f"{what}: no plan ({why})."
