"""The same components by restricted maximum likelihood, under normal effects.

In a balanced layout the mean over views (times √V) and the V − 1 orthonormal contrasts of the views are independent.
Either is a table x_ie of independent images,

    x_ie = μ_e + batch_b(i,e) + w_ie,   Cov(w_i) = a I + (f − a)/E J,

with (f, a) the expected mean squares of image and image x epoch for the mean, of image x view and of all three for a
contrast, and a batch variance of V batch + batch_view, or of batch_view. With g that variance, Z the batches'
indicators after the epochs' means are taken out (epochs are fixed here, so that a trend does not enter) and W = Cov(w),

    log |V| = n log |W| + log |I + g Zᵀ W⁻¹ Z|,   Zᵀ W⁻¹ Z = (D − c N)/a,  c = (f − a)/(E f),

D holding the sizes of the batches and N the number of images that two batches have in common: one Cholesky factor of
the number of batches per look, whatever the number of images.

Source: Patterson & Thompson 1971; Searle, Casella & McCulloch 1992, chapter 6. Tested against the dense likelihood
and against statsmodels' ``MixedLM`` (``tests/estimators/test_estimators_identity_reml.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.identity_anova import anova
from kdstats.estimators.identity_components import Model, VarianceComponents, few_notes, shared_names
from kdstats.estimators.intervals import t_quantile

Array = NDArray[np.float64]
MOST_BATCHES = 1_500
METHOD = "restricted maximum likelihood; Satterthwaite's chi-square from the information"
NORMAL = "normal theory: far too short an interval where losses are skewed (0.6–0.8 in simulation)"
_BOUNDARY = 1e-9  # of the total


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Which batches share images, after the epochs' means are taken out.

    Attributes:
        label: ``[n, E]`` number of the batch, over all epochs.
        direct: ``[q, q]`` D, sizes less what the epochs' means hold.
        common: ``[q, q]`` N, the same of the images' sums over epochs.
    """

    label: NDArray[np.int64]
    direct: Array
    common: Array

    @staticmethod
    def of(batch: NDArray[np.int64]) -> Batches:
        """From labels ``[n, E]``; raises ``UsageError`` for more than 1,500 batches, or one per epoch."""
        n, epochs = batch.shape
        codes: list[NDArray[np.intp]] = []
        epoch_of: list[int] = []
        for e in range(epochs):
            _, index = np.unique(batch[:, e], return_inverse=True)
            codes.append(index + len(epoch_of))
            epoch_of += [e] * (int(index.max()) + 1)
        q = len(epoch_of)
        if q > MOST_BATCHES:
            raise UsageError(
                f"REML takes at most {MOST_BATCHES:,} batches, not {q:,}; use the method anova, or fewer epochs"
            )
        if q == epochs:
            raise UsageError("one batch per epoch: batches cannot be told from epochs")
        label = np.stack(codes, axis=1)
        indicator = np.zeros((n, q))
        indicator[np.arange(n)[:, None], label] = 1.0
        common = indicator.T @ indicator
        size = np.diag(common)
        same = np.equal.outer(epoch_of, epoch_of)
        outer = np.outer(size, size) / n
        return Batches(label, np.diag(size) - np.where(same, outer, 0.0), common - outer)


class Part:
    """Minus twice the log-likelihood of m independent tables ``[n, E, m]`` of equal variances."""

    def __init__(self, x: Array, batches: Batches | None) -> None:
        n, self.epochs, self.m = x.shape
        self.inner = n - 1
        x = x - x.mean(axis=0)
        sums = x.sum(axis=1)
        self.total, self.sum_total = float(np.vdot(x, x)), float(np.vdot(sums, sums))
        self.batches = batches
        if batches is not None:
            q = len(batches.direct)
            labels = batches.label.ravel()
            self.right = np.stack([np.bincount(labels, c, q) for c in x.reshape(-1, self.m).T], axis=1)
            spread = np.repeat(sums, self.epochs, axis=0)
            self.right_sums = np.stack([np.bincount(labels, c, q) for c in spread.T], axis=1)

    def __call__(self, first: float, a: float, batch: float) -> float:
        """At expected mean squares ``first`` (of image) and ``a`` (of image x epoch), and a variance of batches."""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        c = (first - a) / self.epochs / first
        value: float = self.m * self.inner * ((self.epochs - 1) * math.log(a) + math.log(first))
        value += (self.total - c * self.sum_total) / a
        if self.batches is None or batch <= 0:
            return value
        inner = (self.batches.direct - c * self.batches.common) / a
        right = (self.right - c * self.right_sums) / a
        try:
            factor = cho_factor(np.eye(len(inner)) + batch * inner, lower=True, check_finite=False)
        except LinAlgError:
            return math.inf
        solved = cho_solve(factor, right, check_finite=False)
        return value + float(2 * self.m * np.log(np.diag(factor[0])).sum() - batch * np.vdot(right, solved))


class Likelihood:
    """Minus twice the restricted log-likelihood (up to a constant) of the components of a balanced layout."""

    def __init__(self, layout: Crossed) -> None:
        _, self.epochs, self.views = layout.values.shape
        known = None if layout.batch is None else 0.0
        self.names = list(Model.of(self.epochs, self.views, known).weights)
        batches = None if layout.batch is None else Batches.of(layout.batch)
        mean = layout.over_views()[:, :, None] * math.sqrt(self.views)
        self.mean = Part(mean, batches)
        self.contrasts = Part(layout.between_views(), batches) if self.views > 1 else None

    def __call__(self, theta: Array) -> float:
        """At variances ``theta`` in the order of ``names``."""
        v = dict(zip(self.names, theta, strict=True))
        fine = v["residual"]
        if min(v.values()) < 0 or fine <= 0:
            return math.inf
        view, cell = v.get("view", 0.0), v.get("image_epoch", 0.0)
        batch, batch_view = v.get("batch", 0.0), v.get("batch_view", 0.0)
        epochs, views = self.epochs, self.views
        a = fine + views * cell
        total = self.mean(a + epochs * view + epochs * views * v["image"], a, views * batch + batch_view)
        if self.contrasts is not None:
            total += self.contrasts(fine + epochs * view, fine, batch_view)
        return total


def reml(layout: Crossed, confidence: float) -> VarianceComponents:
    """Components by REML; see :func:`~kdstats.estimators.identity.variance_components`.

    Raises:
        UsageError: More than 1,500 batches.
        CheckError: The optimiser ends away from a minimum.
    """
    from scipy.optimize import minimize

    closed = anova(layout, confidence)
    likelihood = Likelihood(layout)
    names = likelihood.names
    scale = closed.total.value
    if scale <= 0:
        raise CheckError("the components sum to nothing: there is no variance to share")
    start = np.array([max(closed.components[name].value, 0.01 * scale) for name in names]) / scale
    base = likelihood(start * scale)

    def objective(x: Array) -> float:
        return likelihood(x * scale) - base

    bounds = [(1e-8 if name == "residual" else 0.0, None) for name in names]
    best = minimize(objective, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-7})
    x, inverse = _newton(objective, np.asarray(best.x))
    theta = x * scale
    covariance = 2 * inverse * scale**2
    kinds = shared_names(set(names), likelihood.epochs, likelihood.views)
    whole = _weights(names, tuple(names))

    def combined(parts: tuple[str, ...]) -> Estimate:
        return _estimate(_weights(names, parts), theta, covariance, confidence, closed)

    def correlated(parts: tuple[str, ...]) -> Estimate:
        return _correlation(_weights(names, parts), whole, theta, covariance, confidence, closed)

    components = {name: combined((name,)) for name in names}
    if "epoch" in closed.components:
        components["epoch"] = closed.components["epoch"]
    return replace(
        closed,
        components=components,
        total=combined(tuple(names)),
        covariances={kind: combined(parts) for kind, parts in kinds.items()},
        correlations={kind: correlated(parts) for kind, parts in kinds.items()},
        method="reml",
    )


def _weights(names: list[str], parts: tuple[str, ...]) -> Array:
    return np.array([float(name in parts) for name in names])


def _newton(objective: Any, x: Array) -> tuple[Array, Array]:
    """The minimum near ``x`` and the inverse Hessian there, zero for components on the boundary.

    L-BFGS with finite differences ends a little early; a few Newton steps in the inner components walk the rest.
    """
    free = np.flatnonzero(x > _BOUNDARY)
    for _ in range(20):
        gradient, hessian = _derivatives(objective, x, free)
        values, vectors = np.linalg.eigh(hessian)
        if (values <= 0).any():
            raise CheckError(
                "REML: the information is not positive definite, a component is hardly determined"
            )
        step = vectors @ ((vectors.T @ gradient) / values)
        if gradient @ step < 1e-8:  # of twice the log-likelihood: far below what any interval could see
            inverse = np.zeros((len(x), len(x)))
            inverse[np.ix_(free, free)] = (vectors / values) @ vectors.T
            return x, inverse
        share, here = 1.0, objective(x)
        while share > 1e-4:
            moved = x.copy()
            moved[free] -= share * step
            if (moved[free] > 0).all() and objective(moved) < here:
                break
            share /= 2
        else:
            break
        x = moved
    raise CheckError("REML did not converge: a component is hardly determined, or lies near its boundary")


def _derivatives(objective: Any, x: Array, free: NDArray[np.intp]) -> tuple[Array, Array]:
    """Gradient and Hessian in the inner components, by central differences."""
    step = 1e-3 * x[free]
    m = len(free)
    gradient, hessian = np.empty(m), np.empty((m, m))

    def at(*moves: tuple[int, float]) -> float:
        y = x.copy()
        for j, sign in moves:
            y[free[j]] += sign * step[j]
        return float(objective(y))

    here = at()
    for j in range(m):
        up, down = at((j, 1)), at((j, -1))
        gradient[j] = (up - down) / (2 * step[j])
        hessian[j, j] = (up - 2 * here + down) / step[j] ** 2
        for k in range(j):
            corners = at((j, 1), (k, 1)) - at((j, 1), (k, -1)) - at((j, -1), (k, 1)) + at((j, -1), (k, -1))
            hessian[j, k] = hessian[k, j] = corners / (4 * step[j] * step[k])
    return gradient, hessian


def _estimate(
    weights: Array, theta: Array, covariance: Array, confidence: float, closed: VarianceComponents
) -> Estimate:
    from scipy.special import chdtri

    value = float(weights @ theta)
    se = math.sqrt(max(float(weights @ covariance @ weights), 0.0))
    notes = (NORMAL, *few_notes(closed.images, closed.batches))
    if se == 0:
        told = (*notes, "on the boundary: estimated as zero, no interval")
        return Estimate(value, math.nan, math.nan, math.nan, closed.images, METHOD, confidence, notes=told)
    if value < se:
        # A chi-square of next to no degrees of freedom reaches from nothing to anything.
        told = (*notes, "hardly above zero: interval from zero to value + t standard errors")
        high = value + t_quantile(confidence, math.inf) * se
        return Estimate(value, se, 0.0, high, closed.images, METHOD, confidence, notes=told)
    df, tail = 2 * (value / se) ** 2, (1 - confidence) / 2
    low, high = df * value / float(chdtri(df, tail)), df * value / float(chdtri(df, 1 - tail))
    return Estimate(value, se, low, high, closed.images, METHOD, confidence, notes=notes)


def _correlation(
    part: Array,
    whole: Array,
    theta: Array,
    covariance: Array,
    confidence: float,
    closed: VarianceComponents,
) -> Estimate:
    total = float(whole @ theta)
    value = float(part @ theta) / total
    gradient = (part - value * whole) / total
    se = math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
    centre = math.atanh(min(value, 1 - 1e-12))
    half = t_quantile(confidence, math.inf) * se / max(1 - value**2, 1e-12)
    return Estimate(
        value,
        se,
        math.tanh(centre - half),
        math.tanh(centre + half),
        closed.images,
        f"{METHOD}; Fisher's z",
        confidence,
        notes=(NORMAL, *few_notes(closed.images, closed.batches)),
    )
