"""Ranks with uncertainty from a table: runs over seeds, or one estimate with its standard error a scheme."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from kdstats.association.coefficients import Floats
from kdstats.association.columns import extra, naming, refuse_clash
from kdstats.association.panels import (
    Columns,
    check_column,
    check_seed,
    group_columns,
    members,
    panel_name,
    refuse_rows,
    stream,
)
from kdstats.association.ranks import Ranking, rank_estimates
from kdstats.association.standard_errors import error_column
from kdstats.errors import CheckError, UsageError

RESULT_COLUMNS = (
    *("label", "value", "se", "rank", "mean_rank", "rank_low", "rank_high", "p_best", "p_best_se"),
    *("p_tie_best_two", "tie", "p_equal", "df", "n", "draws", "confidence", "method", "notes"),
)


def rank_probabilities(
    df: pd.DataFrame,
    *,
    value: str,
    label: str,
    se: str | None = None,
    seeds: str | None = None,
    group: Columns = None,
    better: str = "lowest",
    tie: float | None = None,
    confidence: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """P(best), rank intervals and P(the best two tie) of the schemes of every panel.

    With ``se`` the table holds one row a scheme, its errors known and independent. Without, it holds one row a run:
    an outcome is its scheme's mean plus a normal residual of one variance for all schemes, and with ``seeds`` plus
    an effect of its seed that all schemes share and that drops out of their differences (randomised blocks); schemes
    that lack some seeds are compared by least squares. See :func:`~kdstats.association.ranks.rank_estimates` for
    what the numbers mean.

    Args:
        df: One row per run, or per scheme.
        value: Column of the outcome.
        label: Column that names the schemes.
        se: Column of standard errors.
        seeds: Column of seeds that schemes have in common; None treats runs as independent.
        group: Column or columns that tell panels apart.
        better: ``"lowest"`` or ``"highest"`` outcome.
        tie: See :func:`~kdstats.association.ranks.rank_estimates`.
        confidence: Nominal coverage, a fraction.
        draws: Monte-Carlo draws.
        seed: Seed of the draws; a panel's numbers do not depend on which other panels are present.

    Returns:
        One row a scheme: group columns, ``label, value, se, rank, mean_rank, rank_low, rank_high, p_best,
        p_best_se`` (Monte-Carlo error), ``p_tie_best_two, tie, p_equal, df, n, draws, confidence, method, notes``.

    Raises:
        UsageError: Unknown or repeated columns, values that are missing or no numbers, fewer than two schemes, a scheme
            twice with ``se``, one scheme and seed twice, schemes that share no seeds, or one run a scheme.
        CheckError: Runs without any spread, two schemes whose difference has no error, or values beyond 1e±100.
    """
    check_seed(seed)
    if se is not None and seeds is not None:
        raise UsageError("give either se (one row a scheme) or seeds (one row a run)")
    if len(df) == 0:
        raise UsageError("the table has no rows")
    groups = group_columns(group)
    refuse_clash(groups, RESULT_COLUMNS)
    for name in [label, *groups, *([seeds] if seeds else [])]:
        check_column(df, name)
        if groups.count(name) > 1:
            raise UsageError(f"group column {name!r} is named twice")
        refuse_rows(df, df[name].isna().to_numpy(), f"column {name!r} has no value")
    values = extra(df, value)
    errors = error_column(df, se, "se") if se is not None else None
    top = float(np.abs(np.concatenate([values, errors if errors is not None else []])).max())
    if not (top == 0 or 1e-100 < top < 1e100):
        raise CheckError(
            f"the largest value or error is {top:g}: squares do not fit a float64; rescale the columns"
        )
    frames = []
    for key, rows in members(df, groups):
        name = panel_name(key)
        names = df[label].iloc[rows].astype(str).to_numpy()
        options: dict[str, Any] = {
            "better": better,
            "tie": tie,
            "confidence": confidence,
            "draws": draws,
            "rng": stream(name, seed, "ranks"),
        }
        with naming(name if groups else ""):
            if errors is not None:
                if len(set(names)) < len(names):
                    raise UsageError("a scheme has more than one row; with se there is one row a scheme")
                found = rank_estimates(values[rows], se=errors[rows], labels=tuple(names), **options)
            else:
                blocks = df[seeds].iloc[rows].astype(str).to_numpy() if seeds else None
                found = rank_runs(values[rows], names, blocks, **options)
        frame = found.to_frame()
        for i, column in enumerate(groups):
            frame.insert(i, column, [key[i]] * len(frame))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def rank_runs(
    values: Floats,
    labels: np.ndarray,
    seeds: np.ndarray | None,
    *,
    better: str = "lowest",
    tie: float | None = None,
    confidence: float = 0.95,
    draws: int = 100_000,
    rng: np.random.Generator,
) -> Ranking:
    """Ranks from runs; see :func:`rank_probabilities`.

    Args:
        values: Outcomes, (N,).
        labels: Scheme of each run, (N,).
        seeds: Seed of each run, (N,), or None for independent runs.
        better: ``"lowest"`` or ``"highest"``.
        tie: Largest difference that counts as a tie.
        confidence: Nominal coverage, a fraction.
        draws: Monte-Carlo draws.
        rng: Source of the draws.
    """
    names, scheme = _codes(labels)
    k, notes = len(names), list[str]()
    if k < 2:
        raise UsageError(f"a ranking needs at least 2 schemes, got {k}")
    centre = float(values.mean())
    y = values - centre
    count = np.bincount(scheme, minlength=k).astype(float)
    if seeds is None:
        means = np.bincount(scheme, y, k) / count
        left, dof, cov = y - means[scheme], y.size - k, np.diag(1 / count)
        method = "means over runs, one variance"
    else:
        means, left, dof, cov, complete = _within_seeds(y, scheme, seeds, names)
        method = "means over common seeds, one residual variance"
        if not complete:
            notes.append("schemes lack some seeds: values are least-squares means over all seeds")
    if dof < 1:
        raise UsageError(
            "one run a scheme gives no spread: no ranking with uncertainty; give se or more seeds"
        )
    residual = float((left**2).sum()) / dof
    if math.sqrt(residual) <= 1e-12 * max(float(np.abs(values).max()), 1e-300):
        raise CheckError(
            "runs do not differ beyond their schemes and seeds: no spread to judge by (duplicated runs?)"
        )
    if dof < 4:
        notes.append(f"{dof} degrees of freedom: the spread itself is hardly known")
    return rank_estimates(
        means + centre,
        covariance=residual * cov,
        labels=names,
        df=dof,
        better=better,
        tie=tie,
        confidence=confidence,
        draws=draws,
        n=int(count.min()),
        method=method,
        notes=tuple(notes),
        rng=rng,
    )


def _codes(column: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    codes, names = pd.factorize(column)
    return tuple(str(name) for name in names), codes


def _within_seeds(
    y: Floats, scheme: np.ndarray, seeds: np.ndarray, names: tuple[str, ...]
) -> tuple[Floats, Floats, int, Floats, bool]:
    """Least squares of scheme and seed effects: means, residuals, df, covariance over residual variance, complete."""
    seed_names, seed = _codes(seeds)
    k, s = len(names), len(seed_names)
    table = np.zeros((k, s))
    np.add.at(table, (scheme, seed), 1)
    if table.max() > 1:
        i, j = (int(v) for v in np.argwhere(table > 1)[0])
        raise UsageError(
            f"{names[i]!r} has {int(table[i, j])} runs with seed {seed_names[j]}: duplicated runs?"
        )
    count, size = table.sum(axis=1), table.sum(axis=0)
    # The normal equations of the schemes once seeds are taken out (Scheffé 1959, section 5.2).
    reduced = np.diag(count) - table / size @ table.T
    if np.linalg.matrix_rank(reduced, tol=1e-8) < k - 1:
        raise UsageError(
            "some schemes share no seeds with the others; leave seeds out to compare them as independent"
        )
    inverse = np.linalg.pinv(reduced, rcond=1e-10)
    seed_means = np.bincount(seed, y, s) / size
    effect: Floats = inverse @ np.bincount(scheme, y - seed_means[seed], k)
    level = np.bincount(seed, y - effect[scheme], s) / size
    left: Floats = y - effect[scheme] - level[seed]
    # A constant added to a covariance leaves differences alone; this one makes it diagonal where complete.
    cov: Floats = inverse + 1 / (k * float(count.mean()))
    means: Floats = effect + float(level.mean())
    return means, left, int(y.size - k - s + 1), cov, bool(table.min() == 1)
