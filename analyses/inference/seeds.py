"""What the seeds of one pair say about the means of its schemes.

Assumption, stated wherever these numbers are printed: the test loss of a run is the mean of its scheme, plus an
effect of its seed, plus a normal residual with the same variance for all schemes of a pair. A seed fixes
initialisation, image order and standard augmentation for every scheme, so its effect is common to them: it
cancels in differences between schemes (a randomised block design; Montgomery, "Design and Analysis of
Experiments", chapter 4), while the interval of a single mean keeps it. Where schemes do not have the same
seeds, nothing cancels and the variance within schemes is used for both. Differences do not lean on the one
variance: each scheme takes the larger of it and its own (:mod:`analyses.inference.spread`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analyses.inference import spread
from analyses.words import CONFIDENCE

Floats = NDArray[np.float64]
DRAWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """Per scheme, in order of ``schemes``.

    Attributes:
        schemes: Names.
        mean: Mean over seeds, nats.
        sd: Standard deviation over the scheme's own seeds (ddof 1), nats; NaN with one seed.
        n: Seeds.
        variance: Pooled within-scheme variance, nats²; NaN when no scheme has two seeds.
        df: Its degrees of freedom.
        residual: Variance that is left when the seeds' common effects are taken out, nats²: what differences
            between schemes are judged by. Equal to ``variance`` where the schemes' seeds are not the same.
        residual_df: Its degrees of freedom.
        paired: Whether the schemes have the same seeds, so that differences are within seeds.
        mean_variance: Variance of one run around its scheme's true mean, nats²; where paired, seeds' common
            effect and residual together.
        mean_df: Its degrees of freedom (Satterthwaite 1946 where paired: a common effect is seen only as often
            as there are seeds).
        judged: Variance per scheme that differences are judged by, nats²: the larger of ``residual`` and its own.
        cells: Outcomes ``[seeds, schemes]``, nats; None where not paired.
    """

    schemes: tuple[str, ...]
    mean: Floats
    sd: Floats
    n: Floats
    variance: float
    df: int
    residual: float
    residual_df: int
    paired: bool
    mean_variance: float
    mean_df: float
    judged: Floats
    cells: Floats | None

    @property
    def se(self) -> Floats:
        """Standard errors of the means, nats; where paired they hold the seeds' common effect."""
        return np.sqrt(self.mean_variance / self.n)

    @property
    def quantile(self) -> float:
        """Student's t for a single mean at :data:`CONFIDENCE`, two-sided."""
        return spread.quantile(self.mean_df)

    @property
    def best(self) -> int:
        """Position of the lowest mean; the first by name where two are equal."""
        return int(min(range(len(self.schemes)), key=lambda i: (self.mean[i], self.schemes[i])))

    def difference(
        self, a: int, b: int, comparisons: int = 1, outcomes: int = 1
    ) -> tuple[float, float, float]:
        """Mean of ``a`` minus mean of ``b`` with its interval, nats.

        With ``comparisons`` above 1 the intervals of that many differences hold together (Bonferroni), so one
        may look at all of them and speak of the largest. Where either has fewer than :data:`.inference.spread.FEW`
        seeds the interval is not shorter than the one that the two schemes' own seeds give for this difference
        alone, or for it in each of so many ``outcomes`` looked at. False claims with unequal spreads: ``docs/method.md``.
        """
        gap = float(self.mean[a] - self.mean[b])
        variance = self.judged[a] / self.n[a] + self.judged[b] / self.n[b]
        half = spread.quantile(self.residual_df, comparisons) * math.sqrt(variance)
        if min(self.n[a], self.n[b]) < spread.FEW:
            half = float(np.fmax(half, self._own_half(a, b, outcomes)))
        return gap, gap - half, gap + half

    def _own_half(self, a: int, b: int, outcomes: int) -> float:
        if self.cells is not None:
            return spread.own_half(self.cells[:, a] - self.cells[:, b], comparisons=outcomes)
        parts = np.array([self.sd[i] ** 2 / self.n[i] for i in (a, b)])
        if not parts.sum() > 0:  # no spread, or one seed
            return math.nan
        df = parts.sum() ** 2 / sum(part**2 / (self.n[i] - 1) for part, i in zip(parts, (a, b), strict=True))
        return spread.quantile(float(df), outcomes) * math.sqrt(parts.sum())

    def means_together(self) -> tuple[Floats, Floats]:
        """Ends of all means, which hold together (Bonferroni): for values that are differences themselves.

        Each scheme takes the larger of ``mean_variance`` and its own variance; below :data:`.inference.spread.FEW` seeds
        no interval is shorter than Student's t of its own seeds alone.
        """
        k = len(self.schemes)
        if not (self.mean_df > 0 and math.isfinite(self.mean_variance)):
            nothing = np.full(k, math.nan)
            return nothing, nothing
        variance = np.fmax(self.mean_variance, self.sd**2)
        half = spread.quantile(self.mean_df, k) * np.sqrt(variance / self.n)
        own = [spread.quantile(n - 1) * sd / math.sqrt(n) for n, sd in zip(self.n, self.sd, strict=True)]
        half = np.where(self.n < spread.FEW, np.fmax(half, own), half)
        return self.mean - half, self.mean + half

    def homogeneity(self) -> tuple[float, float]:
        """F and p of "all schemes have the same mean", seeds as blocks where paired; NaN without spread."""
        return self._equal_means(np.ones(len(self.schemes), dtype=bool))

    def homogeneity_without(self, position: int) -> tuple[float, float]:
        """F and p of equal means among all schemes but one, judged by the same residual variance."""
        return self._equal_means(np.arange(len(self.schemes)) != position)

    def _equal_means(self, among: NDArray[np.bool_]) -> tuple[float, float]:
        k = int(among.sum())
        if self.residual_df == 0 or k < 2 or self.residual == 0:
            return math.nan, math.nan
        n, mean = self.n[among], self.mean[among]
        grand = float((n * mean).sum() / n.sum())
        f = float((n * (mean - grand) ** 2).sum()) / (k - 1) / self.residual
        return f, float(special.fdtrc(k - 1, self.residual_df, f))

    def equal_spread(self) -> float:
        """p of "no scheme's seeds scatter more than the others'" (Cochran's test of the largest variance).

        From the residuals where paired (:func:`.inference.spread.largest`), from the schemes with two seeds or more
        otherwise; NaN with too few of them or without any spread.
        """
        return self._largest()[0]

    @property
    def loudest(self) -> str:
        """The scheme that :meth:`equal_spread` is about; "" where that is NaN."""
        p, at = self._largest()
        return "" if math.isnan(p) else self.schemes[at]

    def _largest(self) -> tuple[float, int]:
        if self.cells is None:
            return spread.largest_unpaired(self.sd, self.n)
        return spread.largest(self.cells)

    def draws(self, rng: np.random.Generator, size: int = DRAWS) -> Floats:
        """True means but for a constant that they share, as the data leave them open, ``[size, schemes]``, nats.

        The posterior under a flat prior on means, seed effects and log variance: variance · df / χ²(df), then
        normal. Only differences between schemes may be read from it.
        """
        df = self.residual_df
        scale = np.sqrt(self.residual * df / rng.chisquare(df, size=(size, 1)))
        return self.mean + scale * rng.standard_normal((size, len(self.schemes))) / np.sqrt(self.n)

    def p_best(self, rng: np.random.Generator) -> Floats:
        """Probability that each scheme's true mean is the lowest; NaN without spread."""
        if self.residual_df == 0 or self.residual == 0:
            return np.full(len(self.schemes), math.nan)
        lowest = self.draws(rng).argmin(axis=1)
        return np.bincount(lowest, minlength=len(self.schemes)) / DRAWS

    def regret(self, chosen: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """Loss given up by taking ``chosen`` rather than the best, nats.

        Observed value, and the central interval of true mean of ``chosen`` minus lowest true mean. A regret
        cannot be negative and the observed one may lie outside the quantiles, so the interval is widened to
        hold it.
        """
        seen = float(self.mean[chosen] - self.mean.min())
        if self.residual_df == 0 or self.residual == 0:
            return seen, math.nan, math.nan
        means = self.draws(rng)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means[:, chosen] - means.min(axis=1), [tail, 1 - tail])
        # The draws know nothing of having looked for the best: where the simultaneous comparison cannot tell
        # the two apart, choosing may have cost nothing.
        if self.difference(chosen, self.best, max(len(self.schemes) - 1, 1))[1] <= 0:
            low = 0.0
        return seen, min(float(low), seen), max(float(high), seen)


def of_runs(used: pd.DataFrame, pair: str, column: str = "test_loss_last") -> Seeds:
    """The seeds of one pair.

    Args:
        used: Table ``runs`` without excluded rows, with the column ``pair``.
        pair: Which pair.
        column: The outcome, nats.
    """
    own = used[used["pair"] == pair]
    groups = own.groupby("scheme", sort=False)[column]
    names = tuple(str(name) for name in groups.groups)
    values = [groups.get_group(name).to_numpy(dtype=float) for name in names]
    n = np.array([len(v) for v in values], dtype=float)
    sd = np.array([v.std(ddof=1) if len(v) > 1 else math.nan for v in values])
    df = int((n - 1).sum())
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in values)
    variance = squares / df if df else math.nan
    means = np.array([v.mean() for v in values])
    table = own.pivot_table(index="seed", columns="scheme", values=column, aggfunc="first")
    paired = len(names) > 1 and len(table) > 1 and not table.isna().any(axis=None) and len(own) == table.size
    if not paired:
        judged = np.fmax(variance, sd**2)
        return Seeds(names, means, sd, n, variance, df, variance, df, False, variance, df, judged, None)
    cells = table[list(names)].to_numpy(dtype=np.float64)
    seeds, k = cells.shape
    residual_df = (seeds - 1) * (k - 1)
    residual = spread.pooled_variance(cells)
    between = k * float(cells.mean(axis=1).var(ddof=1))
    # Var(run) = (MS_seed + (k − 1) MS_residual) / k, the expectation of the variance within schemes.
    parts, dfs = np.array([between, (k - 1) * residual]), np.array([seeds - 1, residual_df])
    mean_df = float(parts.sum() ** 2 / (parts**2 / dfs).sum()) if parts.sum() > 0 else 0.0
    single = float(parts.sum()) / k
    judged = spread.larger_of_two(cells)
    return Seeds(
        names, means, sd, n, variance, df, residual, residual_df, True, single, mean_df, judged, cells
    )
