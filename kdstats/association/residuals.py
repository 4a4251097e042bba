"""What least squares on covariates leaves of x and y, within panels: the material of a partial correlation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kdstats.association.coefficients import Floats, centred
from kdstats.association.panels import Panel
from kdstats.errors import CheckError

_ALIKE = 1e-9  # share of a column's length that is left when the others explain all of it but for rounding


class WithinPanels:
    """x, y (n,) and covariates z (n, c) of some panels, centred and scaled; for spearman ranked within panels first."""

    def __init__(self, panels: Sequence[Panel], covariates: dict[str, Floats], method: str) -> None:
        self.member = np.repeat(np.arange(len(panels)), [p.n for p in panels])
        self.x = self._prepared([p.x for p in panels], method)
        self.y = self._prepared([p.y for p in panels], method)
        self.z = np.column_stack(
            [self._prepared([column[p.rows] for p in panels], method) for column in covariates.values()]
        )

    @staticmethod
    def _prepared(parts: list[Floats], method: str) -> Floats:
        if method == "spearman":
            from scipy import stats

            parts = [stats.rankdata(part) for part in parts]
        return centred(np.concatenate(parts))

    def within(self, column: Floats, kept: NDArray[np.bool_]) -> Floats:
        """The kept entries of a column (n,) or (n, c) less the means of their panels."""
        member = self.member[kept]
        out = np.array(column[kept])
        for k in np.unique(member):
            out[member == k] -= out[member == k].mean(axis=0)
        return out


def basis_of(z: Floats, names: Sequence[str]) -> Floats:
    """Orthonormal columns (n, c) that span the covariates; ``CheckError`` where one is a mixture of the others."""
    scaled = z / np.linalg.norm(z, axis=0)
    for i, name in enumerate(names):
        others = np.delete(scaled, i, axis=1)
        left = scaled[:, i] - others @ np.linalg.lstsq(others, scaled[:, i], rcond=None)[0]
        if float(np.linalg.norm(left)) < _ALIKE:
            rest = ", ".join(repr(other) for other in names if other != name)
            raise CheckError(f"covariate {name!r} is a linear combination of {rest}: leave one out")
    out: Floats = np.linalg.qr(scaled)[0]
    return out


def residual(column: Floats, basis: Floats) -> Floats:
    """What is left of a column (n,) beside orthonormal columns (n, c)."""
    # Twice, because one projection leaves the rounding of its own sums.
    out = column - basis @ (basis.T @ column)
    cleaned: Floats = out - basis @ (basis.T @ out)
    return cleaned


def left_by(column: Floats, basis: Floats, name: str, covariates: Sequence[str]) -> Floats:
    """:func:`residual`; ``CheckError`` where hardly anything is left, ``name`` and ``covariates`` being named in it."""
    out = residual(column, basis)
    if float(np.linalg.norm(out)) < _ALIKE * float(np.linalg.norm(column)):
        raise CheckError(f"the covariates ({', '.join(covariates)}) explain {name} in full: nothing is left")
    return out


def freedman_lane(u: Floats, v: Floats, basis: Floats) -> Callable[[NDArray[np.intp]], Floats]:
    """The partial correlation of each arrangement of the residuals v; adding back the fit would cancel."""
    length_u = float(np.linalg.norm(u))

    def statistic(rows: NDArray[np.intp]) -> Floats:
        moved = v[rows]
        left = (moved * moved).sum(axis=1) - ((moved @ basis) ** 2).sum(axis=1)
        safe = np.sqrt(np.maximum(left, 1e-300))
        out: Floats = np.where(left > 1e-20, moved @ u / (safe * length_u), 0.0)
        return out

    return statistic
