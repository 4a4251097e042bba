"""Students of one teacher, ways of choosing a scheme, and plans from the study's own runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted import planted
from scipy import stats
from synthetic_study import NINE, make_study

from analyses import seeds_needed, student_invariance, which_scheme
from analyses.inference.held_out import Cells, cells_of
from analyses.inference.shared_draws import SharedDraws, correlation
from analyses.inference.student_concordance import (
    Concordance,
    concordance_of,
    interval_of_concordance,
    p_of_concordance,
)
from analyses.seeds_needed import TO_REFERENCE, TO_SECOND
from analyses.study import Study, load_study
from analyses.which_scheme import BY_DEFAULT, BY_T, BY_TRAINING
from kdstats.association.power_gap import power_of
from kdstats.errors import CheckError

Make = Callable[..., Study]
PAIR = "resnet8/lenet8"
STUDENTS = ("resnet8/lenet8", "resnet8/lenet5", "resnet8/wide")
SIX = tuple(range(6))
SCHEMES = (*(f"s{i:02}" for i in range(8)), "identity")


def noise(*key: object) -> float:
    return float(np.random.default_rng([*str(key).encode()]).standard_normal())


def levels(rng: int) -> dict[str, float]:
    draws = np.random.default_rng(rng).standard_normal(len(SCHEMES))
    return {s: 0.5 + 0.02 * z for s, z in zip(SCHEMES, draws, strict=True)}


def losing(of: Mapping[str, Mapping[str, float]], sd: float = 0.002) -> Callable[[str, str, int], float]:
    """Pair → scheme → level; an effect of the seed that all share, and noise."""
    return lambda pair, scheme, seed: of[pair][scheme] + 0.01 * noise(seed) + sd * noise(pair, scheme, seed)


# --- student invariance ---


def test_students_that_agree_are_found_and_t_stddev_predicts_both(made: Make) -> None:
    study = made(schemes=SCHEMES, pairs=STUDENTS, seeds=SIX, curves=False)
    one = levels(1)
    result = student_invariance.run(
        planted(study, loss=losing(dict.fromkeys(STUDENTS, one)), t={s: 0.1 * v for s, v in one.items()})
    )
    said = " ".join(result.findings)
    assert "resnet8: lenet8 and lenet5 rank the schemes alike" in said
    assert "Holm over 3 panels" in said
    assert "resnet8: 3 students agree on the schemes more than chance would have it (W 0.9" in said
    assert "one T. stddev predicts the test loss of all 3 students" in said
    assert set(result.predicted["pair"]) == set(STUDENTS)
    figure, facts = result.figure()  # type: ignore[misc]
    assert [p.panel for p in facts.panels] == list(dict.fromkeys(result.points["panel"]))
    assert "n = 9" in facts.caption()
    assert len(figure.axes) == 3


def test_students_that_do_not_agree_are_not_said_to(made: Make) -> None:
    study = made(schemes=SCHEMES, pairs=STUDENTS, seeds=SIX, curves=False)
    own = {pair: levels(at + 5) for at, pair in enumerate(STUDENTS)}
    t = {s: 0.1 * v for s, v in own[STUDENTS[0]].items()}
    result = student_invariance.run(planted(study, loss=losing(own), t=t))
    said = " ".join(result.findings)
    assert "rank the schemes alike, if" not in said
    assert "cannot tell whether they rank the schemes alike" in said
    assert "this study cannot tell whether they agree on the schemes (W" in said
    assert "T. stddev predicts the test loss of 1 of 3 students with an interval that excludes 0" in said


def test_opposite_students_and_too_little_to_compare(made: Make) -> None:
    study = made(schemes=SCHEMES, pairs=STUDENTS[:2], seeds=SIX, curves=False)
    one = levels(1)
    opposite = {STUDENTS[0]: one, STUDENTS[1]: {s: 1 - v for s, v in one.items()}}
    result = student_invariance.run(planted(study, loss=losing(opposite)))
    assert "rank the schemes against each other" in result.findings[0]
    assert result.concordance == ()
    alone = student_invariance.run(made("alone", curves=False))
    assert "no teacher has two students" in alone.findings[0]
    assert alone.figure() is None
    few = student_invariance.run(made("few", schemes=NINE[:4], pairs=STUDENTS, curves=False))
    assert few.figure() is None
    assert "4 schemes in common; a correlation with an interval needs 5" in few.findings[0]
    assert any("a concordance needs 5" in text for text in few.findings)


def sharing(share: float, rng: np.random.Generator) -> Callable[[str, str, int], float]:
    """No scheme has an effect; the given share of the noise is that of the views, which all students see."""
    views: dict[tuple[str, int], float] = {}

    def loss(pair: str, scheme: str, seed: int) -> float:
        common = views.setdefault((scheme, seed), float(rng.standard_normal()))
        return 0.5 + 0.01 * (math.sqrt(share) * common + math.sqrt(1 - share) * float(rng.standard_normal()))

    return loss


def test_students_that_share_views_are_judged_by_seeds_of_their_own(made: Make) -> None:
    rng = np.random.default_rng(3)
    study = made(schemes=SCHEMES, pairs=STUDENTS, seeds=SIX, curves=False)
    result = student_invariance.run(planted(study, loss=sharing(0.9, rng)))
    assert (result.shared["residual_r"] > 0.6).all()
    assert result.shared["apart"].all()
    said = " ".join(result.findings)
    assert "so each student has its own share of the seeds" in said
    assert "rank the schemes alike, if" not in said
    assert "agree on the schemes more than" not in said
    used = planted(study, loss=sharing(0.9, np.random.default_rng(3))).used
    halves = [used[(used["pair"] == STUDENTS[at]) & used["seed"].isin((at, at + 2, at + 4))] for at in (0, 1)]
    rows = result.points[result.points["panel"] == "resnet8: lenet8 and lenet5"].set_index("scheme")
    for side, own in zip(("first", "second"), halves, strict=True):
        groups = own.groupby("scheme")["test_loss_last"]
        assert rows[f"{side}_loss"].to_dict() == pytest.approx(groups.mean().to_dict())
        assert rows[f"{side}_se"].to_dict() == pytest.approx(groups.sem().to_dict())
    few = student_invariance.run(
        planted(made("few", schemes=SCHEMES, pairs=STUDENTS[:2], curves=False), loss=sharing(0.9, rng))
    )
    assert few.agreement.empty
    assert few.figure() is None
    assert (
        "with 3 common seeds an agreement cannot be told apart from shared draws; 4 seeds" in few.findings[0]
    )


def test_residuals_are_correlated_without_what_schemes_and_seeds_explain() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 4, 5))
    moved = b + 3 * rng.standard_normal((4, 1)) + 3 * rng.standard_normal(5)
    assert correlation(a, moved) == pytest.approx(correlation(a, b))
    flat = [x - x.mean(0) - x.mean(1, keepdims=True) + x.mean() for x in (a, b)]
    assert correlation(a, b) == pytest.approx(np.corrcoef(flat[0].ravel(), flat[1].ravel())[0, 1])
    assert math.isnan(correlation(a, rng.standard_normal((4, 1)) + rng.standard_normal(5)))


@pytest.mark.simulation
@pytest.mark.parametrize(("share", "most"), [(0.0, 18), (0.5, 18)])
def test_shared_views_alone_make_no_students_alike(share: float, most: int) -> None:
    """Of 200 pairs of students over 4 seeds and 9 schemes without effects, by the two-sided test of τ."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(200):
        views = math.sqrt(share) * rng.standard_normal((4, 9))
        cells = tuple(views + math.sqrt(1 - share) * rng.standard_normal((4, 9)) for _ in range(2))
        shared = SharedDraws((0, 1, 2, 3), SCHEMES, cells, correlation(*cells))
        means = [own.mean(axis=0) for own in (shared.parts() if shared.apart else cells)]
        wrong += stats.kendalltau(*means).pvalue < 0.05
    assert wrong <= most, wrong  # binomial(200, 0.05): 99.3 % below 18; all seeds together gave 0.21


def test_concordance_is_that_of_the_rank_sums() -> None:
    rng = np.random.default_rng(1)
    losses = rng.standard_normal((7, 4))
    ranks = stats.rankdata(losses, axis=0)
    n, m = losses.shape
    sums = ranks.sum(axis=1)
    w = 12 * ((sums - sums.mean()) ** 2).sum() / (m**2 * (n**3 - n))
    assert concordance_of(losses) == pytest.approx(w)
    assert stats.friedmanchisquare(*losses).statistic == pytest.approx(m * (n - 1) * w)
    low, high = interval_of_concordance(losses + rng.standard_normal((7, 1)))
    assert 0 < low < high < 1
    same = np.repeat(losses[:, :1], 3, axis=1)
    assert concordance_of(same) == pytest.approx(1)
    assert all(map(math.isnan, interval_of_concordance(same)))
    # A p below 0.05 is not enough where the interval reaches what unrelated orders give.
    wide = Concordance("t", ("a", "b", "c"), 9, 0.67, 0.28, 0.91, 0.015)
    assert "cannot tell whether they agree" in student_invariance._together(wide)
    assert "agree on the schemes more than chance" in student_invariance._together(replace(wide, low=0.34))
    assert "no spread to form an interval" in student_invariance._together(replace(wide, low=math.nan))
    # All 4!² arrangements of two further students against the first, counted.
    small = rng.standard_normal((4, 3))
    seen = concordance_of(small)
    every = [
        concordance_of(np.column_stack([small[:, 0], small[list(a), 1], small[list(b), 2]])) >= seen - 1e-12
        for a, b in itertools.product(itertools.permutations(range(4)), repeat=2)
    ]
    assert p_of_concordance(small, np.random.default_rng(0)) == pytest.approx(np.mean(every), abs=0.04)


# --- which scheme ---


def chosen(result: which_scheme.WhichScheme, way: str) -> pd.Series:
    return result.choices[result.choices["way"] == way].iloc[0]


def test_a_better_scheme_is_chosen_by_both_ways(made: Make) -> None:
    of = {s: 0.5 + 0.01 * (s == "identity") for s in NINE} | {"cutmix": 0.45}
    t = {s: 0.003 - 0.001 * (s == "cutmix") for s in NINE}
    study = planted(made(curves=False), loss=losing({PAIR: of}), t=t)
    result = which_scheme.run(study)
    row = chosen(result, BY_T)
    assert row["chosen"] == "cutmix"
    assert row["gain"] == pytest.approx(-0.06, abs=0.005)
    assert row["gain_high"] < 0
    assert row["gain_acc"] == pytest.approx(-100 / 3 * row["gain"])
    assert (row["regret"], row["regret_low"], row["regret_high"]) == (0, 0, 0)
    assert row["p_best"] > 0.99
    assert result.findings[-1] == (
        f"{PAIR}: use cutmix: it beats identity, and training every scheme is not shown to be worth more."
    )
    figure, facts = result.figure(PAIR)  # type: ignore[misc]
    assert len(figure.axes) == 3
    assert "Gain over identity of 2 ways" in facts.caption()


def test_a_t_stddev_that_misleads_costs_regret(made: Make) -> None:
    of = dict.fromkeys(NINE, 0.5) | {"cutmix": 0.45, "mixup": 0.52}
    t = {s: 0.003 - 0.001 * (s == "mixup") for s in NINE}
    result = which_scheme.run(planted(made(curves=False), loss=losing({PAIR: of}), t=t))
    row = chosen(result, BY_T)
    assert row["regret_low"] > 0
    assert row["gain_low"] > 0
    assert "leaves a higher test loss than the scheme that trained best" in " ".join(result.findings)
    assert result.findings[-1] == f"{PAIR}: use cutmix: choosing by training every scheme beats identity."


def test_equal_schemes_give_no_reason_to_leave_the_default(made: Make) -> None:
    result = which_scheme.run(
        planted(made(curves=False), loss=losing({PAIR: dict.fromkeys(NINE, 0.5)}, sd=0.01))
    )
    assert result.findings[-1].endswith("this study gives no reason to leave it.")
    assert not any("use " in text for text in result.findings)
    # The best mean seems to gain what held-out seeds do not give.
    best = chosen(result, BY_TRAINING)
    assert best["gain_low"] <= 0 <= best["gain_high"]


def test_choices_that_cannot_be_made_are_refused(made: Make) -> None:
    one = which_scheme.run(made(seeds=(0,), curves=False))
    assert one.choices.empty
    assert "two schemes with two seeds in common are needed" in one.findings[0]
    bare = which_scheme.run(made("bare", schemes=("flip", "mixup"), curves=False, documents=False))
    assert "identity was not run under all common seeds" in bare.findings[0]
    assert set(bare.choices["way"]) == {BY_T, BY_TRAINING}
    assert any("what T. stddev cost is not on record" in text for text in bare.findings)
    assert which_scheme.run(made("other", curves=False), default="flip").choices["chosen"].iloc[-1] == "flip"


def test_the_cost_is_what_the_records_say(made: Make, tmp_path: object) -> None:
    study = made(curves=False)
    for document in study.documents["resnet8"]:
        raw = json.loads(document.path.read_text())
        raw |= {"shared": {"originals_forwards": 1000}, "provenance": {"seconds": 2.5}}
        document.path.write_text(json.dumps(raw))
    result = which_scheme.run(study)
    row = chosen(result, BY_T)
    # Eight teacher-only schemes, and cutmix_pick_student beside its own identity.
    assert (row["passes"], row["seconds"]) == (10 * 12_800 + 2_000, 5.0)
    assert chosen(result, BY_TRAINING)[["runs", "seconds"]].tolist() == [27, 540.0]
    assert chosen(result, BY_DEFAULT)[["runs", "passes", "seconds"]].tolist() == [0, 0.0, 0.0]
    assert any("130,000 teacher passes" in text for text in result.findings)


def test_held_out_choices_are_made_without_the_seed_they_are_judged_by() -> None:
    cells = Cells(("a", "b"), (0, 1, 2), np.array([[0.0, 1.0], [0.0, 1.0], [9.0, 0.0]]))
    assert cells.lowest_elsewhere() == ("b", "b", "a")
    assert cells.mean_of(cells.lowest_elsewhere()) == pytest.approx((1 + 1 + 9) / 3)
    # Fixed choices of two schemes: the paired t-test.
    values = np.random.default_rng(0).standard_normal((6, 2))
    found = Cells(("a", "b"), tuple(range(6)), values).difference(("a",) * 6, ("b",) * 6)
    ends = stats.ttest_rel(values[:, 0], values[:, 1]).confidence_interval(0.95)
    assert found[1:] == pytest.approx((ends.low, ends.high))
    runs = pd.DataFrame({"pair": "p", "scheme": ["a", "a", "b"], "seed": [0, 1, 0], "loss": [1.0, 2.0, 3.0]})
    assert cells_of(runs, "p", "loss", ["a", "b"]) is None
    whole = pd.concat([runs, runs.iloc[[2]].assign(seed=1, loss=math.inf)])
    with pytest.raises(CheckError, match="infinite"):
        cells_of(whole, "p", "loss", ["a", "b"])


@pytest.mark.simulation
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_a_held_out_difference_of_equal_schemes_covers_0(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    names, hits = tuple("abcdefghi"), 0
    for _ in range(400):
        values = rng.standard_normal((seeds, 9)) + 2 * rng.standard_normal((seeds, 1))
        cells = Cells(names, tuple(range(seeds)), values)
        _, low, high = cells.difference(cells.lowest_elsewhere(), ("a",) * seeds)
        hits += low <= 0 <= high
    assert hits >= 361, hits  # 0.93 and more in the benchmark


# --- seeds needed ---


def test_a_large_gap_needs_few_seeds_and_a_small_one_many(made: Make) -> None:
    of = dict.fromkeys(NINE, 0.5) | {"cutmix": 0.45, "mixup": 0.4502}
    result = seeds_needed.run(planted(made(curves=False), loss=losing({PAIR: of})))
    rows = result.gaps.set_index("gap_of")
    wide, near = rows.loc[TO_REFERENCE], rows.loc[TO_SECOND]
    assert (wide["best"], wide["other"]) in (("cutmix", "identity"), ("mixup", "identity"))
    assert wide["needed"] <= 3
    assert wide["power"] > 0.99
    assert wide["needed_if_small"] <= 3
    assert {near["best"], near["other"]} == {"cutmix", "mixup"}
    assert near["needed"] > 10
    assert math.isinf(near["needed_if_small"])
    assert near["needed_low"] <= near["needed"] <= near["needed_high"]
    options = {"alpha": 0.05 / 8, "pooled": 9, "paired": True}
    assert power_of(wide["gap"], 3, wide["sd"], **options) == pytest.approx(wide["power"])
    assert power_of(wide["visible"], 3, wide["sd"], **options) == pytest.approx(0.8)
    assert wide["sd"] == pytest.approx(0.002 * math.sqrt(2), rel=0.5)
    said = " ".join(result.findings)
    assert "no number of seeds is sure to be enough" in said
    figure, facts = result.figure(PAIR)  # type: ignore[misc]
    assert len(facts.plans) == 2
    assert len(figure.axes) == 1


def test_schemes_and_pairs_for_the_correlation(made: Make) -> None:
    strong = seeds_needed.run(made(curves=False, slope=60)).correlations.iloc[0]
    assert strong["needed"] <= 9
    assert strong["power"] > 0.8
    assert 0.5 < strong["reliability"] <= 1
    weak = seeds_needed.run(made("weak", curves=False, slope=0, rng=3))
    assert math.isinf(weak.correlations["needed_if_small"].iloc[0])
    assert weak.correlations["needed"].iloc[0] > 9
    assert any("its interval holds 0, so no number of schemes is sure" in text for text in weak.findings)


def test_what_cannot_be_planned_is_refused(made: Make) -> None:
    one = seeds_needed.run(made(seeds=(0,), curves=False))
    assert one.gaps.empty
    assert one.figure(PAIR) is None
    assert any("the runs hold no spread over seeds" in text for text in one.findings)
    single = seeds_needed.run(made("single", schemes=("identity",), curves=False))
    assert single.refused[PAIR] == "one scheme only, so there is no gap"
    of = dict.fromkeys(NINE, 0.5) | {"identity": 0.4}
    best = seeds_needed.run(planted(made("best", curves=False), loss=losing({PAIR: of})))
    assert best.refused[f"{PAIR}, {TO_REFERENCE}"] == "identity is the best itself"


def test_equal_means_have_no_plan(tmp_path: object) -> None:
    study = load_study(make_study(tmp_path / "a", schemes=("identity", "flip"), curves=False), seed=0)  # type: ignore[operator]
    even = planted(study, loss=lambda p, s, k: 0.5 + 0.01 * (-1) ** k * (1 if s == "flip" else -1) * (k < 2))
    result = seeds_needed.run(even)
    assert result.gaps.empty
    assert "the two have the same mean" in result.refused[f"{PAIR}, {TO_SECOND}"]
