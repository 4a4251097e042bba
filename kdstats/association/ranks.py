"""Ranks with uncertainty: how sure is it that a scheme is the best, and between which ranks does it lie?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from kdstats.association.coefficients import Floats, blocks
from kdstats.association.regret import ENDS
from kdstats.association.result import notes_text
from kdstats.association.standard_errors import errors_of
from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Schemes in the order given; rank 1 is the best.

    Attributes:
        labels: Names, (k,).
        value: Means or estimates, (k,).
        se: Their standard errors, (k,). Where schemes were compared within seeds these are of differences: the
            difference of two schemes has variance ``se_a² + se_b²``.
        rank: Rank of each value; ties share their mean rank, (k,).
        mean_rank: Expected rank, (k,).
        rank_low: Lower end of the rank's interval, (k,) whole numbers.
        rank_high: Upper end.
        p_best: Probability that the scheme is truly the best, (k,); sums to 1.
        p_best_se: Its Monte-Carlo standard error, (k,); 0 where it is exact.
        best: The two best labels as seen, the better first.
        p_tie: Probability that the true values of these two differ by at most ``tie``.
        tie: In units of the value.
        p_equal: p of "all true values are equal" (F, or chi-squared where errors are known).
        df: Degrees of freedom behind the standard errors; inf where they are known.
        n: Smallest number of outcomes behind a value; 0 where only standard errors were given.
        draws: Monte-Carlo draws; 0 where all is exact.
        confidence: Nominal coverage of each scheme's rank interval.
        method: In words that can stand in a caption.
        notes: Warnings that stay with the numbers.
    """

    labels: tuple[str, ...]
    value: Floats
    se: Floats
    rank: Floats
    mean_rank: Floats
    rank_low: Floats
    rank_high: Floats
    p_best: Floats
    p_best_se: Floats
    best: tuple[str, str]
    p_tie: float
    tie: float
    p_equal: float
    df: float
    n: int
    draws: int
    confidence: float
    method: str
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row a scheme, the facts of the whole ranking repeated; notes as text."""
        return pd.DataFrame(
            {
                "label": self.labels,
                "value": self.value,
                "se": self.se,
                "rank": self.rank,
                "mean_rank": self.mean_rank,
                "rank_low": self.rank_low.astype(int),
                "rank_high": self.rank_high.astype(int),
                "p_best": self.p_best,
                "p_best_se": self.p_best_se,
                "p_tie_best_two": self.p_tie,
                "tie": self.tie,
                "p_equal": self.p_equal,
                "df": self.df,
                "n": self.n,
                "draws": self.draws,
                "confidence": self.confidence,
                "method": self.method,
                "notes": notes_text(self.notes),
            }
        )


def rank_estimates(
    values: ArrayLike,
    *,
    se: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    labels: tuple[str, ...] | None = None,
    df: float = math.inf,
    better: str = "lowest",
    tie: float | None = None,
    confidence: float = 0.95,
    draws: int = 100_000,
    n: int = 0,
    method: str = "",
    notes: tuple[str, ...] = (),
    rng: np.random.Generator,
) -> Ranking:
    """Ranks of estimates with independent standard errors or a covariance.

    P(best) and the mean rank are over draws of the true values given the estimates under a flat prior: normal, or
    Student's t with ``df`` degrees of freedom and one common scale. For two schemes they are exact. The interval of
    scheme j's rank counts the schemes it is told from: rank_low is one more than the number that are better than j,
    rank_high is k less the number that are worse, each difference of j from another judged by the quantile of
    max |difference error / its se| over the others (Dunnett 1955, with j in the control's place), so that all of j's
    comparisons hold together. It is conservative: over 2,000 replications of nine schemes with three seeds it held the
    true rank in 0.998-0.9995 of them (0.995 for two schemes). A flat prior takes schemes to be far apart: where true
    values spread like a run's residual or more, a stated P(best) of 0.65 (0.85) came true in 0.60 (0.85) of cases,
    but where they spread a third as much, 0.48 came true in 0.29; hence ``p_equal`` and its note
    (``benchmarks/results/coverage_association.md``).

    Args:
        values: Estimates, (k,), k at least 2.
        se: Standard errors, one or (k,); independent. Either this or ``covariance``.
        covariance: (k, k), of which only differences are read.
        labels: Names, (k,); numbers from 1 otherwise.
        df: Degrees of freedom of a common variance estimate; inf where errors are known.
        better: ``"lowest"`` (a loss) or ``"highest"`` (an accuracy).
        tie: Largest difference that counts as a tie, in units of the value; the standard error of the better of the
            two best where None.
        confidence: Nominal coverage, a fraction.
        draws: Monte-Carlo draws.
        n: Outcomes behind a value, for the record.
        method: How values and errors came about, for the record.
        notes: Warnings to carry along.
        rng: Source of the draws.

    Raises:
        UsageError: Fewer than 2 schemes, unlike shapes, NaN, Inf, both or neither of ``se`` and ``covariance``,
            fewer than 1,000 draws, an unknown end, a negative ``tie``.
        CheckError: A covariance that is not symmetric or not positive semi-definite, or two schemes whose
            difference has no error.
    """
    check_confidence(confidence)
    if better not in ENDS:
        raise unknown("value of better", better, ENDS)
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size < 2:
        raise UsageError(f"a ranking needs at least 2 schemes in one column, got shape {v.shape}")
    if not np.isfinite(v).all():
        raise UsageError(f"value {int(np.flatnonzero(~np.isfinite(v))[0]) + 1} is NaN or infinite")
    if (se is None) == (covariance is None):
        raise UsageError("give either se (independent errors) or covariance, not both and not neither")
    if draws < 1_000:
        raise UsageError(f"draws must be at least 1,000, got {draws}")
    if not df > 0:
        raise UsageError(f"df must be positive, got {df}")
    k = v.size
    names = labels if labels is not None else tuple(str(i + 1) for i in range(k))
    if len(names) != k or len(set(names)) < k:
        raise UsageError(f"labels must be {k} different names, got {list(names)}")
    cov = np.diag(errors_of(se, k, "se") ** 2) if covariance is None else _covariance(covariance, k)
    ses = np.sqrt(np.diag(cov))
    gap_se = np.sqrt(np.maximum(ses[:, None] ** 2 + ses[None, :] ** 2 - 2 * cov, 0))
    scale = float(ses.max())
    off = ~np.eye(k, dtype=bool)
    if scale == 0 or (gap_se[off] <= 1e-9 * scale).any():
        i, j = next((i, j) for i in range(k) for j in range(k) if i != j and gap_se[i, j] <= 1e-9 * scale)
        raise CheckError(
            f"the difference of {names[i]!r} and {names[j]!r} has no error: their order is not random"
        )
    sign = 1.0 if better == "lowest" else -1.0
    loss = sign * v
    first, second = (int(i) for i in np.argsort(loss, kind="stable")[:2])
    margin = float(ses[first]) if tie is None else float(tie)
    if not (math.isfinite(margin) and margin >= 0):
        raise UsageError(f"tie must be 0 or more, got {tie}")
    if k == 2:
        p_first = _cdf(float(loss[1] - loss[0]) / float(gap_se[0, 1]), df)
        p_best = np.array([p_first, 1 - p_first])
        mean_rank, used = 2 - p_best, 0
        critical = np.full(2, _quantile(0.5 + confidence / 2, df))
        p_best_se = np.zeros(2)
    else:
        used = draws
        p_best, mean_rank, critical = _simulated(loss, cov, gap_se, df, confidence, draws, rng)
        p_best_se = np.sqrt(p_best * (1 - p_best) / draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(off, (loss[:, None] - loss[None, :]) / gap_se, 0.0)
    p_equal = _equality(v, cov, df)
    if p_equal >= 0.05:
        notes = (
            *notes,
            f"the schemes cannot be told apart (p = {p_equal:.2g}): P(best) says too much, see p_equal",
        )
    gap, spread = float(loss[second] - loss[first]), float(gap_se[first, second])
    order = loss.argsort(kind="stable")
    rank = np.empty(k)
    rank[order] = np.arange(1, k + 1)
    for value in np.unique(loss):
        rank[loss == value] = rank[loss == value].mean()
    return Ranking(
        labels=tuple(names),
        value=v,
        se=ses,
        rank=rank,
        mean_rank=mean_rank,
        rank_low=1.0 + (distance > critical[:, None]).sum(axis=1),
        rank_high=k - 1.0 * (distance < -critical[:, None]).sum(axis=1),
        p_best=p_best,
        p_best_se=p_best_se,
        best=(names[first], names[second]),
        p_tie=_cdf((margin - gap) / spread, df) - _cdf((-margin - gap) / spread, df),
        tie=margin,
        p_equal=p_equal,
        df=float(df),
        n=n,
        draws=used,
        confidence=confidence,
        method=method
        or ("estimates with " + ("independent errors" if covariance is None else "a covariance")),
        notes=notes,
    )


def _equality(v: Floats, cov: Floats, df: float) -> float:
    """p of equal true values: the squared distance of the differences from zero in units of their errors."""
    k = v.size
    centring = np.eye(k) - 1 / k
    about = centring @ v
    f = float(about @ np.linalg.pinv(centring @ cov @ centring, rcond=1e-10) @ about) / (k - 1)
    return float(special.chdtrc(k - 1, f * (k - 1)) if math.isinf(df) else special.fdtrc(k - 1, df, f))


def _covariance(given: ArrayLike, k: int) -> Floats:
    cov = np.asarray(given, dtype=np.float64)
    if cov.shape != (k, k):
        raise UsageError(f"the covariance of {k} schemes is {k} by {k}, got shape {cov.shape}")
    if not np.isfinite(cov).all():
        raise UsageError("the covariance holds NaN or Inf")
    size = float(np.abs(cov).max())
    if float(np.abs(cov - cov.T).max()) > 1e-9 * size:
        raise CheckError("the covariance is not symmetric")
    if float(np.linalg.eigvalsh((cov + cov.T) / 2).min()) < -1e-9 * size:
        raise CheckError("the covariance is not positive semi-definite")
    return (cov + cov.T) / 2


def _cdf(t: float, df: float) -> float:
    return float(special.ndtr(t) if math.isinf(df) else special.stdtr(df, t))


def _quantile(p: float, df: float) -> float:
    return float(special.ndtri(p) if math.isinf(df) else special.stdtrit(df, p))


def _simulated(
    loss: Floats,
    cov: Floats,
    gap_se: Floats,
    df: float,
    confidence: float,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats]:
    """P(best), expected rank and the critical value of each scheme's comparisons, (k,) each."""
    k = loss.size
    size, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(size, 0))
    wins, ranks = np.zeros(k), np.zeros(k)
    widest = []
    safe = np.where(np.eye(k, dtype=bool), np.inf, gap_se)
    for rows in blocks(draws, k * k):
        error = rng.standard_normal((rows, k)) @ root.T
        if not math.isinf(df):
            error *= np.sqrt(df / rng.chisquare(df, size=(rows, 1)))
        drawn = loss + error
        wins += np.bincount(drawn.argmin(axis=1), minlength=k)
        ranks += (drawn.argsort(axis=1).argsort(axis=1) + 1).sum(axis=0)
        widest.append((np.abs(error[:, :, None] - error[:, None, :]) / safe).max(axis=2))
    critical: Floats = np.quantile(np.concatenate(widest), confidence, axis=0)
    return wins / draws, ranks / draws, critical
