"""Batch draws against sample draws: a planted difference is found, equal ones are not told apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from settings_study import SHA, write_study
from synthetic_study import DEFINITION

from analyses import draw_granularity
from analyses.study import Study, load_study
from kdstats.records.paths import StudyPaths

SEEDS = range(4)
SCHEMES = ("identity", "flip", "cutmix", "mixup")


def one(
    root: Path,
    draws: str,
    shift: Mapping[str, float],
    t: Mapping[str, float] | None = None,
    inputs: float = 320.0,
    seeds: Any = SEEDS,
    **changes: Any,
) -> Study:
    """A study of one granularity: seeds' effects shared, identity the same bit for bit."""

    def loss(scheme: str, seed: int) -> float:
        common = np.random.default_rng([9, seed]).normal(0, 0.03)
        if scheme == "identity":
            return float(0.5 + common)
        own = np.random.default_rng([len(draws), seed, *scheme.encode()]).normal(0, 0.004)
        return float(0.5 + common + own + shift.get(scheme, 0.0))

    write_study(root, loss=loss, schemes=SCHEMES, seeds=seeds, changes={"draws": draws, **changes})
    if t is not None:
        _measure(root, draws, t, inputs)
    return load_study(root, seed=0)


def _measure(root: Path, draws: str, t: Mapping[str, float], inputs: float) -> None:
    parts = dict.fromkeys(("var_original", "var_augmented", "cov_views", "cov_cross"), 1e-6)
    results = [
        {"scheme": name, "t_stddev": value, "se": 0.01 * value, "components": parts}
        | {"low": value * 0.98, "high": value * 1.02, "effective_inputs": inputs * (0.003 / value) ** 2}
        for name, value in t.items()
    ]
    document = {
        "schema": "kdstats/evaluate-da/1",
        "definition": DEFINITION | {"draws": draws},
        "teacher": {"name": "resnet8", "sha256": SHA},
        "dataset": {"name": "digits", "sha256": "cd" * 32},
        "results": results,
    }
    folder = StudyPaths(root).t_stddev / "resnet8"
    folder.mkdir(parents=True)
    (folder / "teacher-only.json").write_text(json.dumps(document), encoding="utf-8")


EVEN = dict.fromkeys(SCHEMES, 0.003)


def test_a_planted_difference_is_found(tmp_path: Path) -> None:
    batch = one(tmp_path / "b", "batch", {}, EVEN | {"cutmix": 0.003})
    sample = one(
        tmp_path / "s", "sample", dict.fromkeys(("flip", "cutmix", "mixup"), -0.05), EVEN | {"cutmix": 0.0024}
    )
    result = draw_granularity.run(batch, sample)
    rows = result.measured.set_index("scheme")
    assert rows.loc["cutmix", "ratio"] == pytest.approx(0.8)
    assert rows.loc["cutmix", "ratio_high"] < 1
    assert rows.loc["cutmix", "inputs_ratio"] == pytest.approx(1 / 0.64)
    assert rows.loc["cutmix", "inputs_ratio_low"] > 1
    assert rows.loc["flip", "ratio_low"] < 1 < rows.loc["flip", "ratio_high"]
    assert result.same == {"resnet8/lenet8": ("identity",)}
    assert (result.outcome["high"] < 0).all()
    assert "identity" not in set(result.outcome["scheme"])
    assert result.overall["difference"].iloc[0] == pytest.approx(-0.05, abs=0.006)
    said = " ".join(result.findings)
    assert "T. stddev is lower with sample draws under cutmix (0.80 [0.7" in said
    assert "with sample draws a pool is worth more independent inputs under cutmix (1.56 [1.4" in said
    assert "nats, better than batch draws." in said
    assert "identity gave the same test loss with both" in said
    # The order of the studies does not matter, and the figure draws what the tables hold.
    again = draw_granularity.run(sample, batch)
    assert again.overall["difference"].iloc[0] == pytest.approx(result.overall["difference"].iloc[0])
    figure, facts = result.figure()  # type: ignore[misc]
    assert len(figure.axes) == 3
    assert "4 measurements" in facts.caption()
    assert "no spread" not in facts.caption()
    assert "3 schemes, n = 4 seeds" in facts.caption()
    assert "that hold together within a teacher or group" in facts.caption()
    assert "spread" not in said


def test_few_seeds_are_said_to_be_few(tmp_path: Path) -> None:
    for n, note in ((3, "their own spread too)"), (2, "two seeds say little of a spread)")):
        both = (one(tmp_path / f"{d}{n}", d, {}, seeds=range(n)) for d in ("batch", "sample"))
        assert f"{note}." in draw_granularity.run(*both).findings[-1]


def test_equal_ones_are_not_told_apart(tmp_path: Path) -> None:
    batch = one(tmp_path / "b", "batch", {}, EVEN)
    sample = one(tmp_path / "s", "sample", {}, EVEN | {"cutmix": 0.00305})
    result = draw_granularity.run(batch, sample)
    said = " ".join(result.findings)
    softer = result.measured.assign(inputs_ratio=1.3, inputs_ratio_low=1.1, inputs_ratio_high=1.5)
    assert "worth more" not in " ".join(draw_granularity._of_measured(softer))
    assert "cannot be told apart under identity, flip, cutmix and mixup" in said
    assert "this cannot be told from 0" in said
    assert "under no single scheme can the two be told apart" in said
    for claim in ("worth more", "lower with", "higher with", "better than", "worse than", "differs under"):
        assert claim not in said


def test_numbers_are_those_of_independent_formulas(tmp_path: Path) -> None:
    batch, sample = (
        one(tmp_path / "b", "batch", {}, EVEN),
        one(tmp_path / "s", "sample", {"flip": 0.01}, EVEN | {"flip": 0.0033}),
    )
    result = draw_granularity.run(batch, sample)
    wide = stats.norm.ppf(1 - 0.025 / 4) / stats.norm.ppf(0.975)
    gap = math.log(1.1)
    reach = wide * math.hypot(math.log(1 / 0.98), math.log(1.02))
    row = result.measured.set_index("scheme").loc["flip"]
    assert (row["ratio_low"], row["ratio_high"]) == pytest.approx(
        (math.exp(gap - reach), math.exp(gap + reach))
    )
    assert row["inputs_ratio"] == pytest.approx(1 / 1.21)
    ends = (math.exp(-2 * (gap + reach)), math.exp(-2 * (gap - reach)))
    assert (row["inputs_ratio_low"], row["inputs_ratio_high"]) == pytest.approx(ends)
    losses = [s.used.set_index(["scheme", "seed"])["test_loss_last"].unstack() for s in (batch, sample)]
    means = (losses[1] - losses[0]).drop(index="identity").mean(axis=0)
    ends = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert result.overall[["low", "high"]].iloc[0].tolist() == pytest.approx([ends.low, ends.high])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"draws": "batch", "temperature": 2.0}, "all 32 runs have one granularity of draws: batch"),
        ({"draws": "sample", "temperature": 2.0}, "differ in temperature too"),
    ],
)
def test_unlike_runs_are_not_compared(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    draws = other.pop("draws")
    batch, changed = one(tmp_path / "b", "batch", {}), one(tmp_path / "s", draws, {}, **other)
    result = draw_granularity.run(batch, changed)
    assert result.outcome.empty
    assert result.figure() is None
    assert said in result.findings[-1]
    assert "no teacher was measured with both kinds of draws" in result.findings[0]


def test_measurements_of_other_images_are_not_compared(tmp_path: Path) -> None:
    batch = one(tmp_path / "b", "batch", {}, EVEN)
    sample = one(tmp_path / "s", "sample", {}, EVEN)
    path = sample.documents["resnet8"][0].path
    raw = json.loads(path.read_text())
    raw["dataset"]["sha256"] = "00" * 32
    path.write_text(json.dumps(raw))
    result = draw_granularity.run(batch, load_study(tmp_path / "s", seed=0))
    assert result.measured.empty
    assert "also differ in teacher, images, definition or schemes" in result.findings[0]


def test_one_seed_gives_no_spread(tmp_path: Path) -> None:
    batch, sample = (one(tmp_path / d, d, {}, seeds=(0,)) for d in ("batch", "sample"))
    result = draw_granularity.run(batch, sample)
    assert result.outcome["low"].isna().all()
    assert any("one seed gives no spread, so this could be chance" in text for text in result.findings)
    assert not any("differs under" in text for text in result.findings)
    assert "one seed gives no spread" in result.figure()[1].caption()  # type: ignore[index]
