"""Straight lines through points whose x and y have errors of known variance: where S is least, and how far t lets go.

Columns are standardised; a line is its angle, so that a vertical one is no exception. See
:mod:`~kdstats.association.deming` for what S and t are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize

from kdstats.association.coefficients import Floats
from kdstats.errors import CheckError

_ANGLES = np.linspace(-math.pi / 2, math.pi / 2, 181)


class NoisyLine:
    """Lines through points with variances vx, vy of their errors, on standardised columns.

    A line of direction t is cos(t) y - sin(t) x = const, so that a vertical one is no exception; its slope is
    tan(t). Off the line, e_i = cos y_i - sin x_i has variance V_i = cos² vy_i + sin² vx_i + tau2, and
    x̂_i = x_i + sin vx_i e_i / V_i is uncorrelated with e_i at the true line.
    """

    def __init__(self, x: Floats, y: Floats, vx: Floats, vy: Floats) -> None:
        self.x, self.y, self.vx, self.vy = x, y, vx, vy

    def off(self, angle: Floats) -> tuple[Floats, Floats]:
        """e and V without tau2 for (m,) angles, (m, n) each."""
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return c * self.y - s * self.x, c * c * self.vy + s * s * self.vx

    def s(self, angle: Floats) -> Floats:
        """S = min over the constant of sum (e_i - const)²/V_i at each of (m,) angles; inf for infinite weights."""
        e, v = self.off(angle)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = _squares(e, 1 / v)
        return np.where(np.isfinite(out), out, np.inf)

    def slope_of_s(self, angle: float) -> float:
        """dS/dt; the constant drops out because S is minimal in it."""
        c, s = math.cos(angle), math.sin(angle)
        w = 1 / (c * c * self.vy + s * s * self.vx)
        e = c * self.y - s * self.x
        e = e - (w * e).sum() / w.sum()
        turned = -s * self.y - c * self.x
        return float((2 * w * e * turned - (w * e) ** 2 * 2 * c * s * (self.vx - self.vy)).sum())

    def best(self) -> tuple[float, float]:
        """Angle of the smallest S, and that S."""
        grid = self.s(_ANGLES)
        step = float(_ANGLES[1] - _ANGLES[0])
        middle = float(_ANGLES[int(np.argmin(grid))])
        for _ in range(6):
            low, high = middle - step, middle + step
            if self.slope_of_s(low) < 0 < self.slope_of_s(high):
                middle = float(optimize.brentq(self.slope_of_s, low, high, xtol=1e-15, rtol=1e-14))
                break
            zoom = np.linspace(low, high, 101)
            middle, step = float(zoom[int(np.argmin(self.s(zoom)))]), step / 50
        return middle, float(self.s(np.array([middle]))[0])

    def t(self, angle: Floats, *, estimated: bool) -> Floats:
        """Student's t of the weighted regression of e on x̂ at each of (m,) angles, n - 2 degrees of freedom.

        With ``estimated``, tau2 makes the weighted squares of e equal to n - 1 at each angle. NaN where x̂ does
        not vary: nothing there speaks against the line.
        """
        e, v = self.off(angle)
        n = e.shape[1]
        if estimated:
            v = v + added_variance(e, v, n - 1)[:, None]
        w = 1 / v
        adjusted = self.x + np.sin(angle)[:, None] * self.vx * w * e
        e = e - (w * e).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        adjusted -= (w * adjusted).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        see, saa, sae = (w * e * e).sum(axis=1), (w * adjusted**2).sum(axis=1), (w * e * adjusted).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.where(saa > 1e-20, sae / np.sqrt(see * saa), np.nan)
            out: Floats = r * np.sqrt((n - 2) / np.maximum(1 - r * r, 1e-300))
        return out


def _squares(e: Floats, w: Floats) -> Floats:
    k = (w * e).sum(axis=-1, keepdims=True) / w.sum(axis=-1, keepdims=True)
    out: Floats = (w * (e - k) ** 2).sum(axis=-1)
    return out


def added_variance(e: Floats, v: Floats, target: float) -> Floats:
    """The variance (m,) to add to v (m, n) at which the weighted squares of e are ``target``; 0 where below."""
    spread = ((e - e.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    tau2 = np.where(v.min(axis=1) > 0, 0.0, 1e-12 * spread / target + 1e-300)
    # The squares are convex and falling in tau2, so Newton's steps from the left never overshoot.
    for _ in range(100):
        w = 1 / (v + tau2[:, None])
        k = (w * e).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        squares = (w * (e - k) ** 2).sum(axis=1)
        step = np.maximum((squares - target) / (w * w * (e - k) ** 2).sum(axis=1), 0.0)
        tau2 = tau2 + step
        if (step <= 1e-14 * (tau2 + spread / target)).all():
            break
    return tau2


def _crossing(f: Callable[[float], float], low: float, high: float, *, xtol: float, rtol: float) -> float:
    """Where ``f`` changes its sign; ``CheckError`` where rounding hides it."""
    at_low, at_high = f(low), f(high)
    if not at_low * at_high <= 0:
        raise CheckError(
            "the points lie so close to a line, or so far apart, that rounding hides the line's interval"
        )
    return float(optimize.brentq(f, low, high, xtol=xtol, rtol=rtol))


def scatter_of(known: NoisyLine) -> float:
    """The variance to add to vy at which the smallest S is n - 1; 0 where it is below already."""
    target = known.x.size - 1

    def excess(tau2: float) -> float:
        return NoisyLine(known.x, known.y, known.vx, known.vy + tau2).best()[1] - target

    top = float((known.y**2).sum()) / target  # a horizontal line reaches the target there
    bottom = 1e-12 * top if ((known.vx == 0) & (known.vy == 0)).any() else 0.0
    if excess(bottom) <= 0:
        return bottom
    if excess(top) >= 0:
        return top
    return _crossing(excess, bottom, top, xtol=1e-14, rtol=1e-12)


def slopes_within(line: NoisyLine, angle: float, quantile: float, *, estimated: bool) -> tuple[float, float]:
    """The slopes on both sides of ``angle`` at which |t| reaches ``quantile``; infinite where it never does."""

    def gap(at: float) -> float:
        return abs(float(line.t(np.array([at]), estimated=estimated)[0])) - quantile

    ends = []
    for side in (-1, 1):
        # Up to the vertical: slopes beyond it are those of the other side.
        path = angle + (side * (math.pi / 2 - 1e-9) - angle) * np.linspace(0, 1, 101) ** 2
        above = np.flatnonzero(np.abs(line.t(path, estimated=estimated)) > quantile)
        if above.size == 0:
            ends.append(side * math.inf)
            continue
        inner, outer = float(path[max(above[0] - 1, 0)]), float(path[above[0]])
        ends.append(math.tan(_crossing(gap, inner, outer, xtol=1e-15, rtol=1e-13)))
    return ends[0], ends[1]
