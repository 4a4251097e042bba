"""The restricted likelihood of a model with random intercepts and slopes of groups, searched without derivatives.

y_g = X_g b + Z_g u_g + e_g, X_g = (1, x), Z_g its first columns, u_g ~ N(0, s² R), e_g ~ N(0, s² I). Everything is
computed from cross-products of two columns per group, so one evaluation costs microseconds and the whole range
of R can be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import optimize

from kdstats.association.coefficients import Floats

GRID = np.concatenate([[0.0], np.logspace(-3, 4, 15)])


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Generalised least squares at one ratio R.

    Attributes:
        criterion: -2 log restricted likelihood, s² profiled out, constants left out; smaller is better.
        beta: Intercept and slope, (2,).
        covariance: Of beta, (2, 2).
        residual: s².
        ratio: R, (q, q).
    """

    criterion: float
    beta: Floats
    covariance: Floats
    residual: float
    ratio: Floats


class Reml:
    """Restricted likelihood of one set of groups.

    Args:
        groups: Pairs (x, y) of columns, one a group.
        slopes: Whether slopes vary between groups too.
    """

    def __init__(self, groups: list[tuple[Floats, Floats]], *, slopes: bool) -> None:
        designs = [np.column_stack([np.ones_like(x), x]) for x, _ in groups]
        self.q = 2 if slopes else 1
        self.n = sum(x.size for x, _ in groups)
        self._xx = np.stack([d.T @ d for d in designs])
        self._xy = np.stack([d.T @ y for d, (_, y) in zip(designs, groups, strict=True)])
        self._yy = float(sum(y @ y for _, y in groups))

    def at(self, ratio: Floats, residual: float | None = None) -> Fitted:
        """The fit at R; with ``residual`` given, the criterion at that s² instead of the best one."""
        logs, xvx, beta, squares = self._solve(ratio[None])
        s2 = float(squares[0]) / (self.n - 2) if residual is None else residual
        criterion = float((self.n - 2) * np.log(s2) + logs[0] + squares[0] / s2)
        return Fitted(criterion, beta[0], s2 * np.linalg.inv(xvx[0]), s2, ratio)

    def _solve(self, ratios: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Log determinants, X'V^-1X, beta and r'V^-1r (s² = 1) at many R, (B, q, q) at once."""
        q = self.q
        zz, zx, zy = self._xx[:, :q, :q], self._xx[:, :q, :], self._xy[:, :q, None]
        xz, yz = zx.transpose(0, 2, 1), zy.transpose(0, 2, 1)
        # V^-1 = I - Z R (I + Z'Z R)^-1 Z', which holds for a singular R too.
        inner = np.eye(q) + zz @ ratios[:, None]
        middle = ratios[:, None] @ np.linalg.inv(inner)
        xvx = (self._xx - xz @ middle @ zx).sum(axis=1)
        xvy = (self._xy[:, :, None] - xz @ middle @ zy).sum(axis=1)
        yvy = self._yy - (yz @ middle @ zy).sum(axis=(1, 2, 3))
        beta = np.linalg.solve(xvx, xvy)
        squares = yvy - (beta * xvy).sum(axis=(1, 2))
        logs = np.linalg.slogdet(inner)[1].sum(axis=1) + np.linalg.slogdet(xvx)[1]
        return logs, xvx, beta[:, :, 0], squares

    def search(self, precision: float = 1e-7) -> Fitted:
        """The best fit: a grid over variances, then Nelder and Mead's search from its best point.

        Args:
            precision: Of the criterion, at which the search stops.
        """
        grid = np.stack([np.diag(v) for v in product(GRID, repeat=self.q)])
        logs, _, _, squares = self._solve(grid)
        best = self.at(grid[int(np.argmin((self.n - 2) * np.log(squares) + logs))])
        lower = np.tril_indices(self.q)
        start = np.sqrt(best.ratio)[lower]

        def value(theta: Floats) -> float:
            return self.at(self._ratio(theta)).criterion

        steps = np.vstack(
            [start, *(start + 0.3 * (start[i] + 0.1) * e for i, e in enumerate(np.eye(start.size)))]
        )
        found = optimize.minimize(
            value,
            start,
            method="Nelder-Mead",
            options={"initial_simplex": steps, "xatol": precision**0.5, "fatol": precision, "maxiter": 500},
        )
        fine = self.at(self._ratio(found.x))
        return min([best, fine], key=lambda fit: fit.criterion)

    def _ratio(self, theta: Floats) -> Floats:
        root = np.zeros((self.q, self.q))
        root[np.tril_indices(self.q)] = theta
        out: Floats = root @ root.T
        return out
