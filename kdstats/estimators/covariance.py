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
# Observations behind the correlation's jackknife; more are joined into blocks, its cost being blocks² · N.
_CORRELATION_BLOCKS = 100


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
    scaled = matrix / top
    n = matrix.shape[1]
    return float(0.5 * (scaled.mean(axis=1).var(ddof=1) - scaled.var(axis=0, ddof=1).sum() / n**2))


def ce_covariance(u: Any, *, groups: Any = None, confidence: float = 0.95) -> CovarianceEstimate:
    """Covariance quantities of ``u`` with delete-one-observation jackknife intervals.

    Args:
        u: ``[K, N]`` array or tensor, nats: K observations (independent stretches of training) of N positions.
        groups: ``[K]`` labels, for example the epoch of each observation. Variances and covariances are then
            taken within groups and pooled, so that a student that improves from epoch to epoch does not look
            like dependence; ``wang2022_v3`` knows no groups and is None.
        confidence: Nominal coverage of the intervals.

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
    means = np.zeros((len(counts), n))
    np.add.at(means, index, matrix)
    deviations = matrix - (means / counts[:, None])[index]
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
    return Estimate(value, jack.se, low, high, k, f"{method}, t on the log scale", confidence)


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
    blocks = np.array_split(np.arange(k), min(k, _CORRELATION_BLOCKS))
    left = np.empty(len(blocks))
    for b, rows in enumerate(blocks):
        size = len(rows)
        rest = k - size
        total = d[rows].sum(axis=0)
        # Deviations sum to zero, so the mean of the rest is −total/rest.
        remaining = squares - (d[rows] ** 2).sum(axis=0) - total**2 / rest
        weight = np.where(remaining > 1e-12 * squares, 1 / np.sqrt(np.maximum(remaining, 1e-300)), 0.0)
        projected = d @ weight
        inside = float(
            (projected**2).sum() - (projected[rows] ** 2).sum() - float(total @ weight) ** 2 / rest
        )
        live = int((weight > 0).sum())
        left[b] = (inside - live) / (live * (live - 1)) if live > 1 else value
    # 1 + (m − 1) ρ̄ is the variance of a sum of standardised positions over m, hence positive: log scale again.
    estimate = _positive(
        value, left, k, confidence, f"{len(blocks)}-fold jackknife over observations", 1 / (m - 1)
    )
    return replace(estimate, high=min(estimate.high, 1.0), notes=notes)
