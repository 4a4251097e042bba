"""Covariance of the teacher–student cross-entropy over the positions of a training sequence.

``u`` is ``[K, N]``: K observations of N positions. With d the deviations from the position means, C the N x N
sample covariance (divisor K − 1) and r_k the mean of row k,

    mean_variance   = mean_i C_ii
    mean_covariance = mean_{i≠j} C_ij = (N² Var(r) − Σ_i C_ii) / (N (N − 1))
    risk_variance   = Var(r) = mean_variance / N + (N − 1)/N · mean_covariance
    design_effect   = risk_variance / (mean_variance / N)

Everything follows from the row means and the position variances, so one pass and O(N) memory suffice; the
N x N matrix is never formed. Source: Wang et al. 2022, proposition 3.1 and the released ``check_ce_var_v3``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.intervals import Jackknife, check_confidence, t_quantile
from kdstats.estimators.tstddev import as_array

Array = NDArray[np.float64]
LEAST_OBSERVATIONS = 5
# With fewer, skewed losses leave the intervals too short (benchmarks/results/coverage_covariance.md).
FEW_OBSERVATIONS = 200
# Observations behind the correlation's jackknife; more are joined into blocks, its cost being blocks² · N.
_CORRELATION_BLOCKS = 100
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class CovarianceEstimate:
    """The covariance quantities of one ``[K, N]`` matrix, in nats² unless said otherwise.

    Attributes:
        mean_variance: Mean variance of a position.
        mean_covariance: Mean covariance of two different positions.
        mean_correlation: Mean correlation of two different positions (no unit); None from a single pass.
        risk_variance: Variance of the mean of an observation: the variance of the empirical risk.
        iid_risk_variance: What it would be with independent positions, ``mean_variance / N``.
        design_effect: Their ratio (no unit).
        wang2022_v3: The number of the published ``check_ce_var_v3`` (columns divided by their maximum, half the
            mean off-diagonal covariance times (N − 1)/N); None where it cannot be had in one pass, or where a
            column's maximum is zero.
        observations: K.
        positions: N.
    """

    mean_variance: Estimate
    mean_covariance: Estimate
    mean_correlation: Estimate | None
    risk_variance: Estimate
    iid_risk_variance: Estimate
    design_effect: Estimate
    wang2022_v3: float | None
    observations: int
    positions: int


def wang2022_v3(u: Any) -> float:
    """The published ``check_ce_var_v3`` in closed form, O(K N) instead of a loop over N² / 2 pairs.

    ``½ [ Var_k(mean_i U_ki) − Σ_i Var_k(U_ki) / N² ]`` with ``U`` the columns of ``u`` divided by their maximum
    over the observations and variances of divisor K − 1.

    Args:
        u: ``[K, N]``, all observations of equal length. The released code gathers 6,400 or 6,432 values per
            observation on CIFAR-100 at batch 64 and fails on stacking them; drop last batches before.

    Raises:
        CheckError: A column's maximum is zero or negative: cross-entropies are positive.
    """
    matrix = _matrix(u)
    top = matrix.max(axis=0)
    if (top <= 0).any():
        raise CheckError(
            f"position {int(np.argmax(top <= 0))} has no positive value; cross-entropies are positive"
        )
    k, n = matrix.shape
    # Dividing a column divides its deviations, so the scaled matrix itself is never needed.
    deviations = matrix - matrix.mean(axis=0)
    rows = deviations @ (1 / top) / n
    columns = np.einsum("kn,kn->n", deviations, deviations) / top**2
    return float(0.5 * (rows @ rows - columns.sum() / n**2) / (k - 1))


def ce_covariance(u: Any, *, groups: Any = None, confidence: float = 0.95) -> CovarianceEstimate:
    """Covariance quantities of ``u`` with delete-one-observation jackknife intervals.

    Args:
        u: ``[K, N]`` array or tensor, nats: K observations (independent stretches of training) of N positions.
        groups: ``[K]`` labels, for example the epoch of each observation. Variances and covariances are then
            taken within groups and pooled, so that a student that improves from epoch to epoch does not look
            like dependence; ``wang2022_v3`` knows no groups and is None.
        confidence: Nominal coverage of the intervals. Simulated for N = 32 and K = 20 … 400: 0.92–0.96 for normal
            losses, 0.85–0.93 for skewed ones (gamma), where fewer than 200 observations put a note on the result.

    Raises:
        UsageError: Not a matrix, fewer than 5 observations or 2 positions, a group of one observation.
        CheckError: NaN or infinity, or nothing varies.

    >>> import numpy as np
    >>> shared = np.random.default_rng(0).normal(size=(400, 1))
    >>> u = 2 + shared + np.random.default_rng(1).normal(size=(400, 50))
    >>> round(ce_covariance(u).mean_covariance.value)
    1
    """
    check_confidence(confidence)
    matrix = _matrix(u)
    k, n = matrix.shape
    index, counts = _grouped(groups, k)
    if len(counts) == 1:
        deviations = matrix - matrix.mean(axis=0)
    else:
        means = np.stack([matrix[index == g].mean(axis=0) for g in range(len(counts))])
        deviations = matrix - means[index]
    squares = np.einsum("kn,kn->k", deviations, deviations)
    rows = deviations.mean(axis=1)
    if np.abs(deviations).max() <= 16 * np.finfo(np.float64).eps * np.abs(matrix).max():
        raise CheckError(f"all {k} observations are equal: there is no variance to speak of")
    df = k - len(counts)
    # Leaving out an observation of a group of m removes m/(m − 1) times its squared deviation.
    weight = (counts / (counts - 1))[index]
    top = matrix.max(axis=0)
    return assemble(
        float(squares.sum()) / df / n,
        float(rows @ rows) / df,
        (squares.sum() - weight * squares) / (df - 1) / n,
        (float(rows @ rows) - weight * rows**2) / (df - 1),
        _correlation(deviations, confidence),
        n,
        k,
        confidence,
        wang2022_v3(matrix) if groups is None and (top > 0).all() else None,
    )


def _grouped(groups: Any, k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if groups is None:
        return np.zeros(k, dtype=np.intp), np.array([k])
    labels = np.asarray(groups)
    if labels.shape != (k,):
        raise UsageError(f"{k} observations, but groups of shape {labels.shape}")
    names, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if (counts < 2).any():
        raise UsageError(f"group {names[np.argmin(counts)]!r} holds one observation; variances need two")
    return index, counts


def _matrix(u: Any) -> Array:
    matrix = as_array(u)
    if matrix.ndim != 2 or matrix.shape[0] < LEAST_OBSERVATIONS or matrix.shape[1] < 2:
        raise UsageError(
            f"expected [K, N] with K ≥ {LEAST_OBSERVATIONS} observations of N ≥ 2 positions, got {matrix.shape}"
        )
    bad = ~np.isfinite(matrix)
    if bad.any():
        k, i = np.argwhere(bad)[0]
        raise CheckError(f"observation {k}, position {i} is NaN or infinite ({int(bad.sum())} values are)")
    return matrix


def assemble(
    variance: float,
    risk: float,
    variance_left: Array,
    risk_left: Array,
    correlation: Estimate | None,
    n: int,
    k: int,
    confidence: float,
    v3: float | None,
) -> CovarianceEstimate:
    """The result from full-sample values and delete-one (or delete-a-group) values ``[J]``."""
    method = f"{len(risk_left)}-fold jackknife over observations"
    if (variance_left <= 1e-12 * variance).any():
        raise CheckError("all observations but one are equal: one of them is no spread")
    deff_left = risk_left / (variance_left / n)
    covariance = (n * risk - variance) / (n - 1)
    covariance_left = (n * risk_left - variance_left) / (n - 1)
    # mean_covariance + mean_variance/(N − 1) = N/(N − 1) risk_variance > 0 carries its interval on the log scale.
    shift = variance / (n - 1)
    return CovarianceEstimate(
        mean_variance=_positive(variance, variance_left, k, confidence, method),
        mean_covariance=_positive(covariance, covariance_left, k, confidence, method, shift),
        mean_correlation=correlation,
        risk_variance=_positive(risk, risk_left, k, confidence, method),
        iid_risk_variance=_positive(variance / n, variance_left / n, k, confidence, method),
        design_effect=_positive(risk / (variance / n), deff_left, k, confidence, method),
        wang2022_v3=v3,
        observations=k,
        positions=n,
    )


def _positive(
    value: float, left: Array, k: int, confidence: float, method: str, shift: float = 0.0
) -> Estimate:
    """An estimate whose ``value + shift`` is a variance-like positive number: interval on the log scale."""
    jack = Jackknife.of(value, left)
    moved, moved_left = value + shift, left + shift
    # Where one observation holds all of it, the logarithm without that one is rounding noise.
    if moved <= 0 or (moved_left <= 1e-12 * moved).any():
        half = t_quantile(confidence, len(left) - 1) * jack.se
        low, high = value - half, value + half
    else:
        logs = Jackknife.of(math.log(moved), np.log(moved_left))
        half = t_quantile(confidence, len(left) - 1) * logs.se
        low, high = math.exp(logs.corrected - half) - shift, math.exp(logs.corrected + half) - shift
    return Estimate(
        value, jack.se, low, high, k, f"{method}, t on the log scale", confidence, notes=few_note(k)
    )


def few_note(k: int) -> tuple[str, ...]:
    """What the simulated coverage says against an interval from so few observations."""
    if k >= FEW_OBSERVATIONS:
        return ()
    return (
        f"{k} observations: where losses are skewed, such intervals covered 0.85–0.92 in simulation, not 0.95",
    )


def _correlation(deviations: Array, confidence: float) -> Estimate:
    """Mean off-diagonal correlation with a delete-a-block jackknife."""
    k, n = deviations.shape
    sums = (deviations**2).sum(axis=0)
    alive = sums > 0
    constant = int(n - alive.sum())
    notes = (f"{constant} constant positions have no correlation and are left out",) if constant else ()
    d = deviations[:, alive]
    m = d.shape[1]
    if m < 2:
        return Estimate(
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            k,
            "undefined: fewer than 2 positions vary",
            confidence,
            notes=notes,
        )
    squares = sums[alive]
    z = d / np.sqrt(squares)
    value = (float((z.sum(axis=1) ** 2).sum()) - m) / (m * (m - 1))
    sizes = [len(rows) for rows in np.array_split(np.arange(k), min(k, _CORRELATION_BLOCKS))]
    edges, left = np.concatenate([[0], np.cumsum(sizes)]), np.empty(len(sizes))
    # Blocks are left out a few at a time: one matrix product for all of them, in memory of a few rows.
    for first in range(0, len(left), _AT_ONCE):
        some = slice(first, min(first + _AT_ONCE, len(left)))
        left[some] = _left_out(d, squares, edges[some.start : some.stop + 1], value)
    # 1 + (m − 1) ρ̄ is the variance of a sum of standardised positions over m, hence positive: log scale again.
    estimate = _positive(
        value, left, k, confidence, f"{len(left)}-fold jackknife over observations", 1 / (m - 1)
    )
    return replace(estimate, high=min(estimate.high, 1.0), notes=(*notes, *estimate.notes))


def _left_out(d: Array, squares: Array, edges: NDArray[np.intp], value: float) -> Array:
    """Mean correlation without the rows of each block ``edges[b] … edges[b + 1]``; ``value`` where nothing varies."""
    inside = d[edges[0] : edges[-1]]
    starts, rest = edges[:-1] - edges[0], len(d) - np.diff(edges)
    totals = _block_sums(inside, starts)
    # Deviations sum to zero, so the mean of the rest is −total/rest.
    remaining = squares - _block_sums(inside**2, starts) - totals**2 / rest[:, None]
    alive = remaining > 1e-12 * squares
    weight = np.zeros_like(remaining)
    np.divide(1.0, np.sqrt(remaining, where=alive, out=np.ones_like(remaining)), out=weight, where=alive)
    projected = (d @ weight.T) ** 2
    own = np.diag(_block_sums(projected[edges[0] : edges[-1]], starts))
    kept = projected.sum(axis=0) - own - np.einsum("bn,bn->b", totals, weight) ** 2 / rest
    live = alive.sum(axis=1).astype(np.float64)
    return np.where(live > 1, (kept - live) / np.maximum(live * (live - 1), 1.0), value)


def _block_sums(rows: Array, starts: NDArray[np.intp]) -> Array:
    """Sums of consecutive rows; ``reduceat`` takes long over blocks of one row."""
    return rows if len(starts) == len(rows) else np.add.reduceat(rows, starts)
