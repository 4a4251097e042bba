"""Achieved coverage and bias of errors in variables, repeated-measures and partial correlation, and ranks.

    python -m benchmarks.coverage_association --out benchmarks/results

One row a setting, each from its own seed and appended to coverage_association.csv when it is done, so the same
command continues after a stop; a row with other replications is counted again. coverage_association.md is written
after every row. All settings have nine schemes; x and y are normal, their errors differ from point to point by a
factor of up to three.
"""

from __future__ import annotations

import argparse
import csv
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from kdstats.association.attenuation import disattenuate
from kdstats.association.deming import deming_fit
from kdstats.association.panels import split
from kdstats.association.partial import PartialCorrelation, partial_of
from kdstats.association.rank_table import rank_runs
from kdstats.association.repeated import RepeatedCorrelation, repeated_correlation
from kdstats.association.simex import simex_fit
from kdstats.errors import CheckError

SCHEMES = 9
COLUMNS = (
    "method",
    "setting",
    "replications",
    "coverage",
    "coverage_se",
    "truth",
    "median",
    "naive",
    "extra",
)
# One replication: covered or not, estimate, naive estimate, one further number that the setting names.
Trial = tuple[bool, float, float, float]
Draw = Callable[[np.random.Generator], Trial]


def noisy(rng: np.random.Generator, rho: float, rel_x: float, rel_y: float) -> tuple[np.ndarray, ...]:
    """x, y and their standard errors; true values standard normal with correlation rho."""
    true = rng.standard_normal(SCHEMES)
    other = rho * true + math.sqrt(1 - rho * rho) * rng.standard_normal(SCHEMES)
    shape = rng.uniform(0.5, 1.5, (2, SCHEMES))
    shape /= np.sqrt((shape**2).mean(axis=1, keepdims=True))
    ex, ey = math.sqrt(1 / rel_x - 1) * shape[0], math.sqrt(1 / rel_y - 1) * shape[1]
    return true + ex * rng.standard_normal(SCHEMES), other + ey * rng.standard_normal(SCHEMES), ex, ey


def slope(rho: float, rel_x: float, rel_y: float) -> Draw:
    def draw(rng: np.random.Generator) -> Trial:
        x, y, ex, ey = noisy(rng, rho, rel_x, rel_y)
        try:
            f = deming_fit(x, y, x_se=ex, y_se=ey)
        except CheckError:  # a vertical line: refused, which covers nothing
            return False, math.nan, math.nan, 1.0
        unbounded = math.isinf(f.slope_low) or math.isinf(f.slope_high)
        return f.slope_low <= rho <= f.slope_high, f.slope, f.naive_slope, float(unbounded)

    return draw


def corrected(rho: float, rel_x: float, rel_y: float) -> Draw:
    def draw(rng: np.random.Generator) -> Trial:
        x, y, ex, ey = noisy(rng, rho, rel_x, rel_y)
        f = disattenuate(x, y, x_se=ex, y_se=ey)
        return f.low <= rho <= f.high, f.estimate, f.observed, float(not abs(f.raw) <= 1)

    return draw


def extrapolated(statistic: str, rho: float, rel_x: float, rel_y: float) -> Draw:
    def draw(rng: np.random.Generator) -> Trial:
        x, y, ex, ey = noisy(rng, rho, rel_x, rel_y)
        f = simex_fit(x, y, x_se=ex, y_se=ey, statistic=statistic, replicates=100, rng=rng)
        return f.low <= rho <= f.high, f.estimate, f.naive, f.monte_carlo_se

    return draw


def shared(rng: np.random.Generator, panels: int, share: float) -> np.ndarray:
    """Standard normal values, of which a share of the variance is the scheme's own in all panels."""
    own = np.tile(rng.standard_normal(SCHEMES), panels)
    return math.sqrt(share) * own + math.sqrt(1 - share) * rng.standard_normal(SCHEMES * panels)


def tested(found: RepeatedCorrelation | PartialCorrelation, rho: float) -> Trial:
    """Whether rho is covered, the estimate, and whether the pointwise and the permutation test reject."""
    pointwise, permuted = (float(p <= 0.05) for p in (found.p_pointwise, found.p_permutation))
    return found.low <= rho <= found.high, found.estimate, pointwise, permuted


def within(panels: int, share: float, rho: float, label: str | None) -> Draw:
    pair, scheme = np.repeat(np.arange(panels), SCHEMES), np.tile(np.arange(SCHEMES), panels)

    def draw(rng: np.random.Generator) -> Trial:
        x = shared(rng, panels, share)
        y = rho * x + math.sqrt(1 - rho * rho) * shared(rng, panels, share)
        table = pd.DataFrame({"pair": pair, "scheme": scheme, "x": x, "y": y})
        f = repeated_correlation(
            table, x="x", y="y", group="pair", label=label, permutations=199, seed=int(rng.integers(2**31))
        )
        return tested(f, rho)

    return draw


def beyond(panels: int, share: float, rho: float, label: str | None) -> Draw:
    pair, scheme = np.repeat(np.arange(panels), SCHEMES), np.tile(np.arange(SCHEMES), panels)

    def draw(rng: np.random.Generator) -> Trial:
        z, x = shared(rng, panels, share), shared(rng, panels, share)
        y = rho * x + math.sqrt(1 - rho * rho) * shared(rng, panels, share) + z
        table = pd.DataFrame({"pair": pair, "scheme": scheme, "x": x + z, "y": y})
        parts = split(table, x="x", y="y", group="pair", label=label)
        f = partial_of(parts, {"z": z}, "pearson", label, 0.95, 199, int(rng.integers(2**31)))
        return tested(f, rho)

    return draw


def ranking(k: int, seeds: int, spread: float) -> Draw:
    scheme, seed = np.repeat(np.arange(k), seeds), np.tile(np.arange(seeds), k)

    def draw(rng: np.random.Generator) -> Trial:
        true = spread * rng.standard_normal(k)
        y = true[scheme] + 2 * rng.standard_normal(seeds)[seed] + rng.standard_normal(k * seeds)
        f = rank_runs(y, scheme, seed, draws=4_000, rng=rng)
        rank = true.argsort().argsort() + 1
        one = int(rng.integers(k))
        best = int(f.p_best.argmax())
        covered = bool(f.rank_low[one] <= rank[one] <= f.rank_high[one])
        return covered, float(f.p_best[best]), float(true.argmin() == best), float(f.p_equal >= 0.05)

    return draw


def settings() -> Iterator[tuple[str, str, float, Draw]]:
    for k, spread in ((9, 0.3), (9, 1.0), (9, 3.0), (2, 1.0)):
        words = f"{k} schemes, 3 seeds, sd of true values {spread} of a run's"
        yield "rank interval", words, math.nan, ranking(k, 3, spread)
    grid = [(0.99, 0.95), (0.9, 0.9), (0.7, 0.7), (0.5, 0.5)]
    for rel_x, rel_y in grid:
        for rho in (0.0, 0.6, 0.95):
            words = f"rho {rho}, reliabilities {rel_x}, {rel_y}"
            yield "deming slope", words, rho, slope(rho, rel_x, rel_y)
            yield "simex slope", words, rho, extrapolated("slope", rho, rel_x, rel_y)
            yield "simex pearson", words, rho, extrapolated("pearson", rho, rel_x, rel_y)
    for k in (3, 10):
        for share in (0.0, 0.5, 0.9):
            for rho in (0.0, 0.8):
                words = f"{k} pairs, rho {rho}, scheme's own share {share}"
                yield "repeated, by label", words, rho, within(k, share, rho, "scheme")
                if share != 0.5:
                    yield "partial, by label", words, rho, beyond(k, share, rho, "scheme")
        for share in (0.0, 0.9):
            words = f"{k} pairs, rho 0.8, scheme's own share {share}"
            yield "repeated, by point", words, 0.8, within(k, share, 0.8, None)
    for rho in (0.0, 0.8):
        yield "partial, one pair", f"rho {rho}", rho, beyond(1, 0.0, rho, "scheme")
    for rel_x, rel_y in grid:
        for rho in (0.0, 0.6, 0.95):
            yield (
                "disattenuated",
                f"rho {rho}, reliabilities {rel_x}, {rel_y}",
                rho,
                corrected(rho, rel_x, rel_y),
            )


EXTRA = {
    "deming slope": ("least squares (median)", "unbounded or refused"),
    "simex slope": ("least squares (median)", "Monte-Carlo se (mean)"),
    "simex pearson": ("observed r (median)", "Monte-Carlo se (mean)"),
    "disattenuated": ("observed r (median)", "quotient cut at ±1 or no estimate"),
    "rank interval": ("named best is the true best", "p_equal >= 0.05"),
}


def summary(rows: list[dict[str, str]], replications: int) -> str:
    """The rows as Markdown, one table a method."""
    lines = [
        "# Achieved coverage: errors in variables, repeated-measures and partial correlation, ranks",
        "",
        f"Nine schemes, nominal 95 %, {replications:,} replications a row (standard error of a coverage of 0.95: "
        f"{math.sqrt(0.95 * 0.05 / replications):.4f}). "
        "`python -m benchmarks.coverage_association --out benchmarks/results`",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        naive, extra = EXTRA.get(method, ("p_pointwise <= 0.05", "p_permutation <= 0.05"))
        value = "stated P(best), mean" if method == "rank interval" else "median estimate"
        head = f"| setting | coverage | truth | {value} | {naive} | {extra} |"
        lines += ["", f"## {method}", "", head, "|---|---|---|---|---|---|"]
        for row in rows:
            if row["method"] == method:
                numbers = [f"{float(row[c]):.3f}" for c in ("coverage", "truth", "median", "naive", "extra")]
                lines.append(f"| {row['setting']} | {' | '.join(numbers).replace('nan', '')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replications", type=int, default=2_000)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    table, page = (chosen.out / f"coverage_association.{suffix}" for suffix in ("csv", "md"))
    kept: dict[tuple[str, str], dict[str, str]] = {}
    if table.exists():
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if row["replications"] == str(chosen.replications):
                    kept[row["method"], row["setting"]] = row
    rows: list[dict[str, str]] = []
    for method, setting, truth, draw in settings():
        row = kept.get((method, setting))
        if row is None:
            rng = np.random.default_rng(zlib.crc32(f"{method}\0{setting}".encode()))
            trials = np.array([draw(rng) for _ in range(chosen.replications)], dtype=float)
            hit = float(trials[:, 0].mean())
            probabilities = method not in EXTRA or method == "rank interval"
            centre = np.nanmean if method == "rank interval" else np.nanmedian
            found = (
                hit,
                math.sqrt(hit * (1 - hit) / chosen.replications),
                truth,
                float(centre(trials[:, 1])),
                float((np.nanmean if probabilities else np.nanmedian)(trials[:, 2])),
                float(np.nanmean(trials[:, 3])),
            )
            row = dict(
                zip(
                    COLUMNS,
                    (method, setting, str(chosen.replications), *(f"{v:.6g}" for v in found)),
                    strict=True,
                )
            )
            print(*row.values(), flush=True)
        rows.append(row)
        kept[method, setting] = row
        every = [kept[m, s] for m, s, _, _ in settings() if (m, s) in kept]
        with table.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, COLUMNS)
            writer.writeheader()
            writer.writerows(every)
        page.write_text(summary(every, chosen.replications))


if __name__ == "__main__":
    main()
