"""What pilot runs say about the spread over seeds that a comparison of schemes will have to see through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, special

from kdstats.association.coefficients import Floats
from kdstats.association.panels import check_column, refuse_rows
from kdstats.errors import CheckError, UsageError
from kdstats.estimators.intervals import check_confidence
from kdstats.tables.excluded import excluded_rows

GROUPS = ("dataset", "teacher", "student", "pair")
Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one seed's difference between two schemes.

    Attributes:
        sd: Of the difference of two runs, unit of the outcome: under pairing of two runs of one seed.
        df: Degrees of freedom behind ``sd``; infinite where it is taken as known.
        paired: Whether the two runs of a difference share their seed.
        sd_run: Standard deviation of a single run.
        correlation: Of two schemes' runs over common seeds; 0 without pairing.
        source: Where it comes from, in words that can stand in a caption.
        notes: Warnings that stay with every number that rests on it.
    """

    sd: float
    df: float
    paired: bool
    sd_run: float
    correlation: float
    source: str
    notes: tuple[str, ...] = ()

    @staticmethod
    def given(sd: float, *, correlation: float | None = None, df: float = math.inf) -> Spread:
        """From the standard deviation over seeds of one scheme.

        Args:
            sd: Of single runs, unit of the outcome.
            correlation: Of two schemes over common seeds, if they will be compared seed by seed; None: they will not.
            df: Degrees of freedom behind ``sd`` (seeds − 1 of the runs it comes from); infinite: taken as known.

        Raises:
            UsageError: No positive sd, a correlation outside [-1, 1), df below 1.
        """
        if not (math.isfinite(sd) and sd > 0):
            raise UsageError(f"the sd over seeds is a positive number, not {sd}")
        if correlation is not None and not -1 <= correlation < 1:
            raise UsageError(
                f"the correlation of two schemes over seeds lies in [-1, 1), not {correlation}; at 1 every gap is seen"
            )
        if not df >= 1:
            raise UsageError(f"at least 1 degree of freedom is behind an sd over seeds, not {df}")
        notes = []
        if math.isinf(df):
            notes.append("the sd is taken as known: no interval")
        elif correlation:
            notes.append("the interval is for the sd; the correlation is taken as known")
        rho = correlation or 0.0
        return Spread(
            sd * math.sqrt(2 * (1 - rho)), df, correlation is not None, sd, rho, "sd as given", tuple(notes)
        )

    def interval(self, confidence: float) -> tuple[float, float]:
        """Ends for the true ``sd``: ``sd·sqrt(df/χ²)`` at both quantiles, exact for normal residuals."""
        check_confidence(confidence)
        if math.isinf(self.df):
            return self.sd, self.sd
        upper, lower = special.chdtri(self.df, [(1 - confidence) / 2, (1 + confidence) / 2])
        return self.sd * math.sqrt(self.df / upper), self.sd * math.sqrt(self.df / lower)


def spread_of(
    runs: pd.DataFrame,
    *,
    value: str = "test_loss_last",
    scheme: str = "scheme",
    seed: str = "seed",
    group: Sequence[str] | None = None,
    paired: bool = True,
) -> Spread:
    """The spread of a difference, from finished runs.

    A run's outcome is taken as its scheme's mean, plus (under pairing) an effect of its seed that all schemes of
    one panel share, plus a normal residual of one variance. The residual variance of that two-way layout, pooled
    over panels, is half the variance of a paired difference; without pairing it is the variance within schemes.

    Args:
        runs: One row a run. A column ``excluded`` that is true leaves a row out, and a note says so.
        value: Column of the outcome.
        scheme: Column of the scheme.
        seed: Column of the seed; not needed without pairing.
        group: Columns that tell panels (teacher/student pairs) apart; by default those of
            ``dataset, teacher, student, pair`` that are there and have values.
        paired: Whether schemes are compared seed by seed.

    Raises:
        UsageError: Unknown or repeated columns, a scheme, seed or group without a value (rows are named), fewer than
            two seeds, or (paired) no two schemes with seeds in common.
        CheckError: An outcome that is not a finite number, a run twice, no spread at all, or one that a float64
            does not hold.
    """
    groups = _groups(runs) if group is None else list(group)
    keyed = [*groups, scheme, *([seed] if paired else [])]
    for name in dict.fromkeys([value, *keyed, *[c for c in (seed, "excluded") if c in runs.columns]]):
        check_column(runs, name)
    used, notes = _used(runs)
    for name in keyed:
        kind = "scheme" if name == scheme else "seed" if name == seed else "group"
        refuse_rows(used, _blank(used[name]), f"{kind} column {name!r} has no value")
    outcome = pd.to_numeric(used[value], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(outcome)
    if bad.any():
        raise CheckError(
            f"column {value!r} holds no finite number in {used.index.name or 'row'} {used.index[bad][0]} "
            f"({int(bad.sum())} rows); mark such runs as excluded"
        )
    # An index level may be named like a column; only the columns count from here on.
    table = used.reset_index(drop=True)
    keys = [*groups, scheme, *([seed] if seed in table.columns else [])]
    twice = table.duplicated(keys) if seed in keys else pd.Series(False, index=table.index)
    if twice.any():
        row = table[twice].iloc[0]
        raise CheckError(
            f"a run is there twice: {', '.join(f'{k} {row[k]}' for k in keys)}; name --group columns"
        )
    top = float(np.abs(outcome).max())
    power_of_two = int(np.frexp(top)[1])
    with np.errstate(under="ignore"):
        outcome = np.ldexp(outcome, -power_of_two)  # squares of outcomes near 1e±200 would not fit
    panel = (
        table.groupby(groups, sort=False).ngroup().to_numpy() if groups else np.zeros(len(table), dtype=int)
    )
    order = np.argsort(panel, kind="stable")
    fits = []
    for rows in np.split(order, np.flatnonzero(np.diff(panel[order])) + 1):
        own = table.iloc[rows]
        schemes = pd.factorize(own[scheme])[0]
        seeds = pd.factorize(own[seed])[0] if paired else np.zeros(rows.size, dtype=int)
        fits.append(_residual(outcome[rows], schemes, seeds))
    squares, df, within, within_df = (float(x) for x in np.sum(fits, axis=0))
    if df < 1:
        what = (
            "no two schemes have two seeds in common" if paired and within_df else "no scheme has two seeds"
        )
        hint = "; compare without pairing (--unpaired)" if paired and within_df else ""
        raise UsageError(f"the runs hold no spread over seeds: {what}{hint}")
    scale = float(np.abs(outcome).max())
    if squares <= df * (1e-12 * scale) ** 2:
        raise CheckError(
            f"column {value!r} does not vary over seeds: all residuals are 0; are the seeds real?"
        )
    variance, run_variance = squares / df, within / within_df
    notes += _unequal(fits, df)
    correlation = 1 - variance / run_variance if paired else 0.0
    if paired and correlation < 0:
        notes.append(f"seeds in common did not help: correlation {correlation:.2f} over seeds")
    source = (
        f"{len(used)} runs in {len(fits)} panel{'s' * (len(fits) > 1)}, "
        + ("residual of scheme and seed" if paired else "spread within schemes")
        + f", {df:.0f} degrees of freedom"
    )
    try:
        sd, sd_run = (math.ldexp(math.sqrt(v), power_of_two) for v in (2 * variance, run_variance))
    except OverflowError:
        sd = sd_run = math.inf
    if not (math.isfinite(sd) and math.isfinite(sd_run) and sd > 0):
        raise CheckError(
            f"the spread of column {value!r} (values up to {top:g}) is more or less than a float64 can hold; "
            "rescale it"
        )
    return Spread(sd, df, paired, sd_run, correlation, source, tuple(notes))


def _groups(runs: pd.DataFrame) -> list[str]:
    """Those of :data:`GROUPS` that are there; one without any value tells nothing apart."""
    found = [name for name in GROUPS if name in runs.columns]
    return [name for name in found if (runs.columns == name).sum() > 1 or not _blank(runs[name]).all()]


def _blank(column: pd.Series[Any]) -> NDArray[np.bool_]:
    text = column.map(lambda v: isinstance(v, str) and not v.strip()).to_numpy(dtype=bool)
    out: NDArray[np.bool_] = text | column.isna().to_numpy(dtype=bool)
    return out


def _used(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    out = excluded_rows(runs)
    if len(runs) and out.all():
        raise UsageError("every run is marked as excluded")
    return runs[~out], [f"{int(out.sum())} excluded runs left out"] if out.any() else []


def _residual(y: Floats, scheme: Codes, seed: Codes) -> tuple[float, float, float, float]:
    """Residual squares and df of scheme + seed by least squares (incomplete layouts too), and those of scheme."""
    y = y - y.mean()  # both layouts hold the constant; large means would cost digits
    count = np.bincount(scheme)
    within = y - (np.bincount(scheme, y) / count)[scheme]
    within = within - (np.bincount(scheme, within) / count)[scheme]
    squares, df = _two_way(y, scheme, seed)
    return squares, float(df), float((within**2).sum()), float(y.size - count.size)


def _two_way(y: Floats, scheme: Codes, seed: Codes) -> tuple[float, int]:
    """Residual squares and degrees of freedom of scheme + seed, each run once.

    A seed or scheme with one run fits that run and says nothing of the rest, so it is left out, again and again.
    What remains is solved by the normal equations of the shorter side once the other is taken out (Scheffé 1959,
    section 5.2); runs that no chain of common seeds links are components of their own, each one equation short.
    """
    while y.size:
        kept = (np.bincount(scheme)[scheme] > 1) & (np.bincount(seed)[seed] > 1)
        if kept.all():
            break
        y, scheme, seed = y[kept], scheme[kept], seed[kept]
    if y.size == 0:
        return 0.0, 0
    scheme, seed = (np.unique(codes, return_inverse=True)[1] for codes in (scheme, seed))
    short, long = (scheme, seed) if scheme.max() <= seed.max() else (seed, scheme)
    k, s = int(short.max()) + 1, int(long.max()) + 1
    table = sparse.csr_array((np.ones(y.size), (short, long)), shape=(k, s))
    count, size = np.bincount(short, minlength=k), np.bincount(long, minlength=s)
    linked = np.asarray((table @ table.T).toarray())
    components, member = sparse.csgraph.connected_components(sparse.csr_array(linked), directed=False)
    reduced = np.diag(count.astype(float)) - np.asarray(
        (table @ sparse.diags_array(1 / size) @ table.T).toarray()
    )
    reduced += member[:, None] == member[None, :]  # the sum of effects of each component is set to 0
    left = y
    for _ in range(2):  # the second pass takes the rounding of the first out
        mean = np.bincount(long, left, s) / size
        effect = np.linalg.solve(reduced, np.bincount(short, left - mean[long], k))
        left = left - effect[short]
        left = left - (np.bincount(long, left, s) / size)[long]
    return float((left**2).sum()), int(y.size - k - s + components)


def _unequal(fits: Sequence[tuple[float, float, float, float]], df: float) -> list[str]:
    """A note where panels differ in spread (Bartlett 1937, p < 0.05)."""
    parts = [(s / d, d) for s, d, _, _ in fits if d > 0 and s > 0]
    if len(parts) < 2:
        return []
    s2, v = np.array(parts).T
    statistic = float(v.sum() * math.log((v * s2).sum() / v.sum()) - (v * np.log(s2)).sum())
    scale = 1 + float((1 / v).sum() - 1 / v.sum()) / (3 * (len(v) - 1))
    p = float(special.chdtrc(len(v) - 1, statistic / scale))
    if p >= 0.05:
        return []
    spreads = np.sqrt(s2)
    return [
        f"panels differ in spread (Bartlett p = {p:.2g}; residual sd {spreads.min():.3g} to {spreads.max():.3g}): "
        "the pooled sd is too small for some of them"
    ]
