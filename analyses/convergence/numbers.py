"""Numbers over repeated probes of T. stddev: cost, agreement, order. What they are: :mod:`analyses.convergence`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analyses.inference import seeds as seeds_
from analyses.inference.over_seeds import t_interval
from analyses.words import records
from kdstats.estimators.layout import BATCHES_PER_POOL

ALL = "all"
PROTOCOLS = ("wang2022", "efficient")
SPLITS = ("train", "test")


def cost_of(table: pd.DataFrame) -> pd.DataFrame:
    """See ``cost`` of the answer."""
    rows = []
    for (teacher, split, protocol), own in table.groupby(["teacher", "split", "protocol"], sort=False):
        sums = own.groupby("repeat")[["passes_needed", "seconds_needed"]].sum()
        row = {"teacher": teacher, "split": split, "protocol": protocol, "schemes": own["scheme"].nunique()}
        for name in ("passes_needed", "seconds_needed"):
            ends = _geometric(sums[name])
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        gain = (math.nan,) * 3
        if protocol == "efficient":
            # That of identity is known from the originals alone.
            both = table[
                (table["teacher"] == teacher) & (table["split"] == split) & (table["scheme"] != "identity")
            ]
            wide = both.pivot_table(index=["repeat", "scheme"], columns="protocol", values="batches_needed")
            if set(PROTOCOLS) <= set(wide) and len(wide.dropna()):
                wide["log"] = np.log((wide["wang2022"] / wide["efficient"]).to_numpy(dtype=float))
                gain = _geometric(np.exp(wide.groupby("repeat")["log"].mean()))
        rows.append(row | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)))
    return pd.DataFrame(rows)


def _geometric(values: pd.Series, comparisons: int = 1) -> tuple[float, float, float]:
    value, low, high = t_interval(np.log(values.to_numpy(dtype=float)), comparisons)
    return math.exp(value), math.exp(low), math.exp(high)


def ratios(table: pd.DataFrame, over: str, a: str, b: str) -> pd.DataFrame:
    """Per scheme the value under ``a`` over that under ``b`` within repeats, and for :data:`ALL` of them together."""
    other = "protocol" if over == "split" else "split"
    rows = []
    groups = table.groupby(["teacher", other], sort=False)
    for (teacher, group), own in groups:
        wide = own.pivot_table(index="repeat", columns=["scheme", over], values="value")
        names = [n for n in dict.fromkeys(own["scheme"]) if {(n, a), (n, b)} <= set(wide)]
        if not names:
            continue
        each = pd.DataFrame({n: wide[(n, a)] / wide[(n, b)] for n in names})
        found = {n: _geometric(each[n], len(names) * groups.ngroups) for n in names}
        found[ALL] = _geometric(np.exp(np.log(each).mean(axis=1)), groups.ngroups)
        for scheme, ends in found.items():
            rows.append(
                {"teacher": teacher, other: group, "scheme": scheme, "repeats": len(each)}
                | dict(zip(("ratio", "low", "high"), ends, strict=True))
            )
    return pd.DataFrame(rows)


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs of schemes whose logarithms differ at the end, repeats as blocks; see ``told`` of the answer."""
    columns = ["teacher", "split", "protocol", "a", "b", "ratio", "low", "high"]
    rows = []
    groups = table.groupby(columns[:3], sort=False)
    for key, own in groups:
        frame = own.assign(pair="one", seed=own["repeat"], log=np.log(own["value"]))
        found = seeds_.of_runs(frame, "one", "log")
        pairs = list(itertools.combinations(range(len(found.schemes)), 2))
        for i, j in pairs:
            gap, low, high = found.difference(i, j, len(pairs) * groups.ngroups)
            if low > 0 or high < 0:
                names = (found.schemes[i], found.schemes[j])
                rows.append((*key, *names, math.exp(gap), math.exp(low), math.exp(high)))
    return pd.DataFrame(rows, columns=columns)


def order_of(curves: pd.DataFrame, table: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    """See ``order`` of the answer; at the numbers of batches that all schemes and repeats have."""
    rows = []
    for key, own in curves.groupby(["teacher", "split", "protocol"], sort=False):
        final = of_probe(table, key).groupby("scheme")["value"].mean()
        pairs = [(row["a"], row["b"], row["ratio"] > 1) for row in records(of_probe(told, key))]
        if len(final) < 2:
            continue
        for batches, here in own.astype({"batches": int}).groupby("batches"):
            wide = here.pivot_table(index="repeat", columns="scheme", values="value").reindex(
                columns=final.index
            )
            if wide.isna().any(axis=None) or len(wide) < own["repeat"].nunique():
                continue
            right = [(wide[a] > wide[b]) == above for a, b, above in pairs]
            share = float(pd.concat(right, axis=1).mean(axis=1).min()) if right else math.nan
            taus = [float(stats.kendalltau(values, final).statistic) for values in wide.to_numpy()]
            rows.append(
                dict(zip(("teacher", "split", "protocol"), key, strict=True))
                | {
                    "batches": batches,
                    "pools": int(here["batches"].iloc[0]) // BATCHES_PER_POOL,
                    "pairs": len(pairs),
                }
                | {"in_order": share, "tau": float(np.mean(taus))}
            )
    return pd.DataFrame(rows)


def of_probe(frame: pd.DataFrame, key: Any) -> pd.DataFrame:
    """The rows of ``(teacher, split, protocol)``."""
    teacher, split, protocol = key
    own = (frame["teacher"] == teacher) & (frame["split"] == split) & (frame["protocol"] == protocol)
    return pd.DataFrame(frame[own])
