"""The ten published panels, against every number printed in the figures' titles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kdstats.association.correlate import correlate
from kdstats.association.worth import published_regret, published_sentence
from kdstats.errors import UsageError
from kdstats.published import load_published, published_names


@pytest.fixture(scope="module")
def study():
    return load_published("wang2022")


def correlations(points: pd.DataFrame) -> pd.DataFrame:
    return correlate(points, x="t_stddev", y="test_loss", group="panel", permutations=9)


def test_every_printed_number_is_reproduced(study):
    results = correlations(study.points)
    assert len(results) == 30
    assert study.unreproduced(results) == []


@pytest.mark.parametrize(
    ("row", "column", "step"),
    # 108 of the 180 values are this visible; the others move every coefficient by less than its last digit.
    [(0, "test_loss", 1e-4), (0, "t_stddev", 1e-6), (45, "test_loss", 1e-4), (89, "test_loss", 1e-4)],
)
def test_the_comparison_sees_one_unit_in_the_last_digit(study, row, column, step):
    points = study.points.copy()
    points.loc[row, column] += step
    wrong = study.unreproduced(correlations(points))
    assert wrong
    assert all(sentence.startswith(points.loc[row, "panel"]) for sentence in wrong)


def test_breaking_a_tie_changes_a_printed_rank_coefficient(study):
    points = study.points.copy()
    tied = points[
        (points["panel"] == "imagenet resnet34/resnet18") & (points["scheme"] == "cutmix_pick_teacher")
    ]
    points.loc[tied.index, "t_stddev"] += 1e-6
    wrong = study.unreproduced(correlations(points))
    assert any("spearman coefficient" in sentence for sentence in wrong)
    assert any("kendall" in sentence for sentence in wrong)


def test_a_missing_panel_is_not_reproduced(study):
    results = correlations(study.points[study.points["dataset"] != "imagenet"])
    assert len(study.unreproduced(results)) == 6


def test_tables_are_whole(study):
    assert list(study.points.columns) == [
        "panel",
        "dataset",
        "teacher",
        "student",
        "scheme",
        "t_stddev",
        "test_loss",
        "test_loss_std",
    ]
    assert (study.points.groupby("panel").size() == 9).all()
    assert study.points["panel"].nunique() == len(study.titles) == 10
    missing = study.points.loc[study.points["test_loss_std"].isna(), "dataset"]
    assert set(missing) == {"imagenet"}
    assert len(missing) == 9
    teachers = study.accuracy[study.accuracy["method"] == "Teacher"].set_index("panel")["top1"]
    assert teachers["cifar100 wrn_40_2/wrn_16_2"] == 75.61
    assert study.panel("cifar100 vgg13/vgg8")["scheme"].is_unique


def test_names(study):
    assert study.names(short=True)["imagenet resnet34/resnet18"] == "ImageNet"
    assert study.names(short=True)["cifar100 vgg13/vgg8"] == "CIFAR-100 vgg13/vgg8"
    assert study.names()["imagenet resnet34/resnet18"] == "ImageNet resnet34/resnet18"


def test_unknown_names_are_answered_with_the_near_ones(study):
    with pytest.raises(UsageError, match="'wang2022'"):
        load_published("wang2021")
    with pytest.raises(UsageError, match="cifar100 vgg13/vgg8"):
        study.panel("cifar100 vgg13/vgg")
    assert published_names() == ("wang2022",)


def test_what_the_choice_has_been_worth():
    result = published_regret(rng=np.random.default_rng(0))
    assert (result.hits, result.k) == (9, 10)
    missed = [panel for panel in result.panels if not panel.hit]
    assert [panel.panel for panel in missed] == ["imagenet resnet34/resnet18"]
    assert missed[0].chosen == ("cutmix_pick_student", "cutmix_pick_teacher")
    assert missed[0].best == ("cutmix",)
    assert missed[0].low == pytest.approx(1.1955 - 1.1809, abs=1e-12)
    assert missed[0].high == pytest.approx(1.2049 - 1.1809, abs=1e-12)
    assert published_sentence(result) == (
        "lowest T. stddev was the best scheme in 9 of 10 published panels; "
        "on ImageNet it cost 0.015–0.024 nats"
    )
