from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdstats.association.regret import regret
from kdstats.errors import UsageError


def frame(x: list[float], y: list[float], panel: str = "p") -> pd.DataFrame:
    return pd.DataFrame({"x": x, "y": y, "panel": panel, "label": list("abcdefgh")[: len(x)]})


def run(df: pd.DataFrame, seed: int = 0, **options):
    return regret(df, x="x", y="y", group="panel", label="label", rng=np.random.default_rng(seed), **options)


HIT = frame([1, 2, 3, 4, 5], [10, 20, 30, 40, 50], "hit")
MISS = frame([1, 2, 3, 4, 5], [12, 10, 30, 40, 50], "miss")
TIE = frame([1, 1, 3, 4, 5], [13, 16, 10, 40, 50], "tie")


def test_hits_costs_and_ties():
    found = run(pd.concat([HIT, MISS, TIE], ignore_index=True))
    hit, miss, tie = found.panels
    assert (hit.hit, hit.low, hit.high) == (True, 0, 0)
    assert (miss.hit, miss.low, miss.high, miss.chosen, miss.best) == (False, 2, 2, ("a",), ("b",))
    assert (tie.hit, tie.low, tie.high, tie.expected, tie.chosen) == (False, 3, 6, 4.5, ("a", "b"))
    assert (found.hits, found.k) == (1, 3)
    assert found.mean == pytest.approx((0 + 2 + 4.5) / 3)
    assert found.low <= found.mean <= found.high
    expected = stats.binomtest(1, 3).proportion_ci(0.95, method="exact")
    assert (found.hits_low, found.hits_high) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_a_tie_with_the_best_on_one_side_is_no_sure_hit():
    panel = run(frame([1, 1, 3, 4, 5], [10, 16, 12, 40, 50])).panels[0]
    assert (panel.hit, panel.low, panel.high) == (False, 0, 6)


def test_the_best_may_tie_too():
    panel = run(frame([1, 2, 3, 4, 5], [10, 10, 12, 40, 50])).panels[0]
    assert panel.hit
    assert panel.best == ("a", "b")


@pytest.mark.parametrize("seed", range(4))
def test_concordance_by_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    df = frame(list(rng.integers(0, 4, 8).astype(float)), list(rng.integers(0, 6, 8).astype(float)))
    score, pairs = 0.0, 0
    for i, j in itertools.combinations(range(8), 2):
        dx, dy = df["x"][i] - df["x"][j], df["y"][i] - df["y"][j]
        if dy:
            pairs += 1
            score += 0.5 if dx == 0 else float(dx * dy > 0)
    panel = run(df).panels[0]
    assert panel.pairs == pairs
    assert panel.concordance == pytest.approx(score / pairs, abs=1e-12)


def test_other_ends():
    accuracy = HIT.assign(y=-HIT["y"])
    assert run(accuracy, better="highest").panels[0].hit
    assert run(HIT.assign(x=-HIT["x"]), choose="highest").panels[0].hit
    assert run(accuracy).panels[0].low == 40
    with pytest.raises(UsageError, match="'highest'"):
        run(HIT, better="higher")


def test_seeds():
    df = pd.concat([HIT, MISS, TIE], ignore_index=True)
    assert run(df, 1, resamples=50) == run(df, 1, resamples=50)
    ends = {(r.low, r.high) for r in (run(df, s, resamples=50) for s in range(6))}
    assert len(ends) > 1


def test_panels_without_regret_leave_room_for_some():
    four = pd.concat([HIT.assign(panel=name) for name in "abcd"], ignore_index=True)
    found = run(four, resamples=50_000)
    assert (found.mean, found.low) == (0, 0)
    # All panels at 0 and a widest spread of 40: 40 times the upper end of Beta(1, 4).
    assert found.high == pytest.approx(40 * stats.beta.ppf(0.975, 1, 4), rel=0.02)
    assert "0 of 4 panels" in found.notes[0]
    assert "40" in found.notes[0]


def test_the_sentence_is_made_of_the_fields():
    found = run(pd.concat([HIT, MISS, TIE], ignore_index=True))
    said = found.sentence(predictor="P", unit="nats", names={"tie": "Tie"})
    assert (
        said
        == "lowest P was the best scheme in 1 of 3 panels; on miss it cost 2 nats; on Tie it cost 3–6 nats"
    )
    changed = replace(found, hits=2, panels=(found.panels[0], found.panels[2]))
    assert changed.sentence(predictor="P", unit="u") == (
        "lowest P was the best scheme in 2 of 3 panels; on tie it cost 3–6 u"
    )
    many = replace(found, panels=found.panels[1:] * 2)
    assert many.sentence(predictor="P", unit="u").endswith("; in the other 4 it cost 2–6 u")
    one = run(HIT)
    assert one.sentence(predictor="P", unit="u", what="row") == "lowest P was the best row"
    assert np.isnan(one.low)
