"""A number per run, summarised over seeds: mean and Student's t interval, scheme by scheme."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from analyses.words import CONFIDENCE


def t_interval(values: ArrayLike, comparisons: int = 1) -> tuple[float, float, float]:
    """Mean and Student's t interval; its ends are NaN for fewer than two values.

    Args:
        values: ``[n]``, one per seed.
        comparisons: So many intervals hold together (Bonferroni).
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return mean, math.nan, math.nan
    quantile = float(special.stdtrit(len(x) - 1, 1 - (1 - CONFIDENCE) / 2 / comparisons))
    half = quantile * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - half, mean + half


def summarise(
    per_run: pd.DataFrame, columns: list[str], keys: tuple[str, ...] = ("pair", "scheme")
) -> pd.DataFrame:
    """One row per group of ``keys`` with ``seeds`` and, for every column, its mean with ``_low`` and ``_high``."""
    rows = []
    for key, part in per_run.groupby(list(keys), sort=False):
        row = dict(zip(keys, key, strict=True)) | {"seeds": int(part["seed"].nunique())}
        for name in columns:
            row |= dict(
                zip((name, f"{name}_low", f"{name}_high"), t_interval(part[name].to_numpy()), strict=True)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def against(
    per_run: pd.DataFrame, column: str, reference: str, *, log: bool = False, families: int = 1
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Difference of every scheme from ``reference`` within seeds (pairs of runs), with intervals that hold together.

    Args:
        per_run: ``pair, scheme, seed`` and the column.
        column: The number.
        reference: Scheme that others are compared with.
        log: Compare logarithms and give ratios.
        families: So many columns are compared alike, and the intervals of all of them hold together.

    Returns:
        ``(pair, scheme)`` → difference (or ratio) and its ends over the seeds that both have; schemes without a
        common seed are left out.
    """
    out: dict[tuple[str, str], tuple[float, float, float]] = {}
    for pair, own in per_run.groupby("pair", sort=False):
        table = own.pivot_table(index="seed", columns="scheme", values=column, aggfunc="first")
        if reference not in table:
            continue
        if log:
            table = table.apply(np.log)
        others = [name for name in table.columns if name != reference]
        for scheme in others:
            gaps = (table[scheme] - table[reference]).dropna()
            if len(gaps):
                gap, low, high = t_interval(gaps.to_numpy(), families * len(others))
                if log:
                    gap, low, high = math.exp(gap), math.exp(low), math.exp(high)
                out[(str(pair), str(scheme))] = (gap, low, high)
    return out
