"""Calibration error of a classifier's largest probability, with the bias of binning taken out.

With confidences c_i and hits a_i in bins b of n_b images, d_i = c_i − a_i, and d̄_b its mean, the plug-in error
Σ (n_b/n) |d̄_b| is positive for a perfectly calibrated network too. Two answers: its distribution under perfect
calibration (hits drawn with the network's own confidences; Bröcker & Smith 2007), and the squared error with the bias
removed, Σ (n_b/n) (d̄_b² − s_b²/n_b) (Kumar et al. 2019), which is a U-statistic and has a jackknife.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analyses.words import CONFIDENCE
from kdstats.errors import CheckError, UsageError

BINS = 15
LEAST_IN_BIN = 5
SIMULATIONS = 1_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationError:
    """What one network's confidences are worth.

    Attributes:
        ece: Plug-in Σ (n_b/n)|d̄_b| over bins of equal width, as papers print it.
        ece_null: Its mean if the network were perfectly calibrated.
        p_calibrated: Share of simulations under perfect calibration that reach ``ece``, (b + 1)/(m + 1).
        squared: Debiased squared error over bins of equal mass; may be negative by chance.
        squared_se: Its jackknife standard error over images.
        overconfidence: Mean confidence minus accuracy.
        n: Images.
    """

    ece: float
    ece_null: float
    p_calibrated: float
    squared: float
    squared_se: float
    overconfidence: float
    n: int

    @property
    def rms(self) -> float:
        """Root of the debiased squared error, 0 where that is negative."""
        return math.sqrt(max(self.squared, 0.0))

    @property
    def rms_interval(self) -> tuple[float, float]:
        """Interval of the root over images: that of the square, cut at 0, transformed."""
        half = float(special.ndtri(1 - (1 - CONFIDENCE) / 2)) * self.squared_se
        return math.sqrt(max(self.squared - half, 0.0)), math.sqrt(max(self.squared + half, 0.0))


def calibration_error(
    confidence: ArrayLike, hit: ArrayLike, rng: np.random.Generator, bins: int = BINS
) -> CalibrationError:
    """The calibration error of one network.

    Args:
        confidence: ``[n]`` largest probabilities in [0, 1].
        hit: ``[n]`` whether that class was right.
        rng: For the simulation under perfect calibration.
        bins: Bins of equal width, and of equal mass.

    Raises:
        UsageError: Unlike lengths, or fewer than ``5 · bins`` images.
        CheckError: A confidence is not in [0, 1], or a hit neither 0 nor 1.
    """
    c, a = np.asarray(confidence, dtype=np.float64), np.asarray(hit, dtype=np.float64)
    if c.ndim != 1 or c.shape != a.shape:
        raise UsageError(
            f"confidences and hits must be two columns of one length, got {c.shape} and {a.shape}"
        )
    if len(c) < LEAST_IN_BIN * bins:
        raise UsageError(
            f"a calibration error over {bins} bins needs {LEAST_IN_BIN * bins} or more images, got {len(c)}"
        )
    # Softmax of float32 logits may exceed 1 by rounding.
    if not ((c >= 0) & (c <= 1 + 1e-6)).all():
        raise CheckError("a confidence is missing or outside [0, 1]")
    if not np.isin(a, (0.0, 1.0)).all():
        raise CheckError("a hit is neither right nor wrong")
    c = np.minimum(c, 1.0)
    width = np.minimum((c * bins).astype(int), bins - 1)
    ece = _plug_in(c, a, width, bins)
    null = np.array([_plug_in(c, rng.random(len(c)) < c, width, bins) for _ in range(SIMULATIONS)])
    squared, se = _debiased(c - a, equal_mass(c, bins))
    return CalibrationError(
        ece,
        float(null.mean()),
        float((null >= ece - 1e-15).sum() + 1) / (SIMULATIONS + 1),
        squared,
        se,
        float(c.mean() - a.mean()),
        len(c),
    )


def equal_mass(confidence: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """``[n]`` bin of every image, bins by rank so that their sizes differ by one at most; ties in order of place."""
    ranks = np.empty(len(confidence), dtype=np.int64)
    ranks[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return np.asarray(ranks * bins // len(confidence))


def _plug_in(c: Floats, a: Floats | NDArray[np.bool_], of: NDArray[np.int64], bins: int) -> float:
    return float(np.abs(np.bincount(of, c - a, minlength=bins)).sum()) / len(c)


def _debiased(d: Floats, of: NDArray[np.int64]) -> tuple[float, float]:
    """Σ (n_b/n) T_b with T_b the mean of d_i d_j over i ≠ j of bin b, and its delete-one jackknife."""
    n = len(d)
    size, total, square = (np.bincount(of, w) for w in (np.ones(n), d, d**2))
    of_bin = (total**2 - square) / (size * (size - 1))
    value = float((size * of_bin).sum()) / n
    m, s, q = size[of], total[of] - d, square[of] - d**2
    without = (s**2 - q) / ((m - 1) * (m - 2))
    # Deleting one image changes its own bin's term and every weight.
    values = (value * n - m * of_bin[of] + (m - 1) * without) / (n - 1)
    return value, math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))
