"""The bootstrap statistics of another package, all 128 Rademacher vectors of seven clusters.

Made with wildboottest 0.3.2 (numba), which is too heavy to be installed for one test:

    from wildboottest.wildboottest import WildboottestCL
    df = table(pairs=7, seed=0)  # of test_association_wild.py
    x = np.column_stack([pd.get_dummies(df["pair"]).to_numpy(float), df["x"]])
    codes = df["pair"].astype("category").cat.codes.to_numpy()
    wb = WildboottestCL(X=x, Y=df["y"].to_numpy(), cluster=pd.Series(codes), R=np.eye(8)[7], B=9999, seed=1)
    wb.get_scores(bootstrap_type="11", impose_null=True); wb.get_weights(weights_type="rademacher")
    wb.get_numer(); wb.get_denom(); wb.get_tboot(); wb.get_vcov(); wb.get_tstat()
    wb.t_stat, np.sort(np.abs(wb.t_boot))[[0, 32, 64, 96, 120]]

Its p counts |t*| > |t| strictly and gives 4/128; the two vectors of equal weights reproduce |t| itself and count here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdstats.association.wild import WildTest, wild_bootstrap
from kdstats.association.within import within

T = 2.110649839420038
SAMPLES = [1.009976388523525, 1.3122544298129075, 1.4871808211236457, 1.7022238976608073, 2.0725746105363645]


def test_wildboottest_gives_the_same_statistics():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 6)) * np.exp(0.5 * rng.standard_normal((7, 1)))
    y = rng.standard_normal((7, 1)) + (0.5 + 0.3 * rng.standard_normal((7, 1))) * x
    y = y + rng.standard_normal((7, 6))
    df = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "pair": np.repeat([f"p{i}" for i in range(7)], 6)})
    test = WildTest(within(df, x="x", y="y", group="pair"), "rademacher", 128, np.random.default_rng(0))
    assert test.t(0.0) == pytest.approx(T, abs=1e-10)
    samples = np.sort(np.abs(test.samples(0.0)))
    np.testing.assert_allclose(samples[[0, 32, 64, 96, 120]], SAMPLES, atol=1e-10)
    found = wild_bootstrap(df, x="x", y="y", group="pair", weights="rademacher", rng=np.random.default_rng(0))
    assert found.p_value == (4 + 2) / 128
