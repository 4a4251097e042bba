"""The door: a whole study comes in, everything else is refused with the name of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_study import NINE, make_study

from analyses.study import Study, load_study
from kdstats.errors import CheckError, MissingError
from kdstats.records.part import write_table

Make = Callable[..., Study]


def rewrite(root: Path, table: str, change: Callable[[pd.DataFrame], Any]) -> None:
    path = root / f"{table}.parquet"
    frame = pd.read_parquet(path)
    changed = change(frame)
    write_table(path, table, frame if changed is None else changed)


def test_a_study_is_loaded_whole(made: Make) -> None:
    study = made()
    assert study.pairs == ("resnet8/lenet8",)
    assert len(study.used) == 27
    assert tuple(study.points("resnet8/lenet8")["scheme"]) == NINE
    assert study.complete
    assert set(study.measured("resnet8/lenet8")) == set(NINE)


def test_the_scheme_that_needs_a_student_is_known_as_such(made: Make) -> None:
    measured = made().measured("resnet8/lenet8")
    assert measured["cutmix_pick_student"].student == "lenet8"
    assert measured["cutmix"].student is None
    assert measured["identity"].student is None  # it is in both documents: the teacher's own comes first


def test_a_students_measurement_is_not_lent_to_another_pair(made: Make) -> None:
    study = made(pairs=("resnet8/lenet8", "resnet8/wrn_16_1"))
    assert study.measured("resnet8/wrn_16_1")["cutmix_pick_student"].student == "wrn_16_1"


@pytest.mark.parametrize("name", ["study.json", "runs.parquet", "study.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    root = make_study(tmp_path / "s", curves=False)
    (root / name).unlink()
    with pytest.raises(MissingError, match=name) as caught:
        load_study(root, seed=0)
    assert caught.value.exit_code == 4


def test_no_folder_and_no_study(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        load_study(tmp_path / "absent", seed=0)
    with pytest.raises(MissingError, match=r"study\.json, runs\.parquet, study\.parquet missing"):
        load_study(tmp_path, seed=0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not a readable study card"),
        ("[]", "holds no JSON object"),
        ('{"schema": "other/1"}', "other/1"),
        ('{"schema": "kdstats/study-card/1"}', "name, dataset, pairs"),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, text: str, match: str) -> None:
    root = make_study(tmp_path / "s", curves=False)
    (root / "study.json").write_text(text)
    with pytest.raises(MissingError, match=match):
        load_study(root, seed=0)


def test_another_selection_is_refused(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False, selection="best epoch")
    with pytest.raises(CheckError, match="best epoch"):
        load_study(root, seed=0)


def test_last_and_best_are_never_mixed(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)

    def best_for_one(frame: pd.DataFrame) -> None:
        frame.loc[frame["scheme"] == "cutmix", "test_loss"] = frame["test_loss_best"]

    rewrite(root, "study", best_for_one)
    with pytest.raises(CheckError, match="cutmix is that of the best epoch"):
        load_study(root, seed=0)


def test_tables_that_contradict_each_other(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)
    rewrite(root, "study", lambda f: f.assign(test_loss=f["test_loss"] * 1.01))
    with pytest.raises(CheckError, match=r"the mean over runs\.parquet"):
        load_study(root, seed=0)


def test_a_run_counted_twice(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)
    rewrite(root, "runs", lambda f: pd.concat([f, f.iloc[[4]]]))
    with pytest.raises(CheckError, match="counts a run twice"):
        load_study(root, seed=0)


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False)

    def burst(frame: pd.DataFrame) -> None:
        frame.loc[3, "test_loss_last"] = np.inf

    rewrite(root, "runs", burst)
    with pytest.raises(CheckError, match="not finite"):
        load_study(root, seed=0)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("definition", {"batch_size": 128}, "batch_size 64 and 128"),
        ("teacher", {"sha256": "00" * 32}, "sha256"),
    ],
)
def test_unlike_measurements_are_refused(tmp_path: Path, key: str, value: dict[str, Any], match: str) -> None:
    root = make_study(tmp_path / "s", curves=False)
    path = root / "t_stddev" / "resnet8" / "with-lenet8.json"
    document = json.loads(path.read_text())
    document[key] |= value
    path.write_text(json.dumps(document))
    with pytest.raises(CheckError, match=match):
        load_study(root, seed=0)


def test_missing_failed_and_excluded_runs_are_told_apart(made: Make) -> None:
    study = made(missing=(("flip", 1),), failed=(("mixup", 2),), excluded=(("cutout", 0),))
    assert study.missing.to_dict("records") == [{"pair": "resnet8/lenet8", "scheme": "flip", "seed": 1}]
    assert [(run.scheme, run.seed) for run in study.card.failed] == [("mixup", 2)]
    assert len(study.used) == 24
    assert not study.complete
