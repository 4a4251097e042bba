"""Labels (schemes) that recur in several panels: exchanged and left out as wholes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from kdstats.association.coefficients import Floats, blocks
from kdstats.association.panels import Panel
from kdstats.association.permutation import EXACT_UP_TO
from kdstats.errors import CheckError
from kdstats.estimators.intervals import t_quantile

Positions = NDArray[np.intp]
FEWEST_LABELS = 3  # a jackknife with labels - 2 degrees of freedom


def recur(panels: Sequence[Panel], label: str | None) -> bool:
    """Whether one label stands in more than one panel."""
    names = [set(panel.labels) for panel in panels]
    return label is not None and sum(map(len, names)) > len(set().union(*names))


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """Which values may be exchanged if the predictor says nothing.

    Attributes:
        rows: Positions of each panel's points in the concatenated columns.
        together: Whether all panels are shuffled alike; the k-th positions of all then have one label.
    """

    rows: tuple[Positions, ...]
    together: bool

    @staticmethod
    def of(panels: Sequence[Panel], *, by_label: bool) -> Exchange:
        """By label where ``by_label`` and every panel has each label once; by point within panels otherwise."""
        starts = np.cumsum([0, *(panel.n for panel in panels)])
        order = sorted(panels[0].labels)
        complete = by_label and all(sorted(p.labels) == order and len(set(order)) == p.n for p in panels)
        rows = []
        for start, panel in zip(starts, panels, strict=False):
            inside = sorted(range(panel.n), key=panel.labels.__getitem__) if complete else range(panel.n)
            rows.append(np.array(inside, dtype=np.intp) + int(start))
        return Exchange(tuple(rows), complete or len(panels) == 1)

    @property
    def exact(self) -> bool:
        """Whether there are few enough arrangements to count them all."""
        return self.together and self.rows[0].size <= EXACT_UP_TO

    def draws(self, permutations: int, rng: np.random.Generator) -> Iterator[Positions]:
        """Blocks of (B, n) positions; each row says which value stands at each place."""
        n = sum(part.size for part in self.rows)
        width = self.rows[0].size
        every = np.array(list(itertools.permutations(range(width)))) if self.exact else None
        done = 0
        for size in blocks(permutations if every is None else len(every), n):
            out = np.empty((size, n), dtype=np.intp)
            common = None
            if every is not None:
                common = every[done : done + size]
            elif self.together:
                common = _shuffles(width, size, rng)
            for part in self.rows:
                out[:, part] = part[common if common is not None else _shuffles(part.size, size, rng)]
            done += size
            yield out

    def p_value(
        self,
        statistic: Callable[[Positions], Floats],
        observed: float,
        permutations: int,
        rng: np.random.Generator,
    ) -> float:
        """Share of arrangements whose |statistic| is at least |observed|; (b+1)/(m+1) where they are drawn."""
        extreme = total = 0
        for rows in self.draws(permutations, rng):
            extreme += int(np.count_nonzero(np.abs(statistic(rows)) >= abs(observed) - 1e-12))
            total += len(rows)
        return extreme / total if self.exact else (extreme + 1) / (total + 1)


def names_as_units(panels: Sequence[Panel], label: str | None) -> list[str]:
    """Label of each point, panel after panel, where labels recur and suffice as independent units; empty otherwise."""
    names = [name for panel in panels for name in panel.labels]
    return names if recur(panels, label) and len(set(names)) >= FEWEST_LABELS else []


def notes_on_units(panels: Sequence[Panel], label: str | None, exchange: Exchange) -> list[str]:
    """What interval and p-values of a correlation across ``panels`` could not take into account."""
    notes = []
    if label is None and len(panels) > 1:
        notes.append(
            "without label= interval and p_value take points as independent; where panels share schemes the interval "
            "is too short and the p too small"
        )
    if recur(panels, label) and not exchange.together:
        notes.append("panels have unlike labels: p_permutation exchanges points within panels")
    return notes


def _shuffles(n: int, size: int, rng: np.random.Generator) -> Positions:
    rows: Positions = rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
    return rows


def jackknife_of_labels(names: Sequence[str], statistic: Callable[[NDArray[np.bool_]], Floats]) -> Floats:
    """Standard errors of a statistic when one label is left out of all panels at once.

    Args:
        names: Label of each point.
        statistic: Values (m,) of the points that a mask keeps.

    Returns:
        (m,) standard errors.

    Raises:
        CheckError: Without one of the labels the statistic is undefined.
    """
    column = np.array(names)
    values = []
    for name in dict.fromkeys(names):
        with np.errstate(divide="ignore", invalid="ignore"):
            found = statistic(column != name)
        if not np.isfinite(found).all():
            raise CheckError(f"without {name!r} the correlation is undefined or ±1: no interval by labels")
        values.append(found)
    left_out = np.array(values)
    j = len(left_out)
    out: Floats = np.sqrt((j - 1) / j * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    return out


def correlation(u: Floats, v: Floats) -> float:
    """Correlation of two (n,) columns as they are, without taking out means; NaN where one is zero."""
    scale = math.sqrt(float((u * u).sum())) * math.sqrt(float((v * v).sum()))
    return min(max(float((u * v).sum()) / scale, -1.0), 1.0) if scale > 0 else math.nan


def p_of(r: float, dof: int) -> float:
    """Two-sided p of a correlation with ``dof`` residual degrees of freedom (Student's t); 0 at ±1."""
    left = (1 - r) * (1 + r)
    return 0.0 if left <= 0 else float(2 * special.stdtr(dof, -abs(r) * math.sqrt(dof / left)))


def reach_of_z(point_se: float, confidence: float, *, units: int = 0, label_se: float = 0.0) -> float:
    """Half the length of an interval of Fisher's z: with labels as units where there are any, never below the other.

    Args:
        point_se: Standard error with points as units; normal.
        confidence: Nominal coverage, a fraction.
        units: Labels as units; 0 for none.
        label_se: Jackknife standard error over labels; Student's t with ``units - 2`` degrees of freedom.
    """
    reach = float(special.ndtri(0.5 + confidence / 2)) * point_se
    return max(reach, t_quantile(confidence, units - 2) * label_se) if units else reach


def p_with_labels(z: float, label_se: float, units: int, point_se: float) -> float:
    """Two-sided p of Fisher's ``z`` that goes with :func:`reach_of_z`: at confidence 1 - p the nearer end is 0.

    Args:
        z: Fisher's z of a correlation.
        label_se: Jackknife standard error over labels; Student's t with ``units - 2`` degrees of freedom.
        units: Labels.
        point_se: Standard error with points as units; normal.
    """
    by_label = float(2 * special.stdtr(units - 2, -abs(z) / label_se)) if label_se > 0 else 0.0
    return max(by_label, float(2 * special.ndtr(-abs(z) / point_se)))
