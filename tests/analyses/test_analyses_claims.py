"""A planted association is found, and none is claimed where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_study import NINE, make_study

from analyses import covariance, prediction, ranking
from analyses.association import HOLDS, ONE_SCHEME, UNCLEAR, read_association
from analyses.study import Study, load_study
from kdstats.association.correlate import correlate

Make = Callable[..., Study]
PAIR = "resnet8/lenet8"


def reading(x: np.ndarray, y: np.ndarray) -> str:
    frame = pd.DataFrame({"x": x, "y": y, "scheme": [f"s{i}" for i in range(len(x))]})
    found = correlate(frame, x="x", y="y", label="scheme").iloc[0].to_dict()
    return read_association(frame, "x", "y", found).kind


def test_a_planted_association_is_found(made: Make) -> None:
    result = prediction.run(made(slope=60))
    assert result.readings[PAIR].kind == HOLDS
    assert "schemes with a lower T. stddev left the student with a lower test loss" in result.findings[0]
    assert "n = 9 schemes" in result.findings[0]


def test_an_association_against_the_theory_is_said_to_be_so(made: Make) -> None:
    text = prediction.run(made(slope=-60)).findings[0]
    assert "against the theory" in text
    assert "higher test loss" in text


def test_none_is_claimed_where_the_interval_holds_0(made: Make) -> None:
    result = prediction.run(made(slope=0, rng=3))
    assert result.readings[PAIR].kind == UNCLEAR
    assert "cannot tell whether T. stddev predicts the test loss" in result.findings[0]


def test_one_far_scheme_is_no_association() -> None:
    """Eight unrelated points and one far from them: r is high, and hangs on that one."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=9), rng.normal(size=9)
    x[0] = y[0] = 12.0
    assert np.corrcoef(x, y)[0, 1] > 0.85
    assert reading(x, y) in (ONE_SCHEME, UNCLEAR)
    line = np.arange(9.0)
    assert reading(line, line + 0.1 * rng.normal(size=9)) == HOLDS


def test_the_far_scheme_is_named(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False, slope=0, scatter=0.004, noise=0.001, rng=5)
    study = load_study(root, seed=0)
    outcomes = study.study
    far = outcomes["scheme"] == "identity"
    shift = 0.4
    outcomes.loc[far, "test_loss"] += shift
    outcomes.loc[far, "t_stddev"] = 0.03
    study.runs.loc[study.runs["scheme"] == "identity", "test_loss_last"] += shift
    found = prediction.run(study)
    assert found.readings[PAIR].without == "identity"
    assert found.readings[PAIR].kind in (ONE_SCHEME, UNCLEAR)
    if found.readings[PAIR].kind == ONE_SCHEME:
        assert "rests on one scheme: without identity" in found.findings[0]


@pytest.mark.simulation
def test_false_claims_are_rare() -> None:
    """400 panels of nine schemes without any association: at most 5 % may be claimed, by design fewer."""
    rng = np.random.default_rng(11)
    kinds = [reading(rng.normal(size=9), rng.normal(size=9)) for _ in range(400)]
    claimed = kinds.count(HOLDS)
    # 5 % of 400 is 20; the third condition makes the rule stricter, so more than 28 (97.5 % point) is a fault.
    assert claimed <= 28, claimed
    heavy = [reading(rng.standard_t(2, size=9), rng.standard_t(2, size=9)) for _ in range(400)]
    assert heavy.count(HOLDS) <= 28, heavy.count(HOLDS)


@pytest.mark.simulation
def test_a_strong_association_is_usually_found() -> None:
    rng = np.random.default_rng(12)
    hits = 0
    for _ in range(100):
        x = rng.normal(size=9)
        hits += reading(x, x + 0.3 * rng.normal(size=9)) == HOLDS
    assert hits >= 85, hits


@pytest.mark.simulation
def test_false_claims_of_whole_studies(tmp_path: Path) -> None:
    """Over 30 studies without association, the page's own sentences claim one at most three times."""
    claimed = 0
    for rng in range(30):
        root = make_study(tmp_path / str(rng), slope=0, noise=0.01, scatter=0.01, rng=rng, curves=False)
        claimed += "left the student with" in prediction.run(load_study(root, seed=0)).findings[0]
    assert claimed <= 3, claimed


@pytest.mark.simulation
def test_identity_is_not_beaten_by_chance_in_the_ranking() -> None:
    """Nine equal schemes: the pooled test says "differ" in about 5 % of studies."""
    from analyses.seeds import of_runs

    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(400):
        runs = pd.DataFrame(
            {"pair": PAIR, "scheme": np.repeat(NINE, 3), "test_loss_last": 0.5 + 0.01 * rng.normal(size=27)}
        )
        wrong += of_runs(runs, PAIR).homogeneity()[1] < 0.05
    assert 8 <= wrong <= 33, wrong  # binomial(400, 0.05), 99.8 %


def test_the_covariance_goes_with_both(made: Make) -> None:
    result = covariance.run(made())
    assert len(result.findings) == 2
    assert all("rising with it" in text and "n = 9 schemes" in text for text in result.findings)


def test_without_recorded_covariance_the_teacher_stands_in_and_two_kinds_are_not_compared(made: Make) -> None:
    result = covariance.run(made(covariance=False))
    assert set(result.table["source"]) == {"teacher", "student"}
    assert result.correlations.empty
    assert "two kinds of covariance, which are not compared" in result.findings[0]
    without = tuple(s for s in NINE if s != "cutmix_pick_student")
    alone = covariance.run(made("alone", covariance=False, schemes=without))
    assert set(alone.table["source"]) == {"teacher"}
    assert len(alone.findings) == 2
    assert all("teacher in the student's place" in text for text in alone.findings)


def test_few_schemes_give_no_correlation(made: Make) -> None:
    result = prediction.run(made(schemes=NINE[:4]))
    assert result.figure() is None
    assert "4 schemes with both numbers" in result.findings[0]
    assert result.choices[0].schemes == 4


def test_one_scheme_gives_nothing_to_rank(made: Make) -> None:
    study = made(schemes=("identity",))
    assert "nothing to rank" in ranking.run(study).findings[0]
    assert prediction.run(study).choices == ()


def test_one_seed_gives_no_spread(made: Make) -> None:
    result = ranking.run(made(seeds=(0,)))
    assert result.table["test_loss_sd"].isna().all()
    assert result.table["p_best"].isna().all()
    assert "no spread" in result.pairs[0].answer()
    assert "P(best)" not in result.pairs[0].answer()
    assert "one seed a scheme gives no spread" in result.findings[1]


def test_every_finding_states_n(made: Make) -> None:
    import analyses

    study = made()
    for name in ("ranking", "prediction", "dependence", "covariance", "training"):
        for text in analyses.get(name).run(study).findings:
            stated = any(mark in text for mark in ("n = ", "F(", "P(best)", "probability that", "student's help"))
            assert stated, text
