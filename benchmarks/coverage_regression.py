"""Achieved coverage of nominal 95 % intervals of a slope, a mean correlation, a concordance and a regret.

    nice -n 15 python benchmarks/coverage_regression.py --out benchmarks/results

Nine schemes in each of 3, 5 or 10 pairs, planted truth, one seed a cell. Slopes: the truth is the mean slope 1 of the
population of pairs, also where slopes differ between pairs. Meta-analysis: the truth is the coefficient whose Fisher
z is the population's mean z; for a prediction interval, the true coefficient of one further panel. Concordance and
regret: the mean of the procedure itself over all replications (directions learned from the other pairs are at times
wrong, and that belongs to it).

All replications of a cell are computed at once by the formulas written again here for arrays; on the first
replications every interval is compared with that of the library, and a difference ends the run. The mixed model is
the library's own search, one replication at a time, and its checks of MixedLM are made on the first ten.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from kdstats.association.concordance import leave_one_pair_out
from kdstats.association.meta import meta_analysis
from kdstats.association.mixed import guarded
from kdstats.association.regression import errors_of
from kdstats.association.reml import Reml
from kdstats.association.wild import WildTest
from kdstats.association.within import Within
from kdstats.provenance import provenance
from kdstats.tables import write

Floats = NDArray[np.float64]
Row = dict[str, Any]
N, PAIRS, LEVEL, COMPARED = 9, (3, 5, 10), 0.05, 10
IU = np.triu_indices(N, 1)
COLUMNS = ("what", "setting", "pairs", "interval", "coverage", "mc_error", "median_width", "replications")
ORDER = ("slope", "MixedLM (Powell) accepted", "meta-analysis", "concordance", "regret")
SLOPES = (
    "one slope",
    "one slope, unlike errors",
    "slopes differ",
    "slopes differ, unlike spread",
    "one slope, shared schemes",
)
POINTS = {
    "rademacher": np.array([-1.0, 1.0]),
    "webb": np.sqrt([0.5, 1, 1.5, 0.5, 1, 1.5]) * np.repeat([-1, 1], 3),
}


def t_quantile(dof: Any) -> Any:
    return special.stdtrit(dof, 1 - LEVEL / 2)


def row(what: str, setting: str, k: int, interval: str, hits: Any, widths: Any) -> Row:
    hits, widths = np.asarray(hits, dtype=float), np.asarray(widths, dtype=float)
    share = float(hits.mean())
    return {
        "what": what,
        "setting": setting,
        "pairs": k,
        "interval": interval,
        "coverage": share,
        "mc_error": (share * (1 - share) / hits.size) ** 0.5,
        "median_width": float(np.median(widths)) if widths.size else None,
        "replications": hits.size,
    }


def same(ours: Any, theirs: Any, what: str) -> None:
    if not np.allclose(ours, theirs, rtol=1e-6, atol=1e-6):
        raise SystemExit(f"{what}: the array formulas give {ours}, the library {theirs}")


def slopes_data(setting: str, rng: np.random.Generator, reps: int, k: int) -> tuple[Floats, Floats]:
    """x and y of all replications, (reps, k, N); the mean slope over pairs is 1."""
    x, e = rng.standard_normal((reps, k, N)), rng.standard_normal((reps, k, N))
    b = 1 + (0.5 * rng.standard_normal((reps, k, 1)) if "slopes differ" in setting else 0.0)
    if "unlike spread" in setting:
        x = x * np.exp(0.7 * rng.standard_normal((reps, k, 1)))
    if "unlike errors" in setting:
        e = e * np.exp(0.5 * rng.standard_normal((reps, k, 1)))
    if (
        "shared schemes" in setting
    ):  # schemes have nearly the same predictor in all pairs, and errors in common
        x = rng.standard_normal((reps, 1, N)) + 0.3 * x
        e = np.sqrt(0.5) * (rng.standard_normal((reps, 1, N)) + e)
    return x, rng.standard_normal((reps, k, 1)) + b * x + 0.5 * e


def within_of(x: Floats, y: Floats) -> Within:
    """One replication as the library takes it."""
    k = len(x)
    xc, yc = ((v - v.mean(axis=1, keepdims=True)).ravel() for v in (x, y))
    group = np.repeat(np.arange(k), N)
    return Within(xc, yc, group, tuple(map(str, range(k))), np.full(k, float(N)), group, k, True, ())


def slope_rows(setting: str, k: int, reps: int, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    x, y = slopes_data(setting, rng, reps, k)
    xc, yc = x - x.mean(axis=2, keepdims=True), y - y.mean(axis=2, keepdims=True)
    per = (xc**2).sum(axis=2)  # S_c
    sxx = per.sum(axis=1)
    slope = (xc * yc).sum(axis=(1, 2)) / sxx
    e = yc - slope[:, None, None] * xc
    sse, dof = (e**2).sum(axis=(1, 2)), N * k - k - 1
    leverage = 1 / N + xc**2 / sxx[:, None, None]
    scores = (xc * e).sum(axis=2)
    factor = k / (k - 1) * (N * k - 1) / dof
    share = per / sxx[:, None]
    # q'q of the CR2 variance: S_c/(1 - w_c) on the diagonal, less S_c S_d / S everywhere, over S².
    root = 1 / np.sqrt(1 - share)
    gram = (
        root[:, :, None]
        * root[:, None, :]
        * (np.eye(k) * per[:, :, None] - per[:, :, None] * share[:, None, :])
    )
    trace = np.trace(gram, axis1=1, axis2=2)
    errors = {
        "cr2": (np.sqrt(((scores * root) ** 2).sum(axis=1)) / sxx, trace**2 / (gram**2).sum(axis=(1, 2))),
        "cr1": (np.sqrt(factor * (scores**2).sum(axis=1)) / sxx, k - 1.0),
        "hc3": (np.sqrt(((xc * e / (1 - leverage)) ** 2).sum(axis=(1, 2))) / sxx, float(dof)),
        "classical": (np.sqrt(sse / dof / sxx), float(dof)),
    }
    for r in range(COMPARED):
        for kind, found in errors_of(within_of(x[r], y[r])).items():
            degrees = np.broadcast_to(errors[kind][1], reps)[r]
            same((errors[kind][0][r], degrees), (found.se, found.dof), f"{kind}, {setting}")
    for kind, (se, degrees) in errors.items():
        half = t_quantile(degrees) * se
        yield row("slope", setting, k, kind, np.abs(slope - 1) <= half, 2 * half)
    moves = (xc * (yc - xc)).sum(axis=2)  # scores at the true slope
    spread = np.sqrt((scores**2).sum(axis=1))
    for kind, points in POINTS.items():
        hits = np.empty(reps, dtype=bool)
        for r in range(reps):
            omega = rng.choice(points, size=(999, k))
            if points.size**k <= 9_999:
                omega = np.stack(np.meshgrid(*[points] * k), axis=-1).reshape(-1, k)
            shift = omega @ moves[r]
            below = np.sqrt(((omega * moves[r] - np.outer(shift / sxx[r], per[r])) ** 2).sum(axis=1))
            bound = abs(slope[r] - 1) * sxx[r] / spread[r] * (1 - 1e-9)
            more = np.count_nonzero(np.abs(shift) >= bound * below * (1 - 1e-9))
            exact = points.size**k <= 9_999
            p = more / len(omega) if exact else (more + 1) / (len(omega) + 1)
            hits[r] = p > LEVEL
            if r < COMPARED and exact:
                library = WildTest(within_of(x[r], y[r]), kind, 9_999, rng).p_value(1.0)
                same(p, library, f"wild {kind}, {setting}")
        ends = [WildTest(within_of(x[r], y[r]), kind, 999, rng).interval(LEVEL) for r in range(COMPARED)]
        yield row("slope", setting, k, f"wild, {kind}", hits, [high - low for low, high in ends])


def crossed_rows(setting: str, k: int, reps: int, seed: int) -> Iterator[Row]:
    """CR2 of the library with the schemes, which all pairs have in common, as clusters."""
    rng = np.random.default_rng(seed)
    hits, widths = [], []
    for x, y in zip(*slopes_data(setting, rng, reps, k), strict=True):
        schemes = np.tile(np.arange(N), k)
        data = replace(within_of(x, y), cluster=schemes, clusters=N, nested=False)
        error = errors_of(data)["cr2"]
        half = float(t_quantile(error.dof)) * error.se
        hits.append(abs(data.slope - 1) <= half)
        widths.append(2 * half)
    yield row("slope", setting, k, "cr2, clusters = schemes", hits, widths)


def mixed_rows(setting: str, k: int, reps: int, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    xs, ys = slopes_data(setting, rng, reps, k)
    hits, widths, accepted = [], [], []
    for x, y in zip(xs, ys, strict=True):
        columns = [(a - a.mean(), b) for a, b in zip(x, y, strict=True)]
        reml = Reml(columns, slopes=True)
        fit = reml.search(precision=1e-4)
        half = float(t_quantile(k - 1) * np.sqrt(fit.covariance[1, 1]))
        hits.append(abs(fit.beta[1] - 1) <= half)
        widths.append(2 * half)
        if len(accepted) < COMPARED:
            accepted.append(guarded(columns, reml, fit)[1])
    yield row("slope", setting, k, "mixed, random slopes", hits, widths)
    yield row("MixedLM (Powell) accepted", setting, k, "checks", accepted, [])


def pairs_of(
    rng: np.random.Generator, shape: tuple[int, ...], mean_z: float, sd_z: float
) -> tuple[Floats, ...]:
    """x, y, (*shape, N), and rho, bivariate normal with Fisher z drawn around ``mean_z``."""
    rho = np.tanh(mean_z + sd_z * rng.standard_normal((*shape, 1)))
    x = rng.standard_normal((*shape, N))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((*shape, N)), rho[..., 0]


TRUE = {
    "pearson": lambda rho: rho,
    "spearman": lambda rho: 6 / np.pi * np.arcsin(rho / 2),
    "kendall": lambda rho: 2 / np.pi * np.arcsin(rho),
}


def coefficient(method: str, x: Floats, y: Floats) -> Floats:
    if method == "kendall":
        a, b = (np.sign(v[..., IU[0]] - v[..., IU[1]]) for v in (x, y))
        return (a * b).mean(axis=-1)
    if method == "spearman":
        x, y = (v.argsort(axis=-1).argsort(axis=-1).astype(float) for v in (x, y))
    a, b = (v - v.mean(axis=-1, keepdims=True) for v in (x, y))
    return (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def fisher(method: str, r: Floats) -> tuple[Floats, Floats]:
    step = {"pearson": 0.0, "spearman": 6 / (N**3 - N), "kendall": 2 / (N * N - N)}[method]
    r = np.clip(r, -1 + step, 1 - step)
    variance = {"pearson": 1 / (N - 3), "spearman": (1 + r**2 / 2) / (N - 3), "kendall": 0.437 / (N - 4)}[
        method
    ]
    return np.arctanh(r), np.broadcast_to(variance, r.shape)


def meta_rows(rho: float, sd_z: float, k: int, reps: int, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    many = np.tanh(np.arctanh(rho) + sd_z * rng.standard_normal(50_000))
    x, y, rhos = pairs_of(rng, (reps, k + 1), np.arctanh(rho), sd_z)
    setting = f"rho {rho}, sd of z {sd_z}"
    for m, true in TRUE.items():
        r = coefficient(m, x[:, :k], y[:, :k])
        z, v = fisher(m, r)
        w = 1 / v
        centre = (w * z).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        q = (w * (z - centre) ** 2).sum(axis=1)
        tau2 = np.maximum(0, (q - (k - 1)) / (w.sum(axis=1) - (w**2).sum(axis=1) / w.sum(axis=1)))
        w = 1 / (v + tau2[:, None])
        mean = (w * z).sum(axis=1) / w.sum(axis=1)
        scale = (w * (z - mean[:, None]) ** 2).sum(axis=1) / (k - 1)
        half = t_quantile(k - 1) * np.sqrt(np.maximum(1, scale) / w.sum(axis=1))
        target = float(np.arctanh(true(many)).mean())
        widths = np.tanh(mean + half) - np.tanh(mean - half)
        # Prediction: tau² by bisection in every slice of chi-squared, then where the mixture puts the new panel.
        quantiles = special.chdtri(k - 1, (np.arange(100) + 0.5) / 100)
        low = np.zeros((reps, 100))
        high = ((z - z.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)[:, None] / quantiles
        for _ in range(25):
            middle = (low + high) / 2
            w3 = 1 / (v[:, None, :] + middle[:, :, None])
            mean3 = (w3 * z[:, None, :]).sum(axis=2) / w3.sum(axis=2)
            above = (w3 * (z[:, None, :] - mean3[:, :, None]) ** 2).sum(axis=2) > quantiles
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        new = np.arctanh(true(rhos[:, k]))[:, None]
        level = special.ndtr((new - mean3) / np.sqrt(high + 1 / w3.sum(axis=2))).mean(axis=1)
        inside = np.abs(level - 0.5) <= 0.5 - LEVEL / 2
        ahead = []
        for i in range(COMPARED):
            found = meta_analysis(r[i], N, method=m)
            ends = (np.tanh(mean[i] - half[i]), np.tanh(mean[i] + half[i]))
            same(ends, (found.low, found.high), f"meta {m}")
            truth = float(np.tanh(new[i, 0]))
            near = min(abs(truth - found.prediction_low), abs(truth - found.prediction_high)) < 1e-3
            if (found.prediction_low <= truth <= found.prediction_high) != inside[i] and not near:
                raise SystemExit(f"prediction, {m}: the array formulas and the library differ")
            ahead.append(found.prediction_high - found.prediction_low)
        yield row("meta-analysis, mean", setting, k, m, np.abs(mean - target) <= half, widths)
        yield row("meta-analysis, prediction", setting, k, m, inside, ahead)


def order_rows(rho: float, sd_z: float, k: int, reps: int, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)

    def shares_and_costs(x: Floats, y: Floats, sign: Any) -> tuple[Floats, Floats]:
        chosen = np.take_along_axis(y, (sign * x).argmin(axis=-1)[..., None], -1)[..., 0]
        return (1 + coefficient("kendall", sign * x, y)) / 2, chosen - y.min(axis=-1)

    x, y, _ = pairs_of(rng, (reps, k), np.arctanh(rho), sd_z)
    r = coefficient("pearson", x, y)
    sign = np.sign(r.sum(axis=1, keepdims=True) - r)[:, :, None]
    shares, costs = shares_and_costs(x, y, sign)
    means = (shares.mean(), costs.mean())
    half = t_quantile(k - 1) * shares.std(axis=1, ddof=1) / k**0.5
    middle, alike = shares.mean(axis=1), half < 1e-12
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, 1)
    widest = (y.max(axis=2) - y.min(axis=2)).max(axis=1)
    cost_low, cost_high = np.empty(reps), np.empty(reps)
    for i in range(reps):
        weights = rng.dirichlet(np.ones(k + 1), 1_999)
        inside = weights[:, 1:] @ costs[i]
        cost_low[i] = np.quantile(inside, LEVEL / 2)
        cost_high[i] = np.quantile(inside + weights[:, 0] * widest[i], 1 - LEVEL / 2)
        if alike[i]:
            inside = weights[:, 1:] @ shares[i]
            low[i], high[i] = (
                np.quantile(inside, LEVEL / 2),
                np.quantile(inside + weights[:, 0], 1 - LEVEL / 2),
            )
    frame = pd.DataFrame({"pair": np.repeat(np.arange(k), N)})
    for i in range(COMPARED):
        frame["x"], frame["y"] = x[i].ravel(), y[i].ravel()
        left = leave_one_pair_out(frame, x="x", y="y", group="pair", rng=rng)
        if not alike[i]:
            same((low[i], high[i]), (left.concordance_low, left.concordance_high), "concordance")
        same(costs[i].mean(), left.regret, "regret")
        if abs(cost_high[i] - left.regret_high) > 0.1 * widest[i]:
            raise SystemExit("regret: the array formulas and the library differ")
    setting = f"rho {rho}, sd of z {sd_z}"
    covered = (low <= means[0]) & (means[0] <= high)
    yield row("concordance", setting, k, "t over pairs (bounded where alike)", covered, high - low)
    yield row(
        "regret",
        setting,
        k,
        "bounded",
        (cost_low <= means[1]) & (means[1] <= cost_high),
        cost_high - cost_low,
    )


def jobs(reps: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Name of a function above and its arguments, the slow ones last."""
    means = ((0.5, 0.5), (0.9, 0.0), (0.9, 0.5), (0.97, 0.5))
    out: list[tuple[str, tuple[Any, ...]]] = []
    for k in PAIRS:
        out += [("slope_rows", (s, k, reps, 100 + 10 * k + i)) for i, s in enumerate(SLOPES)]
        out += [("crossed_rows", (SLOPES[4], k, reps, 900 + k))]
        out += [("order_rows", (*m, k, reps, 500 + 10 * k + i)) for i, m in enumerate(means)]
        out += [("meta_rows", (*m, k, reps, 300 + 10 * k + i)) for i, m in enumerate(means)]
    for s in (SLOPES[3], SLOPES[0]):
        out += [("mixed_rows", (s, k, reps, 700 + 10 * k + SLOPES.index(s))) for k in PAIRS]
    return out


def table(rows: list[Row]) -> str:
    formats = {"coverage": "{:.3f}".format, "mc_error": "{:.3f}".format, "median_width": "{:.3g}".format}
    headers = {"mc_error": "Monte Carlo error", "median_width": "median width"}
    return write("md", rows, COLUMNS, headers, formats)


def save(out: Path, rows: list[Row]) -> None:
    """The rows so far, so that a run that is cut short leaves what it has."""
    out.mkdir(parents=True, exist_ok=True)
    said = f"# Achieved coverage of nominal 95 % intervals, {N} schemes a pair\n\n{__doc__}\n{table(rows)}\n"
    foot = "\n".join(f"- {key}: {value}" for key, value in provenance().items())
    (out / "coverage_regression.md").write_text(f"{said}\n{foot}\n", encoding="utf-8")
    (out / "coverage_regression.csv").write_text(write("csv", rows, list(COLUMNS)), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replications", type=int, default=2_000)
    parser.add_argument("--only", default="", help="functions whose name holds this text")
    args = parser.parse_args(argv)
    rows: list[Row] = []
    for name, given in jobs(args.replications):
        if args.only not in name:
            continue
        start = time.process_time()
        rows += globals()[name](*given)
        rows.sort(key=lambda r: (ORDER.index(r["what"].split(",")[0]), r["setting"], r["pairs"]))
        print(f"{name} {given}: {time.process_time() - start:.1f} s", file=sys.stderr, flush=True)
        if args.out:
            save(args.out, rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
