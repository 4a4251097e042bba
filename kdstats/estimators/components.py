"""What a pool's variance is made of: spread of inputs, the original–view link, and everything else shared.

A pool of n originals o_i and m views v_i (m = n unless picking keeps another number) has the mean
p̄ = (Σ o_i + Σ v_i) / M, M = n + m. Per class

    Var(p̄) = [ n σ_o² + m σ_v² + 2m Cov(o_i, v_i) + cross ] / M²

with ``cross`` all covariances between different images. The terms are averaged over classes. A
scheme can lower T. stddev by less dependence or by softer views; only this split tells which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.errors import UsageError

Array = NDArray[np.float64]
SPREAD = ("var_original", "var_augmented")
DEPENDENCE = ("cov_views", "cov_cross")


@dataclass(frozen=True, slots=True)
class Components:
    """Four contributions that add up to ``total``, the variance of a pool mean averaged over classes.

    Attributes:
        var_original: From the spread of single originals.
        var_augmented: From the spread of single views.
        cov_views: From the covariance of an original with its own view.
        cov_cross: The rest: covariance between different images and shared draws.
        total: Their sum.
        inputs: Inputs of a pool, M.
    """

    var_original: float
    var_augmented: float
    cov_views: float
    cov_cross: float
    total: float
    inputs: int

    @property
    def design_effect(self) -> float:
        """Actual variance over the variance of M independent inputs with the same spread."""
        return self.total / (self.var_original + self.var_augmented)

    @property
    def effective_inputs(self) -> float:
        """M over the design effect: how many independent inputs the pool is worth."""
        return self.inputs / self.design_effect


class PairMoments:
    """Streaming sums over originals, views and their pairs of class probabilities; float64."""

    def __init__(self, classes: int) -> None:
        self.originals = 0
        self.n = 0
        self.sums = np.zeros((6, classes))

    def update(self, originals: Any, views: Any, base: Any = None) -> None:
        """Adds a batch.

        Args:
            originals: ``[B, C]`` probabilities of all originals of the batch.
            views: ``[V, C]`` of its views.
            base: ``[V, C]`` of the original that each view is based on; ``originals`` itself by default. Picking
                keeps some images twice and some not at all, so there they differ, and V may differ from B.

        Raises:
            UsageError: Shapes that do not fit.
        """
        o = np.asarray(originals, dtype=np.float64)
        v = np.asarray(views, dtype=np.float64)
        w = o if base is None else np.asarray(base, dtype=np.float64)
        if o.ndim != 2 or v.shape != w.shape or o.shape[1:] != v.shape[1:]:
            raise UsageError(f"originals, views and their bases of shapes {o.shape}, {v.shape} and {w.shape}")
        self.originals += len(o)
        self.n += len(v)
        self.sums += np.stack([o.sum(0), v.sum(0), (o * o).sum(0), (v * v).sum(0), (w * v).sum(0), w.sum(0)])

    def components(self, total: float, originals: int, views: int) -> Components:
        """Splits ``total``, the variance of the mean of a pool of so many originals and views."""
        if self.n < 2:
            raise UsageError("components need at least 2 pairs")
        # Probabilities lie in [0, 1], so float64 sums of squares lose nothing that matters.
        counts = np.array([self.originals if own else self.n for own in (1, 0, 1, 0, 0, 0)])
        mean_o, mean_v, square_o, square_v, product, mean_base = self.sums / counts[:, None]
        bessel = self.n / (self.n - 1)
        spread_o = float((square_o - mean_o**2).mean()) * bessel
        spread_v = float((square_v - mean_v**2).mean()) * bessel
        # Around the means of the pool: a picked base is an original like any other.
        linked = float((product - mean_o * mean_v - mean_v * (mean_base - mean_o)).mean()) * bessel
        # Each of the inputs has weight 1/M; a view is linked with one original.
        inputs = originals + views
        parts = (
            originals * spread_o / inputs**2,
            views * spread_v / inputs**2,
            2 * views * linked / inputs**2,
        )
        return Components(*parts, total - sum(parts), total, inputs)


@dataclass(frozen=True, slots=True)
class Split:
    """Why one scheme's pool variance differs from another's: ``total = spread · design_effect``, as ratios.

    The design effect does not change when all outputs are scaled alike, so views that are only softer leave it
    at 1; a difference of the covariance terms would count part of plain softening as dependence.

    Attributes:
        total: Pool variance of the scheme over that of the reference.
        spread: Ratio of ``var_original + var_augmented``: softer or sharper views.
        design_effect: Ratio of the design effects: less or more dependence.
    """

    total: float
    spread: float
    design_effect: float

    @property
    def softer_share(self) -> float:
        """Share of ``log total`` that is spread; outside 0 … 1 where the two work against each other."""
        return math.log(self.spread) / math.log(self.total) if self.total != 1 else math.nan


def split(scheme: Mapping[str, float], reference: Mapping[str, float]) -> Split:
    """The split of a scheme's pool variance against a reference's.

    Args:
        scheme: ``var_original, var_augmented, cov_views, cov_cross`` of the scheme, as in the JSON contract.
        reference: The same of the reference, usually identity.
    """
    spread, total = (
        [sum(parts[name] for name in names) for parts in (scheme, reference)]
        for names in (SPREAD, SPREAD + DEPENDENCE)
    )
    total_ratio, spread_ratio = total[0] / total[1], spread[0] / spread[1]
    return Split(total_ratio, spread_ratio, total_ratio / spread_ratio)
