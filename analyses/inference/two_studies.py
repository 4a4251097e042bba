"""Two studies side by side: differences per scheme with intervals, order of the schemes, T. stddev.

Where both have the same seeds of a scheme, a run is compared with the run of its seed: a seed fixes initialisation and
image order, so its effect cancels as it does between schemes (:mod:`.inference.seeds`). Otherwise the means are compared
with their standard errors (Welch, Satterthwaite's degrees of freedom). A scheme's variance is the larger of the one
pooled over schemes and its own, and below four seeds no interval is shorter than that of the scheme's own seeds alone
(:mod:`analyses.inference.spread`). The intervals of all schemes hold together (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analyses.inference import seeds as seeds_
from analyses.inference.spread import FEW, note_of_few, quantile
from analyses.study import Study
from analyses.study.unlike import Terms, terms
from analyses.words import CONFIDENCE, count, estimate, interval, listed, number, records, sizes
from kdstats.association.correlate import correlate
from kdstats.association.panels import SMALLEST_N
from kdstats.errors import CheckError, UsageError

OUTCOMES = {"test_loss": "test_loss_last", "acc": "acc_last"}


@dataclass(frozen=True, slots=True, eq=False)
class PairComparison:
    """One pair of networks in two studies.

    Attributes:
        pairs: As each study names it.
        terms: What is unlike, and what is refused.
        table: A row per common scheme: ``scheme, paired, seeds_first, seeds_second``; for ``test_loss`` (nats) and
            ``acc`` (fraction) the means ``…_first, …_second`` and ``…_difference, …_low, …_high`` (second − first; NaN
            where it is refused or seeds give no spread); ``t_stddev_first, t_stddev_second`` and ``t_stddev_ratio``
            with ``_low, _high`` (second over first; NaN where refused).
        only: Schemes in one study only: first, second.
        ranks: Rows of :func:`kdstats.association.correlate.correlate` of the mean test losses; empty with too few
            schemes.
        regret: Test loss given up in the second study by taking the best scheme of the first, with its interval.
        best: Best scheme of each, among the common ones.
        same_runs: Whether every common run has the same test loss in both.
        findings: In words.
    """

    pairs: tuple[str, str]
    terms: Terms
    table: pd.DataFrame
    only: tuple[tuple[str, ...], tuple[str, ...]]
    ranks: pd.DataFrame
    regret: tuple[float, float, float]
    best: tuple[str, str]
    same_runs: bool
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two studies and their common pairs."""

    first: Study
    second: Study
    pairs: tuple[PairComparison, ...]
    left_out: tuple[str, ...]


def compare(first: Study, second: Study) -> Comparison:
    """Compares every pair that both studies have; two studies of one pair each are compared in any case.

    Raises:
        UsageError: No pair, or no scheme of a pair, is in both.
    """
    common = [pair for pair in first.pairs if pair in second.pairs]
    matched = [(pair, pair) for pair in common]
    if not matched and len(first.pairs) == len(second.pairs) == 1:
        matched = [(first.pairs[0], second.pairs[0])]
    if not matched:
        raise UsageError(
            f"the studies have no pair in common: {listed(first.pairs) or 'none'} in {first.card.name!r}, "
            f"{listed(second.pairs) or 'none'} in {second.card.name!r}"
        )
    left = [
        f"{pair} is in {first.card.name} only" for pair in first.pairs if pair not in {a for a, _ in matched}
    ]
    left += [
        f"{pair} is in {second.card.name} only"
        for pair in second.pairs
        if pair not in {b for _, b in matched}
    ]
    return Comparison(first, second, tuple(_pair(first, second, pair) for pair in matched), tuple(left))


def _pair(first: Study, second: Study, pairs: tuple[str, str]) -> PairComparison:
    found = terms(first, second, pairs)
    runs = [
        study.used[study.used["pair"] == pair] for study, pair in zip((first, second), pairs, strict=True)
    ]
    schemes = [list(map(str, dict.fromkeys(own["scheme"]))) for own in runs]
    common = [scheme for scheme in schemes[0] if scheme in schemes[1]]
    if not common:
        raise UsageError(f"{' and '.join(dict.fromkeys(pairs))}: no scheme is in both studies")
    runs = [own[own["scheme"].isin(common)] for own in runs]
    frame = _outcomes(runs, common, refused=bool(found.outcome))
    frame = frame.merge(_measured((first, second), pairs, common, refused=bool(found.t_stddev)), on="scheme")
    means = [frame[f"test_loss_{side}"] for side in ("first", "second")]
    best = tuple(str(frame["scheme"].iloc[int(mean.to_numpy().argmin())]) for mean in means)
    ranks = pd.DataFrame()
    if len(common) >= SMALLEST_N and all(mean.nunique() > 1 for mean in means):
        ranks = correlate(frame, x="test_loss_first", y="test_loss_second", label="scheme", seed=second.seed)
    seeds = seeds_.of_runs(runs[1], pairs[1])
    regret = seeds.regret(seeds.schemes.index(best[0]), second.rng(f"regret in the second {pairs[1]}"))
    only = tuple(tuple(s for s in mine if s not in other) for mine, other in (schemes, schemes[::-1]))
    result = PairComparison(
        pairs,
        found,
        frame.sort_values(["test_loss_second", "scheme"], ignore_index=True),
        (only[0], only[1]),
        ranks,
        regret,
        (best[0], best[1]),
        _same(runs),
        (),
    )
    return _with_findings(result, first, second)


def _same(runs: list[pd.DataFrame]) -> bool:
    keys = ["scheme", "seed", "test_loss_last"]
    one, two = (set(map(tuple, own[keys].itertuples(index=False))) for own in runs)
    return one == two


def _outcomes(runs: list[pd.DataFrame], common: list[str], *, refused: bool) -> pd.DataFrame:
    by = [{s: frozenset(own[own["scheme"] == s]["seed"].astype(int)) for s in common} for own in runs]
    paired = all(by[0][s] == by[1][s] for s in common)
    out = pd.DataFrame(
        {
            "scheme": common,
            "paired": paired,
            "seeds_first": [len(by[0][s]) for s in common],
            "seeds_second": [len(by[1][s]) for s in common],
        }
    )
    for name, column in OUTCOMES.items():
        for side, own in zip(("first", "second"), runs, strict=True):
            means = own.groupby("scheme")[column].mean()
            out[f"{name}_{side}"] = [float(means[s]) for s in common]
        gaps = differences(runs[0], runs[1], common, column, paired=paired)
        for at, part in enumerate(("difference", "low", "high")):
            out[f"{name}_{part}"] = math.nan if refused else gaps[:, at]
    return out


def differences(
    first: pd.DataFrame, second: pd.DataFrame, schemes: list[str], column: str, *, paired: bool
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Second minus first for every scheme: ``[schemes, 3]``, difference, low, high; intervals hold together.

    Args:
        first: Runs of one pair: ``scheme, seed`` and the outcome.
        second: Runs of the other study.
        schemes: Those of the result.
        column: The outcome.
        paired: Whether every scheme has the same seeds in both.
    """
    if paired:
        both = first.merge(second, on=["scheme", "seed"], suffixes=("", "_second"), validate="one_to_one")
        gaps = pd.DataFrame(
            {"pair": "", "scheme": both["scheme"], "seed": both["seed"]}
            | {"gap": both[f"{column}_second"] - both[column]}
        )
        found = seeds_.of_runs(gaps, "", "gap")
        at = [found.schemes.index(scheme) for scheme in schemes]
        low, high = found.means_together()
        return np.column_stack([found.mean[at], low[at], high[at]])
    sides = [seeds_.of_runs(own.assign(pair=""), "", column) for own in (first, second)]
    rows = []
    for scheme in schemes:
        one, two = (side.schemes.index(scheme) for side in sides)
        gap = float(sides[1].mean[two] - sides[0].mean[one])
        n = [float(side.n[i]) for side, i in zip(sides, (one, two), strict=True)]
        own = [float(side.sd[i]) ** 2 for side, i in zip(sides, (one, two), strict=True)]
        pooled = [side.mean_variance for side in sides]
        larger = [float(np.fmax(a, b)) for a, b in zip(pooled, own, strict=True)]
        half = _welch(larger, n, [side.mean_df for side in sides], len(schemes))
        if min(n) < FEW:
            half = float(np.fmax(half, _welch(own, n, [size - 1 for size in n], 1)))
        rows.append((gap, gap - half, gap + half))
    return np.array(rows)


def _welch(variances: list[float], n: list[float], dfs: list[float], comparisons: int) -> float:
    """Half-width for a difference of two means; NaN where either has no spread on record."""
    squares = [v / size for v, size in zip(variances, n, strict=True)]
    if not all(dfs) or not sum(squares) > 0:
        return math.nan
    df = sum(squares) ** 2 / sum(s**2 / d for s, d in zip(squares, dfs, strict=True))
    return quantile(df, comparisons) * math.sqrt(sum(squares))


def _measured(
    studies: tuple[Study, Study], pairs: tuple[str, str], common: list[str], *, refused: bool
) -> pd.DataFrame:
    out: dict[str, Any] = {"scheme": common}
    values = []
    for study, pair, side in zip(studies, pairs, ("first", "second"), strict=True):
        rows = study.study[study.study["pair"] == pair].set_index("scheme").reindex(common)
        value = rows["t_stddev"].to_numpy(dtype=float)
        se = (
            rows["t_stddev_se"].to_numpy(dtype=float)
            if "t_stddev_se" in rows
            else np.full(len(common), math.nan)
        )
        if (value <= 0).any():
            raise CheckError(f"{study.paths.study}: a T. stddev of {pair} is not above 0")
        out[f"t_stddev_{side}"] = value
        values.append((value, se / value))
    # On the log scale, where intervals of a standard deviation are near symmetric; the two are measured separately.
    known = np.isfinite(values[0][0]) & np.isfinite(values[1][0])
    gap = np.log(values[1][0]) - np.log(values[0][0])
    z = float(special.ndtri(1 - (1 - CONFIDENCE) / 2 / max(1, int(known.sum()))))
    half = z * np.hypot(values[0][1], values[1][1])
    for name, ends in (("", gap), ("_low", gap - half), ("_high", gap + half)):
        out[f"t_stddev_ratio{name}"] = np.full(len(common), math.nan) if refused else np.exp(ends)
    return pd.DataFrame(out)


def _with_findings(found: PairComparison, first: Study, second: Study) -> PairComparison:
    names = first.card.name, second.card.name
    said = [*_said_losses(found, names), *_said_ranks(found), *_said_t_stddev(found)]
    return replace(found, findings=tuple(said))


def _said_losses(found: PairComparison, names: tuple[str, str]) -> list[str]:
    if found.terms.outcome:
        return [f"Test losses and accuracies are not subtracted: {found.terms.outcome}."]
    if found.same_runs:
        return ["Both studies hold the same runs: every common test loss is the same."]
    rows = records(found.table)
    n = sizes([row[key] for row in rows for key in ("seeds_first", "seeds_second")])
    how = (
        "runs of one seed compared with each other"
        if rows[0]["paired"]
        else "means compared, seeds are not shared"
    )
    if all(math.isnan(row["test_loss_low"]) for row in rows):
        return [f"One seed gives no spread: whether the test losses differ cannot be told (n = {n} a study)."]
    told = [row for row in rows if row["test_loss_low"] > 0 or row["test_loss_high"] < 0]
    few = note_of_few(min(row[key] for row in rows for key in ("seeds_first", "seeds_second")))
    tail = f"(n = {n} a study, {how}; intervals of {count(len(rows), 'scheme')} hold together{few})"
    if not told:
        return [f"No scheme's test loss can be told apart between {names[0]} and {names[1]} {tail}."]
    parts: list[str] = []
    for word, own in (
        ("lower", [row for row in told if row["test_loss_high"] < 0]),
        ("higher", [row for row in told if row["test_loss_low"] > 0]),
    ):
        if own:
            far = max(own, key=lambda row: abs(row["test_loss_difference"]))
            gap = estimate(far["test_loss_difference"], far["test_loss_low"], far["test_loss_high"])
            which = listed([row["scheme"] for row in own]) if len(own) < 4 else count(len(own), "scheme")
            most = f", most under {far['scheme']}" if len(own) > 1 else ""
            than = "" if parts else f" than in {names[0]}"
            parts.append(f"{word}{than} under {which}{most} ({gap} nats)")
    return [f"In {names[1]} the test loss is {' and '.join(parts)} {tail}."]


def _said_ranks(found: PairComparison) -> list[str]:
    out = []
    if len(found.ranks):
        row = next(r for r in records(found.ranks) if r["method"] == "kendall")
        ends = interval(row["low"], row["high"], 2)
        sure = "alike" if row["low"] > 0 else "in opposite order" if row["high"] < 0 else ""
        text = f"τ {number(row['estimate'], 2)} {ends}, n = {count(int(row['n']), 'scheme')}"
        lead = f"The schemes rank {sure} in both" if sure else "Whether the schemes rank alike cannot be told"
        out.append(f"{lead} (by mean test loss, Kendall's {text}).")
    elif len(found.table) > 1:
        out.append(f"{count(len(found.table), 'common scheme')}: too few to compare their order.")
    if len(found.table) > 1:
        cost = estimate(*found.regret)
        same = found.best[0] == found.best[1]
        what = (
            f"is {found.best[0]} in both"
            if same
            else f"is {found.best[0]} in the first, {found.best[1]} in the second"
        )
        out.append(
            f"The best common scheme {what}; taking the first study's choice in the second costs {cost} nats."
        )
    return out


def _said_t_stddev(found: PairComparison) -> list[str]:
    if found.terms.t_stddev:
        return [f"T. stddev is not compared: {found.terms.t_stddev}."]
    rows = [row for row in records(found.table) if not math.isnan(row["t_stddev_ratio"])]
    known = [row for row in rows if not math.isnan(row["t_stddev_ratio_low"])]
    if not known:
        return ["T. stddev has no standard error in these studies, so its agreement cannot be judged."]
    apart = [
        f"{r['scheme']} ×{estimate(r['t_stddev_ratio'], r['t_stddev_ratio_low'], r['t_stddev_ratio_high'])}"
        for r in known
        if not r["t_stddev_ratio_low"] <= 1 <= r["t_stddev_ratio_high"]
    ]
    if not apart:
        return [f"T. stddev agrees under all {count(len(known), 'common scheme')} within its intervals."]
    return [f"T. stddev differs under {listed(apart)} of {count(len(known), 'common scheme')}."]
