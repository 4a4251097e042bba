"""Cells of slopes over pairs: CR2, CR1, HC3, classical, wild bootstrap and mixed model against a mean slope of 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.coverage_cell import COMPARED, LEVEL, Floats, N, Row, row, same, t_quantile
from kdstats.association.mixed import guarded
from kdstats.association.regression import errors_of
from kdstats.association.reml import Reml
from kdstats.association.wild import WildTest
from kdstats.association.within import Within

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
