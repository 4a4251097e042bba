"""How far a family of correlations over a handful of schemes, plain or partial, may be put into words.

The three conditions of :mod:`.inference.association` apply to each: interval, permutation test (after Holm over the
family) and leaving any one scheme out must agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analyses.inference.association import HOLDS, ONE_SCHEME, UNCLEAR, Reading, read_association
from analyses.words import CONFIDENCE, interval, number, p_value, records
from kdstats.association.coefficients import centred, check_varies
from kdstats.association.correlate import correlate
from kdstats.association.multiplicity import holm
from kdstats.association.panels import SMALLEST_N
from kdstats.association.partial import partial_correlation
from kdstats.errors import CheckError, UsageError

# Of these the theory says that less goes with a lower loss; of other numbers it says nothing.
THEORY = frozenset({"t_stddev", "log_spread", "log_effect"})


def plain_readings(
    pair: str, rows: pd.DataFrame, predictors: Sequence[str], y: str, seed: int
) -> list[dict[str, Any]]:
    """Pearson's r of every predictor with ``y`` in one pair, BCa intervals.

    Args:
        pair: Its name.
        rows: Its points, with the columns ``pair`` and ``scheme``.
        predictors: Columns, none of them constant.
        y: Outcome.
        seed: Of resampling.

    Returns:
        A row per predictor: ``pair, predictor, p_holm`` (over the predictors, on the permutation p) and the fields of
        :class:`~analyses.inference.association.Reading`.
    """
    found = []
    for name in predictors:
        table = correlate(
            rows,
            x=name,
            y=y,
            group="pair",
            label="scheme",
            confidence=CONFIDENCE,
            interval="bca",
            seed=seed,
        )
        found.append(records(table[table["method"] == "pearson"])[0])
    adjusted = holm([row["p_permutation"] for row in found])
    return [
        {"pair": pair, "predictor": name, "p_holm": float(p)}
        | asdict(read_association(rows, name, y, row | {"p_permutation": float(p)}))
        | {"p_permutation": row["p_permutation"]}
        for name, row, p in zip(predictors, found, adjusted, strict=True)
    ]


def partial_readings(
    rows: pd.DataFrame, tests: Sequence[tuple[str, str]], y: str, seed: int
) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    """Partial correlations of one pair, read together.

    Args:
        rows: Its points, with the column ``scheme``.
        tests: ``(predictor, given)``: the correlation of the predictor with ``y`` beyond what is given.
        y: Outcome.
        seed: Of the arrangements behind the permutation p.

    Returns:
        A row per test with ``predictor, given, p_holm`` (Holm over ``tests``, on the permutation p) and the fields of
        :class:`~analyses.inference.association.Reading`; and test → why there is none.
    """
    found: list[dict[str, Any]] = []
    refused: dict[tuple[str, str], str] = {}
    for x, given in tests:
        try:
            row = _partial(rows, x, given, y, seed)
        except (CheckError, UsageError) as error:
            refused[x, given] = str(error)
            continue
        found.append({"predictor": x, "given": given} | row)
    if not found:
        return pd.DataFrame(), refused
    adjusted = holm([row["p_permutation"] for row in found])
    out = []
    for row, p in zip(found, adjusted, strict=True):
        reading = _read(rows, row, float(p), y)
        out.append(
            {"predictor": row["predictor"], "given": row["given"], "p_holm": float(p)}
            | asdict(reading)
            | {"p_permutation": row["p_permutation"]}
        )
    return pd.DataFrame(out), refused


def _partial(rows: pd.DataFrame, x: str, given: str, y: str, seed: int) -> dict[str, Any]:
    table = partial_correlation(
        rows, x=x, y=y, covariates=given, label="scheme", confidence=CONFIDENCE, seed=seed
    )
    return records(table[table["method"] == "pearson"])[0]


def _read(rows: pd.DataFrame, row: dict[str, Any], p: float, y: str) -> Reading:
    sign = math.copysign(1.0, row["estimate"])
    rests = [_without(rows, at, row["predictor"], row["given"], y) for at in range(len(rows))]
    # Schemes without which nothing can be computed are the weakest: the rest says nothing then.
    scheme, r, low, high = min(
        rests, key=lambda rest: -math.inf if math.isnan(rest[2]) else sign * (rest[2] + rest[3])
    )
    kind = HOLDS
    if row["low"] <= 0 <= row["high"] or not p < 1 - CONFIDENCE:
        kind = UNCLEAR
    elif not (low > 0 if sign > 0 else high < 0):  # also where the ends are NaN
        kind = ONE_SCHEME
    return Reading(kind, row["estimate"], row["low"], row["high"], p, int(row["n"]), scheme, r, low, high)


def _without(rows: pd.DataFrame, at: int, x: str, given: str, y: str) -> tuple[str, float, float, float]:
    scheme, left = str(rows["scheme"].iloc[at]), rows.drop(index=rows.index[at])
    try:
        found = (scheme, *partial_interval(left, x, given, y))
    except (CheckError, UsageError):  # too few, or constant without that scheme
        return scheme, math.nan, math.nan, math.nan
    return found


def partial_interval(rows: pd.DataFrame, x: str, given: str, y: str) -> tuple[float, float, float]:
    """Partial r with Fisher's interval, without permutations: leaving out every scheme in turn needs none.

    From the three plain correlations (Yule 1907); variance of z 1/(n − 4) with one covariate (Fisher 1924).

    Raises:
        UsageError: Fewer than 5 points.
        CheckError: A column is constant, or what is given explains one of the two in full.
    """
    n = len(rows)
    if n < SMALLEST_N:
        raise UsageError(f"a partial correlation with an interval needs {SMALLEST_N} points, got {n}")
    columns = []
    for name in (x, y, given):
        column = rows[name].to_numpy(dtype=np.float64)
        check_varies(column, name)
        own = centred(column)
        columns.append(own / np.linalg.norm(own))
    r, a, b = (float(columns[i] @ columns[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    if max(abs(a), abs(b)) > 1 - 1e-12:
        raise CheckError(f"{given} explains {x} or {y} in full: nothing is left")
    partial = max(-1.0, min(1.0, (r - a * b) / math.sqrt((1 - a * a) * (1 - b * b))))
    if abs(partial) > 1 - 1e-12:
        return partial, partial, partial
    reach = float(special.ndtri(0.5 + CONFIDENCE / 2)) / math.sqrt(n - 4)
    z = math.atanh(partial)
    return partial, math.tanh(z - reach), math.tanh(z + reach)


def in_words(row: dict[str, Any], lead: str) -> str:
    """``lead`` with r and its interval, and the scheme that it rests on where it rests on one."""
    ends = interval(row["low"], row["high"], 2)
    text = f"{lead} (partial r {number(row['r'], 2)} {ends}, {p_value(row['p_holm'])}{sign_of(row)})"
    if row["kind"] != ONE_SCHEME:
        return text
    if math.isnan(row["low_without"]):
        return f"{text}, too few schemes to tell whether it rests on {row['without']}"
    ends = interval(row["low_without"], row["high_without"], 2)
    return f"{text}, resting on {row['without']}: {number(row['r_without'], 2)} {ends} without it"


def sign_of(row: dict[str, Any]) -> str:
    """Where an association is told, which way it goes, with its semicolon; empty where it goes as the theory has it."""
    if row["kind"] == UNCLEAR:
        return ""
    if row["predictor"] in THEORY:
        return "" if row["r"] > 0 else "; against the theory"
    return f"; more of it goes with a {'higher' if row['r'] > 0 else 'lower'} test loss"
