"""Analyses that follow the records from epoch to epoch: images learnt and forgotten, teachers that move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from settings_study import record_views, write_study

from analyses import current_teacher, data_maps
from analyses.current_teacher import covariance_of, t_stddev_of
from analyses.inference.image_dynamics import Dynamics
from analyses.study import Study, load_study
from kdstats.errors import CheckError, MissingError
from kdstats.estimators.tstddev import mean_sd
from kdstats.records.paths import RunPaths
from kdstats.records.scanner import read_pools

B, STEPS = 16, 12
EMA = {"teachers": 1, "period": 1, "unit": "epoch", "restart": "never", "decay": 0.99, "then": []}
After = Callable[[RunPaths, str, int], None]
Ids = Callable[[int, int], np.ndarray]


def ids(epoch: int, step: int) -> np.ndarray:
    return np.random.default_rng([epoch]).permutation(B * STEPS)[step * B : (step + 1) * B]


def studied(tmp: Path, schemes: tuple[str, ...], after: After, **options: object) -> Study:
    seeds = options.pop("seeds", (0, 1, 2))
    root = write_study(
        tmp,
        loss=lambda s, k: 0.5 + 0.01 * k,
        schemes=schemes,
        seeds=seeds,  # type: ignore[arg-type]
        after=after,
        **options,  # type: ignore[arg-type]
    )
    return load_study(root, seed=0)


# --- data maps ---


def test_dynamics_are_those_of_the_whole_matrix() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((9, 30))
    seen = rng.random((9, 30)) < 0.8
    seen[:, 3] = False  # never recorded
    found = Dynamics()
    for epoch in range(9):
        own = rng.permutation(np.flatnonzero(seen[epoch]))
        for part in np.array_split(own, 3):
            found.add(part, p[epoch, part], part % 4)
    frame = found.frame().set_index("sample_id")
    assert 3 not in frame.index
    for image in frame.index:
        own_p = p[seen[:, image], image]
        learnt = own_p > 0.5
        events = sum(bool(a and not b) for a, b in itertools.pairwise(learnt))
        row = frame.loc[image]
        assert row["confidence"] == pytest.approx(own_p.mean())
        assert row["variability"] == pytest.approx(own_p.std())
        assert row["correctness"] == pytest.approx(learnt.mean())
        assert row["forgetting"] == events
        assert row["never_learnt"] == (not learnt.any())
        assert row["label"] == image % 4
    with pytest.raises(CheckError, match="another label"):
        found.add(np.array([5]), np.array([0.5]), np.array([0]))


def remembering(
    shares: dict[str, float], epochs: tuple[int, ...] = (1, 2, 3, 4, 5, 6), order: Ids = ids
) -> After:
    """Of class 0 (whose logit is the margin) the given share of images is lost at every other epoch."""

    def after(run: RunPaths, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *scheme.encode()])
        lost = rng.random(B * STEPS) < shares[scheme]

        def margins(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            student = np.where(lost[own] & (epoch % 2 == 0), -3.0, 3.0) + 0.1 * rng.normal(size=len(own))
            return np.full(len(own), 2.0), student

        record_views(run, epochs, order, margins, steps=STEPS)

    return after


def test_forgetting_is_found_where_it_is(tmp_path: Path) -> None:
    shares = {"identity": 0.1, "flip": 0.1, "mixup": 0.7}
    result = data_maps.run(studied(tmp_path / "a", tuple(shares), remembering(shares)))
    table = result.table.set_index("scheme")
    assert table.loc["mixup", "forgotten"] == pytest.approx(0.7 / 4, abs=0.05)  # a quarter is of class 0
    # The other classes rise when class 0 falls, to a third at most.
    assert table["never_learnt"].to_numpy() == pytest.approx(0.75)
    told = [text for text in result.findings if "forgotten once or more differs" in text]
    assert len(told) == 1
    assert "under mixup by 0.1" in told[0]
    assert "flip" not in told[0]
    assert "no scheme can be told from identity by the share of images never learnt" in " ".join(
        result.findings
    )
    assert "6 epochs of originals on record per run; learnt means" in result.findings[0]
    own = result.samples.set_index(["scheme", "sample_id"]).loc["mixup"]
    assert len(own) == B * STEPS
    assert own.loc[own["forgetting"] == 3, "correctness"].to_numpy() == pytest.approx(0.5)
    assert "Data maps of 192 training images" in result.figure()[1].caption()  # type: ignore[index]


def test_a_share_of_0_in_every_run_has_no_interval(tmp_path: Path) -> None:
    shares = {"identity": 0.0, "flip": 0.0, "mixup": 0.5}
    result = data_maps.run(studied(tmp_path / "a", tuple(shares), remembering(shares)))
    table = result.table.set_index("scheme")
    assert table.loc[["identity", "flip"], ["forgotten_low", "forgotten_high"]].isna().all(axis=None)
    assert table.loc["mixup", "forgotten_low"] > 0
    said = next(text for text in result.findings if "never learnt (n" in text)
    assert "identity none in 3 runs and" in said
    assert "[0, 0]" not in said


def per_run(values: np.ndarray) -> pd.DataFrame:
    """``[measures, seeds, schemes]``, the first scheme identity."""
    _, seeds, k = values.shape
    names = [data_maps.REFERENCE, *(f"s{at}" for at in range(1, k))]
    return pd.DataFrame(
        {"pair": "p", "scheme": names[j], "seed": i}
        | {name: values[q, i, j] for q, name in enumerate(data_maps.MEASURES)}
        for i in range(seeds)
        for j in range(k)
    )


@pytest.mark.simulation
def test_false_differences_are_rare_over_all_measures_and_unequal_spreads() -> None:
    """Nine schemes alike but for their spread over 3 seeds, one of which scatters four times as much."""
    rng, wrong, times = np.random.default_rng(6), 0, 80
    spread = np.array([1.1, 2.0, 1.0, 1.1, 4.4, 1.7, 1.3, 1.0, 0.3])
    for _ in range(times):
        found = data_maps._differences(per_run(spread * rng.standard_normal((4, 3, 9))))
        wrong += bool(((found["low"] > 0) | (found["high"] < 0)).any())
    assert wrong <= 9, wrong  # 0.03 in a longer count; binomial(80, 0.05) stays below 10 in 99.3 %


def test_intervals_hold_together_over_four_measures() -> None:
    values = np.random.default_rng(3).standard_normal((4, 5, 9))
    found = data_maps._differences(per_run(values)).set_index(["measure", "scheme"])
    from analyses.inference.seeds import of_runs

    single = of_runs(per_run(values), "p", "confidence")
    expected = single.difference(3, 0, 32)
    few = of_runs(per_run(values[:, :3]), "p", "confidence")
    own = stats.ttest_rel(values[2, :3, 3], values[2, :3, 0]).confidence_interval(1 - 0.05 / 4)
    assert few.difference(3, 0, 32, 4)[1] <= own.low + 1e-12
    got = found.loc[("confidence", single.schemes[3]), ["difference", "low", "high"]]
    assert got.tolist() == pytest.approx(expected)
    # A run is missing: paired t over the seeds of both, in a family as large.
    part = per_run(values).iloc[:-1]
    less = data_maps._differences(part).set_index(["measure", "scheme"])
    gaps = values[2, :4, 8] - values[2, :4, 0]
    half = stats.t.ppf(1 - 0.025 / 32, 3) * gaps.std(ddof=1) / 2
    assert less.loc[("confidence", "s8"), "high"] == pytest.approx(gaps.mean() + half)


def test_equal_forgetting_is_not_told_apart(tmp_path: Path) -> None:
    shares = {"identity": 0.3, "flip": 0.3, "mixup": 0.3}
    result = data_maps.run(studied(tmp_path / "a", tuple(shares), remembering(shares, (2, 3, 8))))
    said = " ".join(result.findings)
    assert "no scheme can be told from identity by the share of images forgotten once or more" in said
    assert "up to 5 apart, so an image forgotten and learnt again in between is not seen" in said
    assert "differs" not in said


def test_one_seed_and_few_epochs_are_said(tmp_path: Path) -> None:
    shares = {"identity": 0.3, "mixup": 0.6}
    alone = data_maps.run(studied(tmp_path / "a", tuple(shares), remembering(shares), seeds=(0,)))
    assert "one seed each gives no interval" in " ".join(alone.findings)
    short = data_maps.run(studied(tmp_path / "b", ("identity",), remembering(shares, (1, 2)), seeds=(0,)))
    assert "Left out, with fewer than 3 epochs of originals: identity" in short.findings[0]
    assert short.figure() is None
    nothing = data_maps.run(studied(tmp_path / "c", ("identity",), lambda *_: None, seeds=(0,)))
    assert "no samples were recorded" in nothing.findings[0]

    def twice(epoch: int, step: int) -> np.ndarray:
        return np.arange(B)

    with pytest.raises(CheckError, match="an original is there twice"):
        data_maps.run(studied(tmp_path / "d", ("identity",), remembering(shares, order=twice), seeds=(0,)))


# --- the teacher of the moment ---


def test_spread_of_batches_without_the_drift_of_the_teacher() -> None:
    rng = np.random.default_rng(1)
    values, plain = [], []
    for _ in range(60):
        means = rng.multinomial(64, np.full(10, 0.1), size=41) / 64
        still = means.copy()
        means[:, 0] += np.linspace(0, 0.3, 41)
        means[:, 1] -= np.linspace(0, 0.3, 41)
        values.append(t_stddev_of(means))
        plain.append((mean_sd(still) / math.sqrt(5), mean_sd(means) / math.sqrt(5)))
    still_, drifting = np.mean(plain, axis=0)
    assert np.mean(values) == pytest.approx(still_, rel=0.02)
    for steps in (4, 8, 21):  # the root of a variance from few steps is too small, which the factor mends
        few = [t_stddev_of(rng.standard_normal((steps, 10))) for _ in range(2_000)]
        assert np.mean(few) == pytest.approx(1 / math.sqrt(5), rel=0.016)
    assert drifting > 1.2 * still_
    x = rng.random((7, 4))
    by_hand = [math.sqrt(sum((x[k + 1, c] - x[k, c]) ** 2 for k in range(6)) / 12 / 5) for c in range(4)]
    assert t_stddev_of(x) == pytest.approx((1 + 3 / 56) * np.mean(by_hand))


def test_covariance_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(2)
    u = rng.gamma(2, size=(9, 6)) + rng.normal(0, 1, (9, 1))
    d = np.diff(u, axis=0) / math.sqrt(2)
    pairs = [np.mean(d[:, i] * d[:, j]) for i in range(6) for j in range(6) if i != j]
    assert covariance_of(u) == pytest.approx(np.mean(pairs))
    assert math.isnan(covariance_of(u[:, :1]))
    common = rng.normal(0, 0.5, (4000, 1)) + rng.normal(0, 1, (4000, 8)) + np.linspace(0, 9, 4000)[:, None]
    assert covariance_of(common) == pytest.approx(0.25, rel=0.1)


def moving(grows: dict[str, float], epochs: tuple[int, ...] = tuple(range(1, 9))) -> After:
    """A teacher whose batches share a noise that grows from epoch to epoch."""

    def after(run: RunPaths, scheme: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *scheme.encode()])

        def margins(epoch: int, step: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # In the first step of a shift another teacher answers; it must not count.
            common = 6.0 if step == 0 else rng.normal() * (0.3 + grows[scheme] * epoch)
            return np.full(len(own), 1.0 + common), rng.normal(size=len(own))

        record_views(run, epochs, ids, margins, steps=STEPS)

    return after


def test_a_teacher_that_loses_its_calm_is_found(tmp_path: Path) -> None:
    grows = {"identity": 0.0, "cutmix": 0.25, "flip": 0.0}
    study = studied(tmp_path / "a", tuple(grows), moving(grows), seeds=range(5), changes={"teaching": EMA})
    result = current_teacher.run(study)
    table = result.table.set_index("scheme")
    assert table.loc["cutmix", "change_low"] > 1
    assert table.loc["identity", "change_low"] < 1 < table.loc["identity", "change_high"]
    said = " ".join(result.findings)
    assert "cutmix, 1 lasting average: over the last quarter" in said
    assert "it is higher than over the first quarter" in said
    assert said.count("cannot tell it from that of the first quarter") == 2
    contrast = next(text for text in result.findings if "late T. stddev over that of identity" in text)
    assert "cutmix at" in contrast
    assert "flip at" not in contrast
    assert "resting ones are not asked" in result.findings[-1]
    assert len(result.per_epoch) == 3 * 5 * 8
    run = next(r for r in study.paths.iter_runs() if "cutmix" in str(r.root) and "seed=3" in str(r.root))
    pools = read_pools(run, epochs=[2])
    means = np.stack([pools["mean_prob"][pools["step"] == step].mean(axis=0) for step in range(1, STEPS)])
    first = result.per_epoch.set_index(["scheme", "seed", "epoch"]).loc[("cutmix", 3, 2)]
    assert first["t_stddev"] == pytest.approx(t_stddev_of(means.astype(float)))
    assert set(result.per_epoch["steps"]) == {STEPS - 1}
    assert "at each of 8 recorded epochs (3 settings, 5 seeds each)" in result.figure()[1].caption()  # type: ignore[index]


def test_a_teacher_as_it_was_is_not_told_apart(tmp_path: Path) -> None:
    grows = {"identity": 0.0, "flip": 0.0}
    study = studied(tmp_path / "a", tuple(grows), moving(grows), changes={"teaching": EMA})
    result = current_teacher.run(study)
    assert sum("cannot tell it from that of the first quarter" in text for text in result.findings) == 2
    assert any("no scheme can be told from it" in text for text in result.findings)


def test_what_the_records_do_not_hold_is_said(tmp_path: Path) -> None:
    grows = {"identity": 0.0}
    fixed = studied(tmp_path / "a", ("identity",), moving(grows), seeds=(0,))
    assert "no run has a teacher that follows the student" in current_teacher.run(fixed).findings[0]
    bare = studied(tmp_path / "b", ("identity",), lambda *_: None, seeds=(0,), changes={"teaching": EMA})
    assert "no run with such a teacher recorded samples" in current_teacher.run(bare).findings[0]
    by_step = {"teaching": EMA | {"teachers": 2, "unit": "step", "restart": "shift"}}
    turns = current_teacher.run(
        studied(tmp_path / "c", ("identity",), moving(grows), seeds=(0,), changes=by_step)
    )
    assert "take turns within an epoch" in turns.findings[0]
    assert turns.figure() is None
    one = studied(tmp_path / "d", ("identity",), moving(grows, (4,)), seeds=(0,), changes={"teaching": EMA})
    assert "one recorded epoch shows no change" in current_teacher.run(one).findings[0]
    beside = current_teacher.run(one, fixed)
    assert set(beside.per_epoch["follows"]) == {True, False}
    broken = next(fixed.paths.iter_runs())
    broken.pools.write_bytes(b"")
    with pytest.raises(MissingError, match="pools"):
        current_teacher.run(one, fixed)
