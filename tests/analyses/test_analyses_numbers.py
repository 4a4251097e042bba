"""Numbers against independent ones, and golden sentences that one changed number breaks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_study import NINE, make_study

import analyses
from analyses import dependence, fairness, left_out, prediction, ranking, training, words
from analyses.inference.seeds import of_runs
from analyses.study import Study, load_study
from kdstats.association.regret import regret
from kdstats.errors import MissingError, UsageError

Make = Callable[..., Study]
PAIR = "resnet8/lenet8"

# By hand: every scheme has sd 0.01 over 3 seeds. The seeds' means 0.3533, 0.36, 0.3567 take 3 · 0.0000222 from
# the squares: the residual variance is (0.0006 − 0.0000667)/4 = 0.000133, and F = 0.0043/0.000133. As a and b move
# together, the residuals are all of identity: squares ΣR 0.000267, its own 0.000178, so its own variance is
# 3 · (0.000178 − 0.000267/6) = 0.0004, and that of b 0. Two differences together: t(4; 1 − 0.05/4) = 3.495, half-width
# 3.495 · √((0.0004 + 0.000133)/3) = 0.047; the three differences −0.09, −0.05, −0.07 alone give 4.303 · 0.02/√3 = 0.050,
# which is wider. All residuals come from identity, so that Cochran's p is 0. A mean: the seeds' mean square is
# 0.0000333, variance (0.0000333 + 2 · 0.000133)/3 = 0.0001 on 4.9 degrees of freedom (Satterthwaite), half-width
# 2.585 · 0.01/√3 = 0.0149. P(best): t(4) at 0.01/0.00943 = 1.06 gives 0.826, less the little that identity takes.
GOLDEN = [
    "resnet8/lenet8: b has the lowest mean test loss of 3 schemes, 0.330 [0.315, 0.345] nats (n = 3 seeds).",
    "resnet8/lenet8: b differs from identity by −0.070 [−0.120, −0.020] nats (n = 3 seeds a scheme; judged by "
    "their own spread too).",
    "resnet8/lenet8: P(b is truly the best of these) = 0.82 under a flat prior (1/3 = 0.33 would say nothing; "
    "n = 3 seeds a scheme).",
    "resnet8/lenet8: the schemes differ by more than seeds explain (F(2, 4) = 32.25, p = 0.003), but that rests on "
    "one: without identity the others cannot be told apart (p = 0.35).",
    "resnet8/lenet8: one scheme's seeds scatter more than the others' (identity; Cochran p < 0.001); differences allow "
    "for it, but the intervals of single means, the F test and P(best) take one spread for all: too wide for steady "
    "schemes, too narrow for unsteady ones.",
]


def small(change: float = 0.0) -> pd.DataFrame:
    """Three schemes by three seeds with round numbers; ``change`` moves one of them."""
    losses = {"identity": [0.41, 0.39, 0.40], "a": [0.33, 0.35, 0.34], "b": [0.32, 0.34, 0.33 + change]}
    rows = [
        {"pair": PAIR, "scheme": s, "seed": k, "test_loss_last": v, "acc_last": 1 - v}
        for s, values in losses.items()
        for k, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def findings(made: Make, change: float = 0.0) -> list[str]:
    study = made(f"c{change}", schemes=("identity", "a", "b"), curves=False)
    return list(ranking.run(replace(study, runs=small(change).assign(excluded=False))).findings)


def test_the_ranking_in_words(made: Make) -> None:
    assert findings(made) == GOLDEN


def test_one_changed_number_changes_the_words(made: Make) -> None:
    """The mutation beside the golden: 0.01 nats in one of nine runs."""
    changed = findings(made, 0.01)
    assert changed[:3] != GOLDEN[:3]
    assert "0.333" in changed[0]
    assert "a lies within one standard error" not in " ".join(findings(made))
    assert findings(made, 0.04)[0] != GOLDEN[0]
    assert "a has the lowest" in findings(made, 0.04)[0]


def test_paired_numbers_against_libraries() -> None:
    """Two-way analysis of variance by statsmodels, paired t test by scipy."""
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    frame = small()
    found = of_runs(frame, PAIR)
    assert found.paired
    table = anova_lm(smf.ols("test_loss_last ~ C(scheme) + C(seed)", frame).fit())
    expected = table.loc["C(scheme)", ["F", "PR(>F)"]].tolist()
    assert found.homogeneity() == pytest.approx(expected)
    assert found.residual == pytest.approx(table.loc["Residual", "mean_sq"])
    groups = [g["test_loss_last"].to_numpy() for _, g in frame.groupby("scheme", sort=False)]
    two = of_runs(frame[frame["scheme"] != "a"], PAIR)
    ends = stats.ttest_rel(groups[2], groups[0]).confidence_interval(0.95)
    gap, low, high = two.difference(two.schemes.index("b"), two.schemes.index("identity"))
    assert (gap, low, high) == pytest.approx((groups[2].mean() - groups[0].mean(), ends.low, ends.high))


def test_unlike_seeds_are_not_paired() -> None:
    """With a run missing: one-way analysis of variance, and each scheme the larger of pooled and own variance."""
    frame = small().iloc[1:]
    found = of_runs(frame, PAIR)
    assert not found.paired
    groups = [g["test_loss_last"].to_numpy() for _, g in frame.groupby("scheme", sort=False)]
    assert found.homogeneity() == pytest.approx(tuple(stats.f_oneway(*groups)))
    two = of_runs(frame[frame["scheme"] != "a"], PAIR)
    # Pooled: (1 · 0.00005 + 2 · 0.0001)/3, which is more than identity's own and less than that of b.
    half = stats.t.ppf(0.975, 3) * math.sqrt(0.00025 / 3 / 2 + 0.0001 / 3)
    assert (
        half > stats.ttest_ind(groups[2], groups[0], equal_var=False).confidence_interval(0.95).high + 0.065
    )
    gap, low, high = two.difference(two.schemes.index("b"), two.schemes.index("identity"))
    assert (gap, low, high) == pytest.approx((-0.065, -0.065 - half, -0.065 + half))


def test_p_best_of_two_is_the_t_distribution() -> None:
    frame = small(0.03)
    found = of_runs(frame[frame["scheme"] != "a"], PAIR)
    a, b = found.mean
    exact = stats.t.cdf((a - b) / np.sqrt(found.residual * 2 / 3), found.residual_df)
    assert found.p_best(np.random.default_rng(0))[1] == pytest.approx(exact, abs=0.005)


@pytest.mark.simulation
def test_p_best_is_calibrated() -> None:
    """Of the studies in which the best has P(best) near 0.6, it is the best in about that share."""
    rng = np.random.default_rng(7)
    said, right = [], []
    for _ in range(200):
        true = 0.01 * rng.normal(size=4)
        values = true[:, None] + 0.01 * rng.normal(size=(4, 3))
        frame = pd.DataFrame(
            {
                "pair": PAIR,
                "scheme": np.repeat(list("abcd"), 3),
                "seed": np.tile(range(3), 4),
                "test_loss_last": values.ravel(),
            }
        )
        found = of_runs(frame, PAIR)
        said.append(found.p_best(rng)[found.best])
        right.append(true.argmin() == found.best)
    # The flat prior knows nothing of how near the true means lie, so P(best) may be a little high.
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.08)


def test_the_regret_agrees_with_the_library_and_holds_the_observed_value(made: Make) -> None:
    study = made(slope=0, rng=4)
    choice = prediction.run(study).choices[0]
    points = study.points(PAIR)
    other = regret(points, x="t_stddev", y="test_loss", label="scheme", rng=np.random.default_rng(0))
    assert choice.regret == pytest.approx(other.panels[0].expected)
    assert (choice.chosen,) == other.panels[0].chosen
    assert choice.low <= choice.regret <= choice.high
    assert choice.low >= 0


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_every_answer_is_the_same_twice(made: Make, name: str) -> None:
    study = made()
    first, second = analyses.get(name).run(study), analyses.get(name).run(study)
    assert first.findings == second.findings
    for field in dataclasses.fields(first):
        if isinstance(value := getattr(first, field.name), pd.DataFrame):
            pd.testing.assert_frame_equal(value, getattr(second, field.name))


def test_what_lies_in_the_room_is_registered() -> None:
    """A question is a file (or folder) of its name; beside questions stand the rooms, words, and the published study."""
    root = Path(analyses.__file__).parent
    names = {path.stem for path in root.iterdir() if not path.name.startswith("__")}
    rooms = {"words", "study", "inference", "figures", "published_wang2022"}
    assert names == {*analyses.ANALYSES, *analyses.ON_REQUEST, *rooms}


def test_excluded_runs_are_in_no_number(made: Make) -> None:
    study = made(excluded=(("cutmix", 1),))
    row = ranking.run(study).table.set_index("scheme").loc["cutmix"]
    assert row["seeds"] == 2
    own = study.runs[(study.runs["scheme"] == "cutmix") & ~study.runs["excluded"]]["test_loss_last"]
    assert row["test_loss"] == pytest.approx(own.mean())
    listed = left_out.run(study).table
    assert list(listed["kind"]) == ["excluded"]
    assert "diverged" in listed["why"].iloc[0]


def test_the_split_multiplies_and_says_which(made: Make, tmp_path: Path) -> None:
    study = made()
    table = dependence.run(study).table
    row = table[table["scheme"] == "cutmix"].iloc[0]
    assert row["total"] == pytest.approx(row["t_stddev"] ** 2)
    assert (1 + row["softer"]) * (1 + row["dependence"]) == pytest.approx(1 + row["change"])
    base = table[table["scheme"] == "identity"].iloc[0]
    assert row["change"] == pytest.approx(row["total"] / base["total"] - 1)
    assert "mostly less dependence" in dependence.run(study).findings[0]
    # The same T. stddev by softer views alone reads otherwise.
    root = make_study(tmp_path / "soft", curves=False)
    path = root / "t_stddev" / "resnet8" / "teacher-only.json"
    document = json.loads(path.read_text())
    for result in document["results"]:
        if result["scheme"] == "cutmix_pick_teacher":
            parts = next(r["components"] for r in document["results"] if r["scheme"] == "identity")
            total = result["t_stddev"] ** 2
            result["components"] = parts | {
                "var_augmented": parts["var_augmented"] + total - sum(parts.values())
            }
    path.write_text(json.dumps(document))
    assert "all of it is softer views" in dependence.run(load_study(root, seed=0)).findings[0]


def test_a_difference_that_cannot_be_told_is_not_explained(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)
    path = root / "t_stddev" / "resnet8" / "teacher-only.json"
    document = json.loads(path.read_text())
    for comparison in document["comparisons"]:
        comparison["high"] = 1e-3
    path.write_text(json.dumps(document))
    assert "cannot tell them apart" in dependence.run(load_study(root, seed=0)).findings[0]


def test_fairness_finds_another_recipe_and_missing_seeds(made: Make) -> None:
    assert fairness.run(made()).fair
    study = made("other", missing=(("flip", 2),))
    study.runs.loc[study.runs["scheme"] == "mixup", "recipe_digest"] = "11" * 32
    found = fairness.run(study)
    assert not found.fair
    assert "2 different recipes" in found.findings[0]
    assert "flip lacks seed 2" in found.findings[0]


def test_failed_missing_and_unmeasured_are_listed(made: Make) -> None:
    study = made(failed=(("mixup", 2),), missing=(("flip", 1),), documents=False)
    study.study.loc[study.study["scheme"] == "cutmix", "t_stddev"] = np.nan
    table = left_out.run(study).table
    assert list(table["kind"]) == ["failed", "missing", "not measured"]
    assert "NaN at epoch 3" in table["why"].iloc[0]


def test_a_scheme_without_any_run_is_still_listed(made: Make) -> None:
    study = made(missing=tuple(("flip", seed) for seed in (0, 1, 2)))
    assert "flip" not in set(ranking.run(study).table["scheme"])
    assert list(left_out.run(study).table["scheme"]) == ["flip"] * 3


def test_curves_are_read_and_a_broken_line_is_named(made: Make, tmp_path: Path) -> None:
    study = made()
    result = training.run(study)
    assert len(result.curves) == 27 * 30
    assert result.table["last"].to_numpy() == pytest.approx(
        study.study.set_index("scheme").loc[list(result.table["scheme"]), "test_loss"].to_numpy()
    )
    log = next(study.paths.run_root.glob("*/*/seed=0/*/metrics.jsonl"))
    log.write_text('{"epoch": 1}\n')
    with pytest.raises(MissingError, match="line 1"):
        training.run(study)


def test_short_runs_are_not_judged(made: Make) -> None:
    assert "too few to say" in training.run(made(epochs=5)).findings[0]


def test_several_pairs_are_never_pooled(made: Make) -> None:
    study = made(pairs=("resnet8/lenet8", "resnet8/wrn_16_1", "resnet14/lenet8"))
    result = prediction.run(study)
    assert list(result.correlations["n"].unique()) == [9]
    assert len(result.readings) == 3
    assert any(text.startswith("Over 3 pairs (random effects, not pooled)") for text in result.findings)
    assert len(ranking.run(study).pairs) == 3


def test_analyses_are_registered_with_question_and_run() -> None:
    for name in analyses.ANALYSES | analyses.ON_REQUEST:
        module = analyses.get(name)
        assert module.QUESTION.endswith("?")
        assert callable(module.run)
    with pytest.raises(UsageError, match="ranking"):
        analyses.get("rankin")


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.50142, 0.4908, 0.5121, "0.501 [0.491, 0.512]"),
        (0.0, 0.0, 0.013, "0 [0, 0.013]"),
        (-0.00004, -0.02, 0.02, "0.000 [−0.020, 0.020]"),
        (1.5, float("nan"), float("nan"), "1.5000 (no spread)"),
    ],
)
def test_numbers_in_words(value: float, low: float, high: float, text: str) -> None:
    assert words.estimate(value, low, high) == text


def test_names_of_the_nine() -> None:
    assert words.listed(NINE[:3]) == "identity, flip and crop_flip"
    assert words.probability(0.9999) == "> 0.999"
    assert words.p_value(0.0004) == "p < 0.001"
