"""A study of a stranger: its documents and tables end in a study or in a refusal that names the file."""

from __future__ import annotations

import copy
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from strangers import Change, copy_of, mutate, outcome, put, rewrite
from synthetic_study import make_study

from analyses.study import load_study
from kdstats.errors import CheckError, KdstatsError, MissingError, UsageError
from kdstats.records.part import write_table

ARM = {"a": {"pairs": ["resnet8/lenet8"], "schemes": ["flip"], "seeds": [0], "kd": 3}}
CARDS = [
    (put("seeds", value=[None]), MissingError, r"seeds\.0"),
    (put("seeds", value=["x"]), MissingError, r"seeds\.0"),
    (put("seeds", value=[math.inf]), MissingError, r"seeds\.0"),
    (put("seeds", value=[]), MissingError, "seeds"),
    (put("pairs", value=["a [x/b"]), MissingError, "not teacher/student"),
    (put("pairs", value=["a/"]), MissingError, "not teacher/student"),
    (put("runs", "failed", value=None), MissingError, r"runs\.failed"),
    (put("runs", "failed", value=["x"]), MissingError, r"runs\.failed\.0"),
    (put("runs", "failed", value=[{"seed": "x"}]), MissingError, r"runs\.failed\.0\.seed"),
    (put("variants", value=[1]), MissingError, "variants"),
    (put("variants", value=ARM), MissingError, r"variants\.a\.kd"),
    (put("teachers", value={"resnet8": "x"}), MissingError, r"teachers\.resnet8"),
    (put("teachers", value={"../../x": {}}), MissingError, r"study\.json: teacher '../../x'"),
    (put("teachers", "resnet8", "test_accuracy", value="x"), MissingError, "test_accuracy"),
    (put("teachers", "resnet8", "test_accuracy", value=1.5), CheckError, "test_accuracy"),
    (put("teachers", "resnet8", "test_loss", value=math.inf), CheckError, "test_loss"),
    (put("dataset", "test", value="y"), MissingError, r"dataset\.test"),
    (put("runs", "planned", value=-5), CheckError, r"runs\.planned"),
    (put("runs", "done", value=10**4000), CheckError, r"runs\.done"),
    (put("runs", "done", value=10**4), CheckError, "10,000 of 12 runs"),
    (put("name", value="x\ud800y"), MissingError, "half a character"),
    (put("provenance", "command", value="\udfff"), MissingError, "half a character"),
    (put("recipe", "x", value=[[[[1]]]]), MissingError, r"recipe\.x"),
    (
        lambda c: c.update(seeds=[*range(20_000)], schemes=[f"s{i}" for i in range(2_000)]),
        CheckError,
        "40,000,",
    ),
]


@pytest.mark.parametrize(("change", "error", "match"), CARDS)
def test_a_card_that_cannot_be_is_refused(
    plain: Path, tmp_path: Path, change: Change, error: type[KdstatsError], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    rewrite(root / "study.json", change)
    with pytest.raises(error, match=match) as caught:
        load_study(root, seed=0)
    assert "study.json" in str(caught.value)


def row(**values: Any) -> Change:
    return lambda document: [found.update(values) for found in document["results"]]


DOCUMENTS = [
    (put("results", value=[1]), MissingError, r"results\.0"),
    (put("results", value="abc"), MissingError, "results"),
    (put("comparisons", value=None), MissingError, "comparisons"),
    (put("comparisons", 0, "low", value=None), MissingError, r"comparisons\.0\.low"),
    (put("student", value="x"), MissingError, "student"),
    (put("definition", value=[1]), MissingError, "definition"),
    (put("definition", "x", value={"a": ["<b>"]}), MissingError, r"definition\.x"),
    (put("teacher", "sha256", value=5), MissingError, r"teacher\.sha256"),
    (put("provenance", value="x"), MissingError, "provenance"),
    (row(components=None), MissingError, "components"),
    (row(t_stddev="x"), MissingError, "t_stddev"),
    (row(t_stddev=math.inf), CheckError, "t_stddev"),
    (row(t_stddev=-1.0), CheckError, "t_stddev"),
    (row(rivals=None), MissingError, "rivals"),
]


@pytest.mark.parametrize(("change", "error", "match"), DOCUMENTS)
def test_a_measurement_that_cannot_be_is_refused(
    plain: Path, tmp_path: Path, change: Change, error: type[KdstatsError], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    rewrite(root / "t_stddev" / "resnet8" / "teacher-only.json", change)
    with pytest.raises(error, match=rf"teacher-only\.json.*{match}"):
        load_study(root, seed=0)


TABLES = [
    ("study", {"t_stddev": math.inf}, "t_stddev is inf"),
    ("study", {"t_stddev": -1.0}, "t_stddev is -1"),
    ("study", {"t_stddev_high": math.inf}, "t_stddev_high"),
    ("study", {"acc": 1.5}, "acc is 1.5"),
    ("study", {"mean_covariance": -math.inf}, "mean_covariance"),
    ("runs", {"acc_last": 1e308}, r"acc_last is 1e\+308"),
    ("runs", {"acc_best": -0.1}, "acc_best"),
    ("runs", {"test_loss_best": 1e308}, "test_loss_best"),
    ("runs", {"epochs": 2**30}, "epochs"),
]


@pytest.mark.parametrize(("table", "values", "match"), TABLES)
def test_numbers_that_no_measurement_gives_are_refused(
    plain: Path, tmp_path: Path, table: str, values: dict[str, Any], match: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    path = root / f"{table}.parquet"
    write_table(path, table, pd.read_parquet(path).assign(**values))
    with pytest.raises(CheckError, match=rf"{table}\.parquet: {match}"):
        load_study(root, seed=0)


def test_numbers_of_an_excluded_run_may_be_anything(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", excluded=(("flip", 0),), curves=False)
    frame = pd.read_parquet(root / "runs.parquet")
    frame.loc[frame["excluded"], ["test_loss_last", "test_loss_best"]] = math.inf
    write_table(root / "runs.parquet", "runs", frame)
    assert len(load_study(root, seed=0).used) == 26


@pytest.mark.parametrize("name", ["t_stddev/resnet8/x.json", "study.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "folder"])
def test_what_is_no_small_file_is_neither_waited_for_nor_read(
    plain: Path, tmp_path: Path, name: str, kind: str
) -> None:
    root = copy_of(plain, tmp_path / "s")
    path = root / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 20 << 30)
    with pytest.raises(MissingError, match=path.name):
        load_study(root, seed=0)


def test_a_name_that_is_not_utf_8_is_no_damage(plain: Path, tmp_path: Path) -> None:
    root = copy_of(plain, Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff")))
    with pytest.raises(UsageError, match="not UTF-8"):
        load_study(root, seed=0)


# Anything else


@pytest.mark.parametrize("name", ["study.json", "t_stddev/resnet8/teacher-only.json"])
def test_any_change_of_a_document_gives_a_study_or_a_refusal(plain: Path, tmp_path: Path, name: str) -> None:
    root, draw, refused = copy_of(plain, tmp_path / "s"), random.Random(7), 0
    whole = json.loads((root / name).read_text())

    def load() -> None:
        study = load_study(root, seed=0)
        assert isinstance(study.complete, bool)
        assert study.pairs
        study.measured(study.pairs[0])

    for _ in range(100):
        document = copy.deepcopy(whole)
        mutate(document, draw)
        (root / name).write_text(json.dumps(document))
        refused += outcome(load)
    assert 20 < refused < 100


def test_any_change_of_a_table_s_types_gives_a_study_or_a_refusal(plain: Path, tmp_path: Path) -> None:
    draw, refused = random.Random(9), 0
    for at in range(40):
        root = copy_of(plain, tmp_path / str(at))
        path = root / draw.choice(["runs.parquet", "study.parquet"])
        table = pq.read_table(path)
        name = draw.choice(table.column_names)
        n = len(table)
        other = draw.choice(
            [
                pa.array(["False"] * n), pa.array([[1]] * n), pa.array([{"a": 1}] * n), pa.nulls(n),
                pa.array([math.inf] * n), pa.array([2**62] * n), pa.array([True] * n), pa.array([b"\xff"] * n),
                pa.array(["x"] * n).dictionary_encode(), pa.array([10**9] * n, pa.timestamp("s")),
            ]
        )  # fmt: skip
        changed = table.set_column(table.column_names.index(name), name, other)
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
        refused += outcome(lambda root=root: load_study(root, seed=0))  # type: ignore[misc]
    assert refused > 10
