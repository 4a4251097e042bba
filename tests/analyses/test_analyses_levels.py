"""Runs are compared over one setting only where everything else agrees, and the planted answer is found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from settings_study import noisy, settings, write_study

import analyses
from analyses import (
    mixup_placement,
    partial_mixup,
    picking,
    recursive_sweeps,
    shift_schemes,
    std_logits,
    switching_period,
    temporary_teachers,
    view_targets,
)
from analyses.inference.levels import LevelComparison
from analyses.study import Study, load_study
from analyses.study.names import split
from analyses.study.settings import DEFAULTS, flat, trained_runs
from kdstats.errors import CheckError, MissingError
from kdstats.schemes.naming.parameters import parameters_of
from kdstats.schemes.naming.resolve import class_at
from runners.objectives.region_consistency import RegionConsistency
from runners.run_spec import RunSpec

SEEDS = range(4)
EMA: dict[str, Any] = {
    "teachers": 1,
    "period": 1,
    "unit": "epoch",
    "restart": "never",
    "decay": 0.99,
    "warmup": True,
    "buffers": "own",
    "then": [],
}
DUAL = EMA | {"teachers": 2, "restart": "shift"}


def one(tmp: Path, name: str, levels: Mapping[str, float], rng: int = 5, **options: Any) -> Study:
    changes = options.pop("changes", None)
    root = write_study(
        tmp / name, loss=noisy(levels, 0.01, rng), schemes=levels, seeds=SEEDS, changes=changes, **options
    )
    return load_study(root, seed=0)


def varied(
    tmp: Path, key: str, levels: Mapping[Any, float], scheme: str = "cutmix", **changes: Any
) -> list[Study]:
    """One study a value of one setting; the same seed has the same effect in all."""
    out = []
    for at, (value, level) in enumerate(levels.items()):
        root = write_study(
            tmp / f"{key}-{at}",
            loss=_shifted(level, at),
            schemes=(scheme,),
            seeds=SEEDS,
            changes={**changes, key: value},
        )
        out.append(load_study(root, seed=0))
    return out


def _shifted(level: float, at: int) -> Any:
    def loss(scheme: str, seed: int) -> float:
        common = np.random.default_rng([9, seed]).normal(0, 0.03)
        return float(level + common + np.random.default_rng([11, at, seed]).normal(0, 0.01))

    return loss


def lowest(result: LevelComparison) -> list[Any]:
    return list(result.table[result.table["lowest"]]["level"])


def equal(result: LevelComparison) -> bool:
    """Whether nothing was claimed."""
    said = " ".join(result.findings)
    return "cannot tell them apart" in said and "differ by more" not in said and "differs under" not in said


def test_defaults_are_those_of_the_runs() -> None:
    """``run.json`` leaves them out, so a wrong one here would compare unlike runs."""
    later = {f.name: f.default for f in fields(RunSpec) if f.default is not MISSING}
    always = {"draws", "temperature", "gamma", "alpha", "log_every", "log_dtype"}
    expected = {k: v for k, v in later.items() if k not in always}
    expected["objective_params"] = {}
    assert expected == DEFAULTS
    recursive = parameters_of(class_at("mixing.recursive:RecursiveMix"))
    assert recursive["alpha"].default == recursive_sweeps.DEFAULT_ALPHA
    assert recursive["resize"].default == recursive_sweeps.DEFAULT_RESIZE
    assert not RegionConsistency().shared
    partial = parameters_of(class_at("mixing.mixup:PartialMixup"))
    assert partial["unmixed"].default == partial_mixup.DEFAULT_UNMIXED
    for name in ("Mixup", "FullMixup", "PartialMixup"):
        assert parameters_of(class_at(f"mixing.mixup:{name}"))["alpha"].default == partial_mixup.DEFAULT_ALPHA


def test_settings_are_flat() -> None:
    found = flat(settings(scheme="recursive_mix(alpha=0.2)", **{"recipe.milestones": [15]}))
    assert (found["scheme"], found["scheme.alpha"], found["recipe.decays"]) == ("recursive_mix", 0.2, (0.5,))
    assert (found["teaching"], found["targets"]) == ("fixed", "teacher")
    assert flat(settings(objective_params=[["version", "v3"]]))["objective.version"] == "v3"
    assert flat(settings(scheme="flip(p=0.3)+cutout"))["scheme"] == "flip(p=0.3)+cutout"
    assert flat(settings(teaching=DUAL))["teaching.teachers"] == 2


def test_numbers_are_those_of_a_paired_test(tmp_path: Path) -> None:
    studies = varied(tmp_path, "targets", {"labels": 0.50, "teacher": 0.40})
    row = view_targets.run(*studies).table.iloc[1]
    losses = [s.used.sort_values("seed")["test_loss_last"] for s in studies]
    ends = stats.ttest_rel(losses[1], losses[0]).confidence_interval(0.95)
    assert row["level"] == "teacher's answer"
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((ends.low, ends.high))


def test_targets(tmp_path: Path) -> None:
    planted = view_targets.run(
        *varied(tmp_path / "a", "targets", {"labels": 0.50, "teacher": 0.40, "interpolated": 0.50})
    )
    assert lowest(planted) == ["teacher's answer"]
    assert "against mixed labels the test loss differs under teacher's answer by −0." in planted.findings[1]
    none = view_targets.run(*varied(tmp_path / "b", "targets", {"labels": 0.5, "teacher": 0.5}))
    assert equal(none)
    figure, facts = planted.figure()  # type: ignore[misc]
    assert len(figure.axes) == 1
    assert "3 values, 4 seeds each" in facts.caption()


def test_one_study_of_one_value_says_why_it_cannot_answer(tmp_path: Path) -> None:
    study = one(tmp_path, "a", {"cutmix": 0.5})
    result = view_targets.run(study)
    assert result.findings == (
        "This cannot be answered from this study because all 4 runs have one target of the views: teacher's answer.",
    )
    assert not result.answered
    assert result.figure() is None


def test_unfair_comparisons_are_refused_and_name_what_differs(tmp_path: Path) -> None:
    studies = [
        *varied(tmp_path / "a", "targets", {"labels": 0.5}),
        *varied(tmp_path / "b", "targets", {"teacher": 0.4}, **{"recipe.lr": 0.05}),
    ]
    result = view_targets.run(*studies)
    assert not result.answered
    assert "differ in recipe.lr too, so the comparison would not be fair" in result.findings[0]


def test_runs_without_a_counterpart_are_counted(tmp_path: Path) -> None:
    pair = varied(tmp_path / "a", "targets", {"labels": 0.5, "teacher": 0.4})
    alone = varied(tmp_path / "b", "targets", {"teacher": 0.4}, **{"recipe.lr": 0.05})
    assert "4 runs had no counterpart" in view_targets.run(*pair, *alone).findings[-1]


def test_a_run_in_two_studies_counts_once_unless_it_contradicts_itself(tmp_path: Path) -> None:
    first = one(tmp_path, "a", {"cutmix": 0.5})
    assert len(trained_runs(first, one(tmp_path, "b", {"cutmix": 0.5}))) == 4
    with pytest.raises(CheckError, match="the same run by their digest"):
        trained_runs(first, one(tmp_path, "c", {"cutmix": 0.6}))


def test_a_run_without_its_card_is_named(tmp_path: Path) -> None:
    study = one(tmp_path, "a", {"cutmix": 0.5})
    card = next(study.paths.iter_runs()).run_json
    kept = json.loads(card.read_text())
    card.write_text(json.dumps({"recipe_digest": kept["recipe_digest"]}))
    with pytest.raises(MissingError, match="no settings under 'run'"):
        view_targets.run(study)
    card.unlink()
    with pytest.raises(MissingError, match=r"no run\.json for resnet8/lenet8, cutmix, seed"):
        view_targets.run(study)


def test_one_seed_gives_no_claim(tmp_path: Path) -> None:
    studies = [
        load_study(
            write_study(
                tmp_path / kind,
                loss=lambda s, k, v=level: v,
                schemes=("cutmix",),
                seeds=(0,),
                changes={"targets": kind},
            ),
            seed=0,
        )
        for kind, level in (("labels", 0.5), ("teacher", 0.4))
    ]
    assert "one seed gives no spread" in view_targets.run(*studies).findings[0]


def test_a_setting_without_effect_is_said_to_be_one(tmp_path: Path) -> None:
    studies = [
        load_study(
            write_study(
                tmp_path / kind, loss=lambda s, k: 0.5 + 0.01 * k**2, seeds=SEEDS, changes={"targets": kind}
            ),
            seed=0,
        )
        for kind in ("labels", "teacher")
    ]
    assert (
        "the same under mixed labels and teacher's answer, run by run"
        in view_targets.run(*studies).findings[0]
    )


def test_variants_of_one_study_are_compared(tmp_path: Path) -> None:
    """As the tables of a study of several variants are: the variant is part of the pair."""
    from dataclasses import replace

    studies = varied(tmp_path, "targets", {"labels": 0.5, "teacher": 0.4})
    named = [
        replace(study, runs=study.runs.assign(pair=study.runs["pair"] + f" [{at}]"))
        for at, study in enumerate(studies)
    ]
    plain, result = view_targets.run(*studies), view_targets.run(*named)
    assert result.findings == plain.findings
    assert {run.label for run in trained_runs(*named)} == {"resnet8/lenet8 [0]", "resnet8/lenet8 [1]"}


def test_picking(tmp_path: Path) -> None:
    assert split("pick(mixup(alpha=0.2),criterion=kl)") == ("mixup(alpha=0.2)", "kl")
    levels = {"identity": 0.5, "cutmix": 0.45, "cutmix_pick_teacher": 0.35, "pick(cutmix,criterion=kl)": 0.45}
    planted = picking.run(one(tmp_path, "a", levels))
    assert set(planted.table["level"]) == {"no picking", "teacher's entropy", "teacher–student KL"}
    assert "teacher's entropy by −0." in planted.findings[1]
    assert "KL" not in planted.findings[1]
    assert equal(picking.run(one(tmp_path, "b", {"cutmix": 0.5, "cutmix_pick_teacher": 0.5})))
    assert "no run picks its views" in picking.run(one(tmp_path, "c", {"cutmix": 0.5})).findings[0]


def test_bases_of_picking_are_not_mixed(tmp_path: Path) -> None:
    levels = {"mixup": 0.9, "pick(mixup)": 0.8, "cutmix": 0.4, "cutmix_pick_teacher": 0.3}
    study = one(tmp_path, "a", levels)
    result = picking.run(study)
    assert list(dict.fromkeys(result.table["stratum"])) == ["resnet8/lenet8, cutmix", "resnet8/lenet8, mixup"]
    assert lowest(result) == ["teacher's entropy"] * 2
    p = sorted(result.tests["p_equal"])
    assert sorted(result.tests["p_holm"]) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])
    # Two strata of one difference each hold together: 1 − 0.05/2 on each side.
    row = result.table[result.table["difference"].notna()].iloc[0]
    quantile = stats.t.ppf(1 - 0.05 / 4, 3)
    own = study.used[study.used["scheme"].isin(("cutmix", "cutmix_pick_teacher"))]
    gaps = own.pivot_table(index="seed", columns="scheme", values="test_loss_last")
    half = quantile * (gaps["cutmix_pick_teacher"] - gaps["cutmix"]).std() / 2
    assert row["difference_high"] - row["difference"] == pytest.approx(half)


def test_std_logits(tmp_path: Path) -> None:
    studies = varied(
        tmp_path,
        "objective_params",
        {(("version", "v1"),): 0.5, (): 0.4, (("version", "v3"),): 0.5},
        objective="std_logits",
    )
    planted = std_logits.run(*studies)
    assert lowest(planted) == ["v2 (both losses rescaled)"]
    assert "against v1 (fixed temperature)" in planted.findings[1]
    plain = std_logits.run(one(tmp_path, "kd", {"cutmix": 0.5}))
    assert "no run was trained with the objective std_logits" in plain.findings[0]


def test_partial_mixup(tmp_path: Path) -> None:
    levels = {
        "partial_mixup": 0.5,
        "partial_mixup(unmixed=0.5)": 0.4,
        "full_mixup": 0.5,
        "partial_mixup@mixkd": 0.5,
        "mixup": 0.5,
        "mixup(alpha=0.2)": 0.4,
    }
    planted = partial_mixup.run(one(tmp_path, "a", levels))
    # 58 of 64 stay unmixed; with replacement (1 − 1/64)^57 of the views are mixed.
    expected = [6 / 64, (63 / 64) ** 57, 0.5, 1.0]
    assert list(planted.share.table["level"]) == pytest.approx(expected)
    assert lowest(planted.share) == [0.5]
    assert lowest(planted.beta) == [0.2]
    assert "0.2 by −0." in " ".join(planted.findings)
    none = partial_mixup.run(one(tmp_path, "b", {"full_mixup": 0.5, "partial_mixup": 0.5}))
    assert equal(none.share)


def test_recursive_sweeps(tmp_path: Path) -> None:
    names = ("recursive_mix", "recursive_mix(alpha=0.1)", "recursive_mix(alpha=0.9)")
    result = recursive_sweeps.run(one(tmp_path, "a", dict(zip(names, (0.5, 0.6, 0.4), strict=True))))
    assert list(result.alpha.table["level"]) == [0.1, 0.5, 0.9]
    assert "0.9 is the highest value tried, so a better one may lie beyond" in " ".join(result.findings)
    assert not result.omega.answered
    own = {"objective": "region_consistency", "originals": "replaced"}
    omega = recursive_sweeps.run(
        *varied(tmp_path / "o", "beta", {0.0: 0.5, 0.1: 0.4, 0.5: 0.5}, "recursive_mix", **own)
    )
    assert lowest(omega.omega) == [0.1]
    plain = varied(tmp_path / "p", "beta", {0.0: 0.5}, "recursive_mix", originals="replaced")
    with_plain = recursive_sweeps.run(
        *plain, *varied(tmp_path / "q", "beta", {0.1: 0.4}, "recursive_mix", **own)
    )
    assert list(with_plain.omega.table["level"]) == [0.0, 0.1]  # kd alone is ω = 0
    head = recursive_sweeps.run(
        *varied(
            tmp_path / "h",
            "objective_params",
            {(): 0.5, (("head", "shared"),): 0.5},
            "recursive_mix",
            beta=0.5,
            **own,
        )
    )
    assert equal(head.head)
    assert set(head.head.table["level"]) == {"own", "shared"}


def test_mixup_placement_by_temperature(tmp_path: Path) -> None:
    """Mixup at the teacher: T = 1 is better with it, T = 4 without, and the student's mixup does nothing."""
    studies = []
    for teacher in ("identity", "mixup"):
        for t in (1.0, 4.0):
            level = 0.4 if (teacher == "mixup") == (t == 1.0) else 0.5
            root = tmp_path / f"{teacher}{t:g}"
            sha = ("ab" if teacher == "identity" else "ef") * 32
            write_study(
                root,
                loss=noisy({"identity": level, "mixup": level}, 0.01, 3),
                schemes=("identity", "mixup"),
                seeds=SEEDS,
                changes={"temperature": t, "teacher_sha256": sha},
                teachers={"resnet8": {"scheme": teacher, "sha256": sha}},
            )
            studies.append(load_study(root, seed=0))
    result = mixup_placement.run(*studies)
    assert result.unknown == ()
    by = {
        row["stratum"]: str(row["level"])
        for row in result.placement.table[result.placement.table["lowest"]].to_dict("records")
    }
    assert by["resnet8/lenet8, temperature 1"] in ("teacher", "both")
    assert by["resnet8/lenet8, temperature 4"] in ("none", "student")
    assert len(result.temperature.tests) == 4
    assert (result.temperature.tests["p_holm"] < 0.05).all()
    alone = mixup_placement.run(one(tmp_path, "one", {"identity": 0.5, "mixup": 0.5}))
    assert "its card does not say how resnet8 was trained" in alone.findings[0]
    assert set(alone.placement.table["level"]) == {"mixup at the student", "none at the student"}
    assert equal(alone.placement)


def test_teachers_in_shifts(tmp_path: Path) -> None:
    studies = varied(tmp_path / "a", "teaching", {None: 0.6})
    studies += [
        load_study(
            write_study(
                tmp_path / name,
                loss=_shifted(level, at),
                schemes=("cutmix",),
                seeds=SEEDS,
                changes={"teaching": way, "teacher_arch": None, "teacher_sha256": None},
                pair="self/lenet8",
            ),
            seed=0,
        )
        for at, (name, way, level) in enumerate((("ema", EMA, 0.5), ("dual", DUAL, 0.4)), start=1)
    ]
    result = temporary_teachers.run(*studies)
    assert set(result.table["level"]) == {
        "fixed teacher resnet8",
        "1 lasting average",
        "2 temporary averages",
    }
    assert lowest(result) == ["2 temporary averages"]
    assert set(result.table["pair"]) == {"student lenet8"}
    assert "against 1 lasting average" in result.findings[1]
    with_schemes = load_study(
        write_study(
            tmp_path / "then",
            loss=_shifted(0.3, 7),
            schemes=("cutmix",),
            seeds=SEEDS,
            changes={
                "teaching": DUAL | {"then": ["mixup"]},
                "teacher_arch": None,
                "teacher_sha256": None,
            },
            pair="self/lenet8",
        ),
        seed=0,
    )
    shifts = shift_schemes.run(*studies, with_schemes)
    assert lowest(shifts) == ["cutmix then mixup"]
    assert "differ by more than seeds explain" in shifts.findings[0]
    assert "no run has schemes of their own" in shift_schemes.run(*studies).findings[0]
    # Dual against single differs in the restart as well, so it says nothing on the number of teachers alone.
    period = switching_period.run(*studies)
    assert "teaching.restart" in period.teachers.findings[0]
    assert "all 8 runs have one period of a shift: 1" in period.period.findings[0]


def test_switching_period(tmp_path: Path) -> None:
    studies = [
        load_study(
            write_study(
                tmp_path / f"p{period}",
                loss=_shifted(level, period),
                schemes=("cutmix",),
                seeds=SEEDS,
                changes={"teaching": DUAL | {"period": period}},
            ),
            seed=0,
        )
        for period, level in ((1, 0.5), (2, 0.4), (4, 0.5))
    ]
    assert lowest(switching_period.run(*studies).period) == [2]
    assert equal(switching_period.run(studies[0], studies[2]).period)
    lasting = load_study(
        write_study(
            tmp_path / "lasting",
            loss=_shifted(0.3, 9),
            schemes=("cutmix",),
            seeds=SEEDS,
            changes={"teaching": DUAL | {"period": 2, "restart": "never"}},
        ),
        seed=0,
    )
    refused = switching_period.run(studies[0], lasting).period
    assert not refused.answered
    assert "differ in teaching.restart too" in refused.findings[0]


def test_analyses_on_request_have_a_question_and_run() -> None:
    for name in analyses.ON_REQUEST:
        module = analyses.get(name)
        assert module.QUESTION.endswith("?")
        assert callable(module.run)
    assert not set(analyses.ON_REQUEST) & set(analyses.ANALYSES)


@pytest.mark.simulation
def test_no_difference_is_claimed_in_5_per_cent_at_most(tmp_path: Path) -> None:
    """Family-wise over levels and strata, where all are equal."""
    levels = dict.fromkeys(("cutmix", "cutmix_pick_teacher", "cutmix_pick_kl", "mixup", "pick(mixup)"), 0.5)
    study = one(tmp_path, "a", levels)
    runs = trained_runs(study)
    rng, claimed = np.random.default_rng(2), 0
    times = 25
    for _ in range(times):
        common = rng.normal(0, 0.05, 4)
        used = study.used.copy()
        used["test_loss_last"] = 0.5 + common[used["seed"]] + rng.normal(0, 0.01, len(used))
        drawn = {(r.scheme, r.seed): v for r, v in zip(runs, used["test_loss_last"], strict=True)}
        for r in runs:
            r.row["test_loss_last"] = drawn[(r.scheme, r.seed)]  # type: ignore[index]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(picking, "trained_runs", lambda *_: runs)
            claimed += not equal(picking.run(study))
    assert claimed <= stats.binom.ppf(0.999, times, 0.05)
