"""What pilot runs say about the spread over seeds that a comparison of schemes will have to see through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from kdstats.errors import CheckError, UsageError, unknown
from kdstats.estimators.intervals import check_confidence

GROUPS = ("dataset", "teacher", "student", "pair")


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
            UsageError: No positive sd, a correlation outside [-1, 1), df not positive.
        """
        if not (math.isfinite(sd) and sd > 0):
            raise UsageError(f"the sd over seeds is a positive number, not {sd}")
        if correlation is not None and not -1 <= correlation < 1:
            raise UsageError(
                f"the correlation of two schemes over seeds lies in [-1, 1), not {correlation}; at 1 every gap is seen"
            )
        if not df > 0:
            raise UsageError(f"degrees of freedom are positive, not {df}")
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
            ``dataset, teacher, student, pair`` that are there.
        paired: Whether schemes are compared seed by seed.

    Raises:
        UsageError: Unknown columns, fewer than two seeds, or (paired) no two schemes with seeds in common.
        CheckError: An outcome that is not a finite number, a run twice, or no spread at all.
    """
    groups = [g for g in GROUPS if g in runs.columns] if group is None else list(group)
    for name in [value, scheme, *([seed] if paired else []), *groups]:
        if name not in runs.columns:
            raise unknown("column", name, [str(c) for c in runs.columns])
    used, notes = _used(runs)
    outcome = pd.to_numeric(used[value], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(outcome)
    if bad.any():
        raise CheckError(
            f"column {value!r} holds no finite number in {used.index.name or 'row'} {used.index[bad][0]} "
            f"({int(bad.sum())} rows); mark such runs as excluded"
        )
    keys = [*groups, scheme, *([seed] if seed in used.columns else [])]
    twice = used.duplicated(keys) if seed in keys else pd.Series(False, index=used.index)
    if twice.any():
        row = used[twice].iloc[0]
        raise CheckError(
            f"a run is there twice: {', '.join(f'{k} {row[k]}' for k in keys)}; name --group columns"
        )
    panel = used.groupby(groups, sort=False).ngroup().to_numpy() if groups else np.zeros(len(used), dtype=int)
    fits = []
    for p in range(int(panel.max()) + 1):
        own = used[panel == p]
        rows = pd.factorize(own[scheme])[0]
        seeds = pd.factorize(own[seed])[0] if paired else np.zeros(len(own), dtype=int)
        fits.append(_residual(outcome[panel == p], rows, seeds))
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
    sd = math.sqrt(2 * variance)
    return Spread(sd, df, paired, math.sqrt(run_variance), correlation, source, tuple(notes))


def _used(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    if "excluded" not in runs.columns:
        return runs, []
    out = (
        runs["excluded"]
        .map(lambda v: str(v).strip().lower() in ("true", "1", "1.0", "yes"))
        .to_numpy(dtype=bool)
    )
    if out.all():
        raise UsageError("every run is marked as excluded")
    return runs[~out], [f"{int(out.sum())} excluded runs left out"] if out.any() else []


def _residual(y: np.ndarray, scheme: np.ndarray, seed: np.ndarray) -> tuple[float, float, float, float]:
    """Residual squares and df of scheme + seed by least squares (incomplete layouts too), and those of scheme."""
    schemes = np.eye(int(scheme.max()) + 1)[scheme]
    both = np.hstack([schemes, np.eye(int(seed.max()) + 1)[seed]])
    out: list[float] = []
    for design in (both, schemes):
        centred = y - y.mean()  # both designs hold the constant; large means would cost digits
        fit, _, rank, _ = np.linalg.lstsq(design, centred, rcond=None)
        out += [float(((centred - design @ fit) ** 2).sum()), float(len(y) - rank)]
    return out[0], out[1], out[2], out[3]


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
