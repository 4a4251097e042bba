"""Cells of what is said over pairs: mean correlation and that of a further pair, concordance, regret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from benchmarks.coverage_cell import COMPARED, LEVEL, Floats, N, Row, row, same, t_quantile
from kdstats.association.concordance import leave_one_pair_out
from kdstats.association.meta import meta_analysis

IU = np.triu_indices(N, 1)


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
