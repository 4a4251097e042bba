"""What the seeds of one pair say about the means of its schemes.

Assumption, stated wherever these numbers are printed: within a scheme, the test loss over seeds is normal
with the same variance in all schemes of a pair, and seeds are independent. With three seeds a scheme has two
degrees of freedom of its own, the pool of nine has eighteen. Seeds are shared by the schemes; where that
makes their losses rise and fall together, differences are surer than stated here, not less sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

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
    """

    schemes: tuple[str, ...]
    mean: Floats
    sd: Floats
    n: Floats
    variance: float
    df: int

    @property
    def se(self) -> Floats:
        """Standard errors of the means from the pooled variance, nats."""
        return np.sqrt(self.variance / self.n)

    @property
    def quantile(self) -> float:
        """Student's t at :data:`CONFIDENCE`, two-sided."""
        return float(special.stdtrit(self.df, 0.5 + CONFIDENCE / 2)) if self.df else math.nan

    @property
    def best(self) -> int:
        """Position of the lowest mean; the first by name where two are equal."""
        return int(min(range(len(self.schemes)), key=lambda i: (self.mean[i], self.schemes[i])))

    def difference(self, a: int, b: int) -> tuple[float, float, float]:
        """Mean of ``a`` minus mean of ``b`` with its interval, nats."""
        gap = float(self.mean[a] - self.mean[b])
        half = self.quantile * math.sqrt(self.variance * (1 / self.n[a] + 1 / self.n[b]))
        return gap, gap - half, gap + half

    def homogeneity(self) -> tuple[float, float]:
        """F and p of "all schemes have the same mean" (one-way analysis of variance); NaN without spread."""
        k = len(self.schemes)
        if self.df == 0 or k < 2 or self.variance == 0:
            return math.nan, math.nan
        grand = float((self.n * self.mean).sum() / self.n.sum())
        f = float((self.n * (self.mean - grand) ** 2).sum()) / (k - 1) / self.variance
        return f, float(special.fdtrc(k - 1, self.df, f))

    def equal_spread(self) -> float:
        """p of "all schemes have the same variance over seeds" (Bartlett 1937), from those with two or more.

        NaN with fewer than two such schemes, or where one has no spread at all.
        """
        known = self.n > 1
        v, s2 = self.n[known] - 1, self.sd[known] ** 2
        k = int(known.sum())
        if k < 2 or (s2 == 0).any():
            return math.nan
        statistic = float(v.sum() * np.log(self.variance) - (v * np.log(s2)).sum())
        scale = 1 + float((1 / v).sum() - 1 / v.sum()) / (3 * (k - 1))
        return float(special.chdtrc(k - 1, statistic / scale))

    def draws(self, rng: np.random.Generator, size: int = DRAWS) -> Floats:
        """True means as the data leave them open, ``[size, schemes]``, nats.

        The posterior under a flat prior on means and log variance: variance · df / χ²(df), then normal.
        """
        scale = np.sqrt(self.variance * self.df / rng.chisquare(self.df, size=(size, 1)))
        return self.mean + scale * rng.standard_normal((size, len(self.schemes))) / np.sqrt(self.n)

    def p_best(self, rng: np.random.Generator) -> Floats:
        """Probability that each scheme's true mean is the lowest; NaN without spread."""
        if self.df == 0 or self.variance == 0:
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
        if self.df == 0 or self.variance == 0:
            return seen, math.nan, math.nan
        means = self.draws(rng)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means[:, chosen] - means.min(axis=1), [tail, 1 - tail])
        return seen, min(float(low), seen), max(float(high), seen)


def of_runs(used: pd.DataFrame, pair: str, column: str = "test_loss_last") -> Seeds:
    """The seeds of one pair.

    Args:
        used: Table ``runs`` without excluded rows, with the column ``pair``.
        pair: Which pair.
        column: The outcome, nats.
    """
    groups = used[used["pair"] == pair].groupby("scheme", sort=False)[column]
    names = tuple(str(name) for name in groups.groups)
    values = [groups.get_group(name).to_numpy(dtype=float) for name in names]
    n = np.array([len(v) for v in values], dtype=float)
    sd = np.array([v.std(ddof=1) if len(v) > 1 else math.nan for v in values])
    df = int((n - 1).sum())
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in values)
    return Seeds(names, np.array([v.mean() for v in values]), sd, n, squares / df if df else math.nan, df)
