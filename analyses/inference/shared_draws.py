"""What two students of one teacher have in common besides the schemes: the seeds, and with them the draws of the views.

A seed fixes the order of the images and the draws of a scheme, so two students under one scheme and seed saw the same
views. Residuals of scheme and seed that go together would make the means of both agree where no scheme has an effect.
Their correlation is estimated; where it is above 0, each student is given seeds that the other has not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyses.inference.spread import Floats, residuals
from analyses.study import Study
from analyses.words import count, number

LEAST = 2  # seeds a student, so that its means have standard errors


@dataclass(frozen=True, slots=True, eq=False)
class SharedDraws:
    """Students of one teacher over the seeds and schemes that all of them have.

    Attributes:
        seeds: Common seeds in order.
        schemes: Common schemes.
        cells: Test losses, nats: ``[seeds, schemes]`` per student.
        r: The largest correlation of two students' residuals; NaN with fewer than two common seeds or without residuals.
    """

    seeds: tuple[int, ...]
    schemes: tuple[str, ...]
    cells: tuple[Floats, ...]
    r: float

    @property
    def apart(self) -> bool:
        """Whether the students must not be judged by the same seeds."""
        return self.r > 0 or len(self.seeds) == 1

    def refusal(self) -> str:
        """Why the students cannot be compared; empty where they can."""
        if not self.apart or len(self.seeds) >= LEAST * len(self.cells):
            return ""
        known = f"their residuals correlate {number(self.r, 2)}, and " if len(self.seeds) > 1 else ""
        return (
            f"{known}with {count(len(self.seeds), 'common seed')} an agreement cannot be told apart from shared draws; "
            f"{LEAST * len(self.cells)} seeds would give each student its own"
        )

    def parts(self) -> tuple[Floats, ...]:
        """The students' losses over disjoint parts of the seeds, in turn."""
        students = len(self.cells)
        return tuple(own[at::students] for at, own in enumerate(self.cells))

    def said(self) -> str:
        """The correlation and what follows from it, for a parenthesis; empty where no draws are shared."""
        if math.isnan(self.r):
            return ""
        how = ", so each student has its own share of the seeds" if self.apart else ""
        return f"residuals of one scheme and seed correlate {number(self.r, 2)}{how}"


def shared_draws(study: Study, pairs: Sequence[str]) -> SharedDraws:
    """What the runs of ``pairs``, students of one teacher, share.

    Args:
        study: The study.
        pairs: Two or more.
    """
    tables = [
        study.used[study.used["pair"] == pair].pivot_table(
            index="seed", columns="scheme", values="test_loss_last", aggfunc="first"
        )
        for pair in pairs
    ]
    schemes = [name for name in tables[0].columns if all(name in table for table in tables)]
    tables = [table[schemes].dropna(axis=0) for table in tables]
    seeds = [seed for seed in tables[0].index if all(seed in table.index for table in tables)]
    cells = tuple(table.loc[seeds].to_numpy(dtype=np.float64) for table in tables)
    r = math.nan
    if len(seeds) > 1 and len(schemes) > 1:
        known = [correlation(a, b) for at, a in enumerate(cells) for b in cells[at + 1 :]]
        r = max((value for value in known if not math.isnan(value)), default=math.nan)
    return SharedDraws(tuple(map(int, seeds)), tuple(map(str, schemes)), cells, r)


def correlation(a: Floats, b: Floats) -> float:
    """Correlation of the two-way residuals of ``a`` and ``b`` (seeds, schemes); NaN where one has none."""
    left, right = residuals(a), residuals(b)
    squares = [float((x**2).sum()) for x in (left, right)]
    # Losses that are sums of a scheme's and a seed's effect leave rounding only.
    if any(s <= 1e-24 * float((x**2).sum()) for s, x in zip(squares, (a, b), strict=True)):
        return math.nan
    return float((left * right).sum() / math.sqrt(squares[0] * squares[1]))


def means_apart(shared: SharedDraws) -> pd.DataFrame:
    """Mean and standard error of the first two students over their parts, a row per scheme (index)."""
    first, second = shared.parts()[:2]
    out = {}
    for name, own in (("first", first), ("second", second)):
        out[f"{name}_loss"] = own.mean(axis=0)
        out[f"{name}_se"] = own.std(axis=0, ddof=1) / math.sqrt(len(own))
    return pd.DataFrame(out, index=list(shared.schemes))
