from __future__ import annotations

import math

import numpy as np
import pytest

from kdstats.errors import UsageError
from kdstats.estimators.efficient import from_batches
from kdstats.estimators.layout import PoolLayout
from kdstats.estimators.originals import OriginalsMoments
from kdstats.estimators.sequential import FIRST_LOOK, check_tolerance, next_look


def test_plans():
    assert next_look(40, 0.02, 0.02, 1000) == 40
    assert next_look(40, 0.5, 0.02, 40) == 40
    assert next_look(40, 0.03, 0.02, 1000) == math.ceil(40 * 2.25 * 1.1)
    assert next_look(40, 0.04, 0.02, 100) == 100
    assert next_look(40, 0.2, 0.02, 1000) == 160
    assert next_look(1, 0.0200001, 0.02, 1000) == 2
    assert next_look(40, 0.0200001, 0.02, 1000) == 45
    assert next_look(2, 0.0200001, 0.02, 1000) == 3
    for bad in (0.0, 1.0, 2, -0.1, 1e-5, math.nan):
        with pytest.raises(UsageError, match="tolerance"):
            check_tolerance(bad)
    assert check_tolerance(0.02) == 0.02


@pytest.mark.simulation
@pytest.mark.parametrize(("tol", "classes"), [(0.07, 3), (0.025, 10), (0.015, 60)])
def test_interval_at_stopping_keeps_its_coverage(tol, classes):
    rng = np.random.default_rng(classes)
    concentration = np.linspace(1, 2, classes) * 4
    q = concentration / concentration.sum()
    truth = np.sqrt(q * (1 - q) / (concentration.sum() + 1)).mean()
    layout = PoolLayout(10**9, 64, 1000, 1.0, 0.0)
    moments = OriginalsMoments(q * (1 - q), 0.5, False)
    covered, looks, stopped = 0, [], []
    runs = 700
    for _ in range(runs):
        units, have, n = FIRST_LOOK, np.empty((0, classes)), 0
        while True:
            have = np.concatenate([have, rng.dirichlet(concentration, size=units - len(have))])
            found = from_batches(have, have, np.zeros(units, dtype=int), layout, moments)
            n += 1
            following = next_look(units, found.half_width(0.95), tol, 5000)
            if following == units:
                break
            units = following
        assert found.half_width(0.95) <= tol
        looks.append(n)
        stopped.append(units)
        covered += abs(found.centre - math.log(truth)) <= found.half_width(0.95)
    assert 0.93 <= covered / runs <= 0.97
    assert np.mean(looks) <= 3
    assert np.mean(stopped) > FIRST_LOOK
